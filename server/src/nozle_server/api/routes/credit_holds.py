"""Holds: credits set aside for work under way, and taken by what it came to (contract Decision 15)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec

from nozle_server.api.deciding import decide_together, parse_code, refusal_json
from nozle_server.api.endpoint import SEED, Amount, Call, CustomerData, Endpoint, Example, Reply, Scope
from nozle_server.api.paging import Limit, from_id_cursor, to_id_cursor
from nozle_server.api.shapes import BOOLEAN, INSTANT, NUMBER, STRING, array, optional, shape
from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core.errors import Conflict, Unavailable
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id
from nozle_server.credits import holding
from nozle_server.credits.book import Book
from nozle_server.credits.holding import HoldEnded, Holding, Settling
from nozle_server.credits.model import ZERO, Held, HoldRecord, HoldStatus, Refusal, Settlement
from nozle_server.credits.queries import get_hold, list_holds
from nozle_server.credits.spending import Spending
from nozle_server.customers.queries import get_customer
from nozle_server.identity.queries import get_time

LONGEST_S = 7 * 24 * 3600


class HoldBody(msgspec.Struct):
    """`amount` is positive; `expires_in` seconds, at most a week; `feature` a label of the caller's."""

    amount: Amount
    feature: str
    expires_in: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_S)]
    entity_id: str | None = None
    credit_system: str | None = None


class SettleBody(msgspec.Struct):
    """`amount` is what the work came to, 0 or more; `uncovered_limit` how much of it may exceed hold and balance."""

    amount: Amount
    uncovered_limit: Amount | None = None


class HoldsQuery(msgspec.Struct):
    status: HoldStatus | None = None
    credit_system: str | None = None
    limit: Limit = 50
    cursor: str | None = None


async def create(call: Call) -> object:
    body: HoldBody = call.body
    spending = Spending(
        amount=parse_amount(Decimal(body.amount), "amount", minimum=ZERO, exclusive=True),
        feature=parse_id(body.feature, "feature"),
        entity=None if body.entity_id is None else parse_id(body.entity_id, "entity_id"),
    )
    lasts = timedelta(seconds=body.expires_in)

    def decide(book: Book | None, now: datetime) -> Held:
        if book is None:
            return Held(None, ZERO, Refusal.INSUFFICIENT_CREDITS)
        return holding.hold(book, Holding(spending, now + lasts), now)

    return await decide_together(
        call,
        customer=parse_id(call.path["id"], "customer_id"),
        decide=decide,
        to_json=_held_json,
        feature=spending.feature,
        entity=spending.entity,
        credit_system=parse_code(body.credit_system),
    )


async def settle(call: Call) -> object:
    body: SettleBody = call.body
    limit = ZERO if body.uncovered_limit is None else Decimal(body.uncovered_limit)
    asked = Settling(
        hold_id=_hold_id(call),
        amount=parse_amount(Decimal(body.amount), "amount", minimum=ZERO),
        uncovered_limit=parse_amount(limit, "uncovered_limit", minimum=ZERO),
    )
    return await _end(call, asked.hold_id, lambda book, now: holding.settle(book, asked, now), _settled_json)


async def release(call: Call) -> object:
    hold_id = _hold_id(call)
    return await _end(call, hold_id, lambda book, now: holding.release(book, hold_id, now), _released_json)


async def _end(
    call: Call,
    hold_id: UUID,
    decide: Callable[[Book, datetime], Settlement],
    to_json: Callable[[Settlement], object],
) -> Reply:
    """End a hold, whichever account it is of: the default system's is tried first, as that needs no look."""
    customer = parse_id(call.path["id"], "customer_id")

    def decided(book: Book | None, now: datetime) -> Settlement:
        if book is None:
            raise HoldEnded("the hold is no longer open")
        return decide(book, now)

    async def try_in(credit_system: str) -> Reply:
        return await decide_together(
            call, customer=customer, decide=decided, to_json=to_json, credit_system=credit_system
        )

    try:
        return await try_in(DEFAULT_CREDIT_SYSTEM)
    except HoldEnded:
        found = await _look(call, customer, hold_id)
    if found.status is HoldStatus.OPEN:
        try:
            return await try_in(found.credit_system)
        except HoldEnded:
            found = await _look(call, customer, hold_id)
    if found.status is HoldStatus.OPEN:
        raise Unavailable("the hold has just changed, try again")
    raise Conflict(f"the hold has ended: it is {found.status}", code="hold_ended")


async def _look(call: Call, customer: str, hold_id: UUID) -> HoldRecord:
    async with call.services.database.connection() as tx:
        now = await get_time(tx, call.org_id, call.received_at)
        found = await get_customer(tx, call.org_id, customer)
        return await get_hold(tx, org_id=call.org_id, customer_id=found.id, hold_id=hold_id, now=now)


async def index(call: Call) -> object:
    query: HoldsQuery = call.query
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    holds, following = await list_holds(
        call.tx,
        org_id=call.org_id,
        customer_id=customer.id,
        now=call.now,
        credit_system=parse_code(query.credit_system),
        status=query.status,
        before=from_id_cursor(query.cursor),
        limit=query.limit,
    )
    return {
        "holds": [_hold_json(one) for one in holds],
        "next_cursor": None if following is None else to_id_cursor(following),
    }


async def show(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    return _hold_json(
        await get_hold(
            call.tx, org_id=call.org_id, customer_id=customer.id, hold_id=_hold_id(call), now=call.now
        )
    )


def _hold_id(call: Call) -> UUID:
    return from_text("hold", call.path["hold_id"], what="hold")


def _held_json(held: Held) -> dict[str, object]:
    made = held.hold
    told: dict[str, object] = {
        "allowed": made is not None,
        "hold_id": None if made is None else to_text("hold", made.id),
        "held": ZERO if made is None else made.amount,
        "remaining": held.remaining,
        "expires_at": None if made is None else made.expires_at,
    }
    return told if made is not None else told | refusal_json(held.reason, held.budget)


def _settled_json(settled: Settlement) -> dict[str, object]:
    return {
        "settled": settled.settled,
        "uncovered": settled.uncovered,
        "remaining": settled.remaining,
    }


def _released_json(released: Settlement) -> dict[str, object]:
    return {"released": True, "remaining": released.remaining}


def _hold_json(hold: HoldRecord) -> dict[str, object]:
    return {
        "hold_id": to_text("hold", hold.id),
        "status": hold.status,
        "held": hold.amount,
        "settled": hold.settled,
        "uncovered": hold.uncovered,
        "feature": hold.feature,
        "entity_id": hold.entity,
        "credit_system": hold.credit_system,
        "created_at": hold.created_at,
        "expires_at": hold.expires_at,
        "ended_at": hold.ended_at,
    }


_ID = "hold_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e"
HOLD = shape(
    hold_id=STRING,
    status=STRING,
    held=NUMBER,
    settled=NUMBER,
    uncovered=NUMBER,
    feature=optional(STRING),
    entity_id=optional(STRING),
    credit_system=STRING,
    created_at=INSTANT,
    expires_at=INSTANT,
    ended_at=optional(INSTANT),
)
_EXAMPLE: dict[str, Any] = {
    "hold_id": _ID,
    "status": "settled",
    "held": 20,
    "settled": 12.5,
    "uncovered": 0,
    "feature": "chat",
    "entity_id": "research-agent",
    "credit_system": "credits",
    "created_at": "2026-01-15T10:30:00Z",
    "expires_at": "2026-01-15T10:40:00Z",
    "ended_at": "2026-01-15T10:31:12Z",
}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/credits/{id}/holds",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Hold credits for work under way",
        description=(
            "What is held leaves the balance at once: nothing else can spend it, and it does not expire. `settle` it with what"
            " the work came to, or `release` it; after `expires_in` seconds it is released by itself. It is allowed or"
            " refused as check-and-deduct is, budgets included; a refusal is a 200 with `allowed: false` that holds nothing."
        ),
        tag="Credits",
        body=HoldBody,
        reply_schema=shape(
            allowed=BOOLEAN,
            hold_id=optional(STRING),
            held=NUMBER,
            remaining=NUMBER,
            expires_at=optional(INSTANT),
        ),
        errors=(404,),
        idempotent=True,
        ledger=True,
        transaction=False,
        own_claims=True,
        example=Example(
            request={"amount": 20, "feature": "chat", "expires_in": 600},
            response={
                "allowed": True,
                "hold_id": _ID,
                "held": 20,
                "remaining": 80,
                "expires_at": "2026-01-15T10:40:00Z",
            },
        ),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/holds/{hold_id}/settle",
        handler=settle,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Take what the work came to",
        description=(
            "Less than was held: the rest goes back. More: it is taken of what else can be spent, and what that does not cover"
            " is owed, up to `uncovered_limit`: `uncovered` is paid first by the next grant, and the balance is never"
            " negative. `settled` is what was taken in all, with what is owed. A hold that has ended is a 409 `hold_ended`."
        ),
        tag="Credits",
        body=SettleBody,
        reply_schema=shape(settled=NUMBER, uncovered=NUMBER, remaining=NUMBER),
        errors=(404, 409),
        idempotent=True,
        ledger=True,
        transaction=False,
        own_claims=True,
        example=Example(
            request={"amount": 12.5, "uncovered_limit": 5},
            response={"settled": 12.5, "uncovered": 0, "remaining": 87.5},
        ),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/holds/{hold_id}/release",
        handler=release,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Put back what was held",
        description="A hold that has ended is a 409 `hold_ended`.",
        tag="Credits",
        reply_schema=shape(released=BOOLEAN, remaining=NUMBER),
        errors=(404, 409),
        idempotent=True,
        ledger=True,
        transaction=False,
        own_claims=True,
        example=Example(response={"released": True, "remaining": 100}),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/holds",
        handler=index,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List a customer's holds",
        description="Newest first, of every credit system. `status` is open, settled, released or expired.",
        tag="Credits",
        query=HoldsQuery,
        reply_schema=shape(holds=array(HOLD), next_cursor=optional(STRING)),
        errors=(404,),
        customer_data=CustomerData("path", "id", "credits:read"),
        snapshot=True,
        example=Example(response={"holds": [_EXAMPLE], "next_cursor": None}),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/holds/{hold_id}",
        handler=show,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="Get a hold",
        tag="Credits",
        reply_schema=HOLD,
        errors=(404,),
        customer_data=CustomerData("path", "id", "credits:read"),
        snapshot=True,
        example=Example(response=_EXAMPLE),
    ),
)
