"""Budgets: how much a customer, or one of its entities, may spend within an hour, a day, a month or a run."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import SEED, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.ledger_forms import read_system
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, NUMBER, STRING, array, optional, shape
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.numbers import parse_amount
from nozle_server.core.rounding import EXACT
from nozle_server.core.text import parse_id
from nozle_server.credits.book import Book
from nozle_server.credits.budgets import ALWAYS, Usage
from nozle_server.credits.model import ZERO, Budget, BudgetInterval
from nozle_server.credits.operations.budgets import open_for_budgets, remove_budget, set_budget
from nozle_server.credits.queries import find_book
from nozle_server.customers.queries import lock_customer
from nozle_server.entities.queries import get_entity


class BudgetQuery(msgspec.Struct):
    """Which credit system; the default one, when none is named."""

    credit_system: str | None = None


class BudgetBody(msgspec.Struct):
    """At most `limit` credits within each window; 0 stops all spending."""

    limit: Amount
    credit_system: str | None = None


async def list_budgets(call: Call) -> object:
    entity = _entity(call)
    system = await read_system(call, call.query.credit_system)
    book = await find_book(
        call.tx,
        org_id=call.org_id,
        customer=call.path["customer_id"],
        now=call.now,
        credit_system=system,
        entities=() if entity is None else (entity,),
    )
    found: list[object] = []
    if book is not None:
        level = book.level(entity)
        of = book.usage.of(None if level is None else level.id)
        found = [_budget_json(call, book.account.credit_system, one, book.usage) for one in of]
    elif entity is not None:
        await _locked_entity(call)  # says that there is none
    return {"customer_id": call.path["customer_id"], "entity_id": entity, "budgets": found}


async def put_budget(call: Call) -> object:
    body: BudgetBody = call.body
    limit = parse_amount(Decimal(body.limit), "limit", minimum=ZERO)
    interval = _interval(call)
    book, entity_id = await _locked(call, await read_system(call, body.credit_system))
    budget, usage = await set_budget(
        call.tx, book, entity_id=entity_id, interval=interval, limit=limit, now=call.now
    )
    return _budget_json(call, book.account.credit_system, budget, usage)


async def delete_budget(call: Call) -> object:
    book, entity_id = await _locked(call, await read_system(call, call.query.credit_system))
    removed = await remove_budget(call.tx, book, entity_id=entity_id, interval=_interval(call))
    return _budget_json(call, book.account.credit_system, removed, book.usage)


async def _locked(call: Call, system: str) -> tuple[Book, UUID | None]:
    customer_id, entity_id = await _locked_entity(call)
    book = await open_for_budgets(
        call.tx,
        org_id=call.org_id,
        customer_id=customer_id,
        credit_system=system,
        entity=_entity(call),
        now=call.now,
    )
    return book, entity_id


async def _locked_entity(call: Call) -> tuple[UUID, UUID | None]:
    """The customer, locked, so that nothing becomes of the entity meanwhile; and the entity, where the path names one."""
    customer = await lock_customer(call.tx, call.org_id, call.path["customer_id"])
    name = _entity(call)
    if name is None:
        return customer.id, None
    entity = await get_entity(call.tx, call.org_id, customer.id, name)
    if entity.deleted_at is not None:
        raise NotFound("entity not found", code="entity_not_found")
    return customer.id, entity.id


def _entity(call: Call) -> str | None:
    return parse_id(call.path["entity_id"], "entity_id") if "entity_id" in call.path else None


def _interval(call: Call) -> BudgetInterval:
    try:
        return BudgetInterval(call.path["interval"])
    except ValueError:
        raise InvalidInput(
            "interval must be run, hour, day or month", details={"interval": ["value_is_invalid"]}
        ) from None


def _budget_json(call: Call, system: str, budget: Budget, usage: Usage) -> dict[str, object]:
    used = usage.used(budget, call.now)
    start, end = usage.window(budget, call.now)
    shown_start: datetime | None = None if start == ALWAYS else start
    return {
        "customer_id": call.path["customer_id"],
        "entity_id": _entity(call),
        "credit_system": system,
        "interval": budget.interval,
        "limit": budget.limit,
        "used": used,
        "remaining": max(ZERO, EXACT.subtract(budget.limit, used)),
        "period_start": shown_start,
        "period_end": end,
    }


_SHAPE = shape(
    customer_id=STRING,
    entity_id=optional(STRING),
    credit_system=STRING,
    interval=STRING,
    limit=NUMBER,
    used=NUMBER,
    remaining=NUMBER,
    period_start=optional(INSTANT),
    period_end=optional(INSTANT),
)


def _example(entity: str | None) -> dict[str, object]:
    return {
        "customer_id": "cust_123",
        "entity_id": entity,
        "credit_system": "credits",
        "interval": "day",
        "limit": 100,
        "used": 12.5,
        "remaining": 87.5,
        "period_start": "2026-01-15T00:00:00Z",
        "period_end": "2026-01-16T00:00:00Z",
    }


def _endpoints(path: str, whose: str, entity: str | None) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="GET",
            path=f"{path}/budgets",
            handler=list_budgets,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"List the budgets of {whose}",
            tag="Credits",
            query=BudgetQuery,
            reply_schema=shape(customer_id=STRING, entity_id=optional(STRING), budgets=array(ANY_OBJECT)),
            errors=(404,),
            example=Example(
                response={"customer_id": "cust_123", "entity_id": entity, "budgets": [_example(entity)]}
            ),
        ),
        Endpoint(
            method="PUT",
            path=f"{path}/budgets/{{interval}}",
            handler=put_budget,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"Set a budget of {whose}",
            description=(
                "`interval` is hour, day, month (by the customer's clock) or run (in all). What is deducted and held"
                " counts, at every level from the entity up to its customer, and all of them are checked by one deduct;"
                " what was spent in the current window before the budget was set counts too. A settlement above what was"
                " held may exceed a budget; refunds do not give it back."
            ),
            tag="Credits",
            body=BudgetBody,
            reply_schema=_SHAPE,
            errors=(404,),
            idempotent=True,
            one_at_a_time=(("path", "customer_id"),),
            example=Example(request={"limit": 100}, response=_example(entity)),
        ),
        Endpoint(
            method="DELETE",
            path=f"{path}/budgets/{{interval}}",
            handler=delete_budget,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"Remove a budget of {whose}",
            tag="Credits",
            query=BudgetQuery,
            reply_schema=_SHAPE,
            errors=(404,),
            idempotent=True,
            one_at_a_time=(("path", "customer_id"),),
            example=Example(response=_example(entity)),
        ),
    )


ENDPOINTS = (
    *_endpoints("/customers/{customer_id}", "a customer", None),
    *_endpoints("/customers/{customer_id}/entities/{entity_id}", "an entity", "agent-7"),
)
