"""What the ledger's endpoints share: which credit system is meant, and how entries and grants go out."""

from decimal import Decimal

from nozle_server.api.deciding import parse_code
from nozle_server.api.endpoint import Call
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, INTEGER, NUMBER, STRING, array, optional, shape
from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.catalog.queries import get_credit_system
from nozle_server.core.ids import to_text
from nozle_server.credits.history_store import ShownEntry
from nozle_server.credits.model import Grant


async def read_system(call: Call, named: str | None) -> str:
    """The code of the credit system that is named, or of the default one. NotFound `credit_system_not_found`."""
    code = parse_code(named)
    if code is None:
        return DEFAULT_CREDIT_SYSTEM
    return (await get_credit_system(call.tx, call.org_id, code)).code


def transaction_json(shown: ShownEntry, *, draws: bool = False) -> dict[str, object]:
    """`amount` is positive; `direction` tells which way it went."""
    entry = shown.entry
    told: dict[str, object] = {
        "id": to_text("txn", entry.id),
        "type": entry.type,
        "direction": "in" if entry.amount > 0 else "out",
        "amount": entry.amount.copy_abs(),
        "balance_after": entry.balance_after,
        "feature": entry.feature,
        "description": entry.description or entry.feature,
        "entity_id": shown.entity,
        "hold_id": None if entry.hold_id is None else to_text("hold", entry.hold_id),
        "refunds_transaction_id": None if entry.refunds_id is None else to_text("txn", entry.refunds_id),
        "sequence": entry.sequence,
        "createdAt": entry.occurred_at,
        "created_at": entry.occurred_at,
    }
    if draws:
        told["draws"] = [
            {"grant_id": to_text("grant", draw.grant_id), "amount": draw.amount} for draw in shown.draws
        ]
    return told


def grant_json(grant: Grant, *, customer: str, entity: str | None, credit_system: str) -> dict[str, object]:
    return {
        "id": to_text("grant", grant.id),
        "customer_id": customer,
        "entity_id": entity,
        "credit_system": credit_system,
        "amount": grant.amount,
        "remaining": grant.remaining,
        "priority": grant.priority,
        "source": grant.source,
        "reference": grant.reference,
        "description": grant.description,
        "expires_at": grant.expires_at,
        "created_at": grant.created_at,
    }


GRANT = shape(
    id=STRING,
    customer_id=STRING,
    entity_id=optional(STRING),
    credit_system=STRING,
    amount=NUMBER,
    remaining=NUMBER,
    priority=INTEGER,
    source=STRING,
    reference=optional(STRING),
    description=optional(STRING),
    expires_at=optional(INSTANT),
    created_at=INSTANT,
)
TRANSACTION = shape(
    id=STRING,
    type=STRING,
    direction=STRING,
    amount=NUMBER,
    balance_after=NUMBER,
    feature=optional(STRING),
    description=optional(STRING),
    entity_id=optional(STRING),
    hold_id=optional(STRING),
    refunds_transaction_id=optional(STRING),
    sequence=INTEGER,
    created_at=INSTANT,
    draws=array(ANY_OBJECT),
    balance=NUMBER,
)
"""As an answer to what made it: with the grants that it filled or drew on, and the balance after all that came of it."""

EXAMPLE_GRANT: dict[str, object] = {
    "id": "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "customer_id": "cust_123",
    "entity_id": None,
    "credit_system": "credits",
    "amount": 100,
    "remaining": 100,
    "priority": 50,
    "source": "manual",
    "reference": None,
    "description": "Welcome",
    "expires_at": "2027-01-01T00:00:00Z",
    "created_at": "2026-01-15T10:30:00Z",
}


def example_transaction(kind: str, amount: int, balance: int, **more: object) -> dict[str, object]:
    """An example of an entry that moved a signed `amount`."""
    return {
        "id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0f",
        "type": kind,
        "direction": "in" if amount > 0 else "out",
        "amount": Decimal(abs(amount)),
        "balance_after": Decimal(balance),
        "feature": None,
        "description": None,
        "entity_id": None,
        "hold_id": None,
        "refunds_transaction_id": None,
        "sequence": 3,
        "createdAt": "2026-01-15T10:30:00Z",
        "created_at": "2026-01-15T10:30:00Z",
        **more,
        "draws": [{"grant_id": "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e", "amount": Decimal(amount)}],
        "balance": Decimal(balance),
    }
