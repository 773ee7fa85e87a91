"""What a customer has of credits and how it came to that: balance, transactions, statement."""

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.instants import read_range
from nozle_server.api.ledger_forms import read_system, transaction_json
from nozle_server.api.paging import Limit, from_cursor, to_cursor
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, NUMBER, STRING, array, optional, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.text import parse_id
from nozle_server.credits.history_store import EntryFilter, Movement
from nozle_server.credits.model import EntryType
from nozle_server.credits.queries import get_balance, get_statement, list_transactions
from nozle_server.customers.queries import get_customer


class BalanceQuery(msgspec.Struct):
    """Which credit system; the default one, when none is named."""

    credit_system: str | None = None


class TransactionsQuery(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """`from` and `to` are dates, both included, or instants, the second excluded."""

    limit: Limit = 50
    cursor: str | None = None
    type: str | None = None
    feature: str | None = None
    entity_id: str | None = None
    hold_id: str | None = None
    start: str | None = None
    end: str | None = None
    credit_system: str | None = None
    draws: bool = False


class StatementQuery(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """`from` and `to` as of transactions; without them from the beginning, until now."""

    start: str | None = None
    end: str | None = None
    credit_system: str | None = None


async def balance(call: Call) -> object:
    system = await read_system(call, call.query.credit_system)
    found = await get_balance(
        call.tx, org_id=call.org_id, customer=call.path["id"], now=call.now, credit_system=system
    )
    return {
        "customer_id": call.path["id"],
        "credit_system": system,
        "balance": found.available,
        "shared_credits": found.shared,
        "held_credits": found.held,
        "receivable_credits": found.receivable,
        "granted_credits": found.granted,
        "consumed_credits": found.consumed,
        "expired_credits": found.expired,
        "voided_credits": found.voided,
        "refunded_credits": found.refunded,
        "adjusted_credits": found.adjusted,
        "transferred_credits": found.transferred,
        "wallet_id": to_text("wallet", found.account_id) if found.account_id else None,
        "as_of": found.as_of,
    }


async def transactions(call: Call) -> object:
    query: TransactionsQuery = call.query
    start, end = read_range(query.start, query.end)
    wanted = EntryFilter(
        type=_type(query.type),
        feature=query.feature,
        entity=None if query.entity_id is None else parse_id(query.entity_id, "entity_id"),
        hold_id=None if query.hold_id is None else from_text("hold", query.hold_id, what="hold"),
        start=start,
        end=end,
    )
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    entries, following = await list_transactions(
        call.tx,
        org_id=call.org_id,
        customer_id=customer.id,
        credit_system=await read_system(call, call.query.credit_system),
        wanted=wanted,
        before=from_cursor(query.cursor),
        limit=query.limit,
        draws=query.draws,
    )
    return {
        "transactions": [transaction_json(one, draws=query.draws) for one in entries],
        "next_cursor": None if following is None else to_cursor(following),
    }


async def statement(call: Call) -> object:
    query: StatementQuery = call.query
    start, end = read_range(query.start, query.end)
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    system = await read_system(call, call.query.credit_system)
    found = await get_statement(
        call.tx, org_id=call.org_id, customer_id=customer.id, credit_system=system, start=start, end=end
    )
    return {
        "customer_id": customer.external_id,
        "credit_system": system,
        "from": start,
        "to": end,
        "opening_balance": found.opening,
        "closing_balance": found.closing,
        "by_type": [_movement_json("type", one) for one in found.by_type],
        "by_feature": [_movement_json("feature", one) for one in found.by_feature],
        "by_entity": [_movement_json("entity_id", one) for one in found.by_entity],
        "by_source": [_movement_json("source", one) for one in found.by_source],
    }


def _type(text: str | None) -> EntryType | None:
    try:
        return None if text is None else EntryType(text)
    except ValueError:
        raise InvalidInput(
            f"type must be one of {', '.join(EntryType)}", details={"type": ["value_is_invalid"]}
        ) from None


def _movement_json(what: str, moved: Movement) -> dict[str, object]:
    return {what: moved.name, "amount": moved.amount, "transactions": moved.entries}


_CREDITS = CustomerData("path", "id", "credits:read")

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/credits/{id}/balance",
        handler=balance,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="Get a customer's credit balance",
        description=(
            "`balance` is what can be spent, by the customer and its entities together; `shared_credits` of it are the"
            " customer's own. What is held is not in it; what was settled beyond it waits in `receivable_credits` for a"
            " grant to pay it."
        ),
        tag="Credits",
        query=BalanceQuery,
        reply_schema=shape(
            customer_id=STRING,
            credit_system=STRING,
            balance=NUMBER,
            shared_credits=NUMBER,
            held_credits=NUMBER,
            receivable_credits=NUMBER,
            consumed_credits=NUMBER,
            wallet_id=optional(STRING),
            as_of=INSTANT,
        ),
        errors=(404,),
        customer_data=_CREDITS,
        snapshot=True,
        example=Example(
            response={
                "customer_id": "cust_123",
                "credit_system": "credits",
                "balance": 85,
                "shared_credits": 85,
                "held_credits": 10,
                "receivable_credits": 0,
                "granted_credits": 100,
                "consumed_credits": 5,
                "expired_credits": 0,
                "voided_credits": 0,
                "refunded_credits": 0,
                "adjusted_credits": 0,
                "transferred_credits": 0,
                "wallet_id": "wallet_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                "as_of": "2026-01-15T10:30:00Z",
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/transactions",
        handler=transactions,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List a customer's credit transactions",
        description=(
            "Newest first. `type` is grant, deduct, expire, void, hold, release, refund, adjustment or transfer;"
            " `amount` is positive for all of them, and `direction` says which way it went. With `draws=true` each tells"
            " which grants it filled (positive) or drew on."
        ),
        tag="Credits",
        query=TransactionsQuery,
        reply_schema=shape(transactions=array(ANY_OBJECT), next_cursor=optional(STRING)),
        errors=(404,),
        customer_data=_CREDITS,
        snapshot=True,
        example=Example(
            response={
                "transactions": [
                    {
                        "id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                        "type": "deduct",
                        "direction": "out",
                        "amount": 5,
                        "balance_after": 95,
                        "feature": "code_completion",
                        "description": "code_completion",
                        "entity_id": "agent-7",
                        "hold_id": None,
                        "refunds_transaction_id": None,
                        "sequence": 2,
                        "createdAt": "2026-01-15T10:30:00Z",
                        "created_at": "2026-01-15T10:30:00Z",
                    }
                ],
                "next_cursor": None,
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/statement",
        handler=statement,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="Get a customer's credit statement",
        description=(
            "Of a period: the opening balance, the signed sums of what moved, and the closing balance, which is their sum"
            " to the last digit. `by_type` has all movements; `by_feature` and `by_entity` what was used, less refunds;"
            " `by_source` the same movements by where the credits came from."
        ),
        tag="Credits",
        query=StatementQuery,
        reply_schema=shape(
            customer_id=STRING,
            credit_system=STRING,
            opening_balance=NUMBER,
            closing_balance=NUMBER,
            by_type=array(ANY_OBJECT),
            by_feature=array(ANY_OBJECT),
            by_entity=array(ANY_OBJECT),
            by_source=array(ANY_OBJECT),
        ),
        errors=(404,),
        customer_data=_CREDITS,
        snapshot=True,
        example=Example(
            response={
                "customer_id": "cust_123",
                "credit_system": "credits",
                "from": "2026-01-01T00:00:00Z",
                "to": "2026-02-01T00:00:00Z",
                "opening_balance": 0,
                "closing_balance": 95,
                "by_type": [
                    {"type": "deduct", "amount": -5, "transactions": 1},
                    {"type": "grant", "amount": 100, "transactions": 1},
                ],
                "by_feature": [{"feature": "code_completion", "amount": -5, "transactions": 1}],
                "by_entity": [{"entity_id": None, "amount": -5, "transactions": 1}],
                "by_source": [{"source": "manual", "amount": 95, "transactions": 2}],
            }
        ),
    ),
)
