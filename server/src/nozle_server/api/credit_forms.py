"""How product credits go out: balances, sources, operations, transfers. Amounts are decimal strings."""

from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.credit_model import CreditSystem
from nozle_server.core.ids import to_text
from nozle_server.core.numbers import to_plain
from nozle_server.credits.model import GrantSource
from nozle_server.credits.usage_model import SOURCE_OF, CreditOperation, SourceMove
from nozle_server.credits.usage_queries import Source

_FROM_PLANS = (GrantSource.PLAN, GrantSource.ROLLOVER)


def system_json(system: CreditSystem) -> dict[str, object]:
    return {
        "credit_system": system.code,
        "credit_system_id": system.id,
        "credit_system_name": system.name,
        "unit_name": system.unit_name,
    }


def scope_of(entity_id: object) -> str:
    """Whose a grant is: an entity's, or the customer's."""
    return "customer" if entity_id is None else "entity"


def source_json(source: Source) -> dict[str, object]:
    """A grant that something is left of. Only top-ups can be given to entities, and only what was given so returns."""
    grant = source.grant
    return {
        "id": to_text("grant", grant.id),
        "entity_id": source.entity,
        "parent_source_id": None if grant.parent_id is None else to_text("grant", grant.parent_id),
        "scope": scope_of(grant.entity_id),
        "transferable": grant.source is GrantSource.TOP_UP and grant.entity_id is None,
        "returnable": grant.source is GrantSource.ALLOCATION,
        "type": SOURCE_OF[grant.source],
        "reference": grant.reference,
        "subscription_id": _subscription_of(grant.source, grant.reference),
        "initial": to_plain(grant.amount),
        "remaining": to_plain(source.remaining),
        "valid_from": grant.created_at,
        "expires_at": grant.expires_at,
        "priority": grant.priority,
        "status": "active",
        "available": source.spendable,
    }


def _subscription_of(source: GrantSource, reference: str | None) -> str | None:
    """The subscription that a plan's grant came with: its reference names it."""
    if source not in _FROM_PLANS or reference is None:
        return None
    for part in reference.split(":"):
        try:
            return to_text("sub", UUID(part))
        except ValueError:
            continue
    return None


def deduction_json(move: SourceMove) -> dict[str, object]:
    """What was taken of one grant, and what is left of it."""
    return {
        "balance_source_id": to_text("grant", move.grant.id),
        "source_type": SOURCE_OF[move.grant.source],
        "source_scope": scope_of(move.grant.entity_id),
        "amount": to_plain(move.amount),
        "remaining": to_plain(move.after),
    }


def moved_json(move: SourceMove) -> dict[str, object]:
    """What a transfer did to one grant."""
    parent = move.grant.parent_id
    return {
        "source_id": to_text("grant", move.grant.id),
        "parent_source_id": None if parent is None else to_text("grant", parent),
        "source_type": SOURCE_OF[move.grant.source],
        "scope": scope_of(move.grant.entity_id),
        "amount": to_plain(move.amount),
        "before": to_plain(move.before),
        "after": to_plain(move.after),
        "expires_at": move.grant.expires_at,
        "created": move.created,
    }


def operation_json(operation: CreditOperation, systems: Mapping[str, CreditSystem]) -> dict[str, object]:
    """`feature_code` is the metric whose usage was paid, or what the caller of check-and-deduct named."""
    return {
        "id": to_text("txn", operation.id),
        "entity_id": operation.entity,
        **system_json(systems[operation.credit_system]),
        "feature_code": operation.metric_code or operation.label,
        "billable_metric_code": operation.metric_code,
        "type": operation.type,
        "status": operation.status,
        "metric_amount": _text(operation.metric_amount),
        "credit_amount": to_plain(operation.credit_amount),
        "rate_id": operation.rate_id,
        "rate_metric_amount": _text(operation.rate_metric_amount),
        "rate_credit_amount": _text(operation.rate_credit_amount),
        "reason": operation.reason,
        "description": operation.description,
        "occurred_at": operation.occurred_at,
        "source_allocations": [
            {
                "source_id": to_text("grant", one.grant_id),
                "source_entity_id": one.entity,
                "source_type": SOURCE_OF[one.source],
                "delta": to_plain(one.delta),
                "before": to_plain(one.before),
                "after": to_plain(one.after),
            }
            for one in operation.allocations
        ],
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else to_plain(amount)
