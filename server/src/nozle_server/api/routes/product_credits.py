"""What customers and their entities have and did in product credits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from nozle_server.api.credit_forms import operation_json, source_json, system_json
from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.operation_cursor import from_operation_cursor, to_operation_cursor
from nozle_server.api.paging import Limit
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, INTEGER, STRING, array, optional, shape
from nozle_server.catalog.queries import get_credit_system
from nozle_server.core.numbers import to_plain
from nozle_server.credits.usage_queries import (
    EntityBalance,
    Source,
    SystemBalance,
    get_entity_balance,
    get_system_balance,
    list_balances,
    list_entity_balances,
    list_operations,
)
from nozle_server.credits.usage_store import get_systems
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import get_customer
from nozle_server.entities.model import Entity
from nozle_server.entities.queries import get_entity


class OperationsQuery(msgspec.Struct):
    credit_system_code: str | None = None
    limit: Limit = 50
    cursor: str | None = None


async def list_of_customer(call: Call) -> object:
    customer = await _customer(call)
    balances = await list_balances(call.tx, customer, call.now)
    return {
        "customer_id": customer.external_id,
        "as_of": call.now,
        "balances": [balance_json(customer, one, call.now) for one in balances],
    }


async def show_of_customer(call: Call) -> object:
    customer = await _customer(call)
    system = await get_credit_system(call.tx, call.org_id, call.path["code"])
    balance = await get_system_balance(call.tx, customer, system, call.now)
    return balance_json(customer, balance, call.now)


async def list_of_entity(call: Call) -> object:
    customer, entity = await _entity(call)
    balances = await list_entity_balances(call.tx, customer, entity, call.now)
    return {
        "customer_id": customer.external_id,
        "entity_id": entity.external_id,
        "entity_status": entity.status,
        "as_of": call.now,
        "balances": [entity_balance_json(customer, entity, one, call.now) for one in balances],
    }


async def show_of_entity(call: Call) -> object:
    customer, entity = await _entity(call)
    system = await get_credit_system(call.tx, call.org_id, call.path["code"])
    balance = await get_entity_balance(call.tx, customer, entity, system, call.now)
    return entity_balance_json(customer, entity, balance, call.now)


async def operations_of_customer(call: Call) -> object:
    return await _operations(call, await _customer(call), None)


async def operations_of_entity(call: Call) -> object:
    customer, entity = await _entity(call)
    return await _operations(call, customer, entity)


async def _operations(call: Call, customer: Customer, entity: Entity | None) -> object:
    query: OperationsQuery = call.query
    after = from_operation_cursor(query.cursor)
    code = query.credit_system_code
    if code is not None:
        code = (await get_credit_system(call.tx, call.org_id, code)).code
    operations, following = await list_operations(
        call.tx, customer, credit_system=code, entity=entity, after=after, limit=query.limit
    )
    systems = await get_systems(call.tx, call.org_id, {one.credit_system for one in operations})
    return {
        "customer_id": customer.external_id,
        **({} if entity is None else {"entity_id": entity.external_id}),
        "operations": [operation_json(one, systems) for one in operations],
        "next_cursor": None if following is None else to_operation_cursor(following),
    }


async def _customer(call: Call) -> Customer:
    return await get_customer(call.tx, call.org_id, call.path["customer_id"])


async def _entity(call: Call) -> tuple[Customer, Entity]:
    customer = await _customer(call)
    return customer, await get_entity(call.tx, call.org_id, customer.id, call.path["entity_id"])


def balance_json(customer: Customer, balance: SystemBalance, now: datetime) -> dict[str, object]:
    return {
        "customer_id": customer.external_id,
        **system_json(balance.system),
        "system_status": balance.system.status,
        "available": to_plain(balance.available),
        "as_of": now,
        "sources": _sources_json(balance.sources),
    }


def entity_balance_json(
    customer: Customer, entity: Entity, balance: EntityBalance, now: datetime
) -> dict[str, object]:
    return {
        "customer_id": customer.external_id,
        "entity_id": entity.external_id,
        "entity_status": entity.status,
        **system_json(balance.system),
        "system_status": balance.system.status,
        "entity_available": to_plain(balance.entity_available),
        "shared_available": to_plain(balance.shared_available),
        "effective_available": to_plain(balance.effective_available),
        "consumed": to_plain(balance.consumed),
        "pool_policy": entity.pool_policy,
        "as_of": now,
        "sources": _sources_json(balance.sources),
    }


def _sources_json(sources: Sequence[Source]) -> list[dict[str, object]]:
    return [source_json(one) for one in sources]


_SOURCE = shape(
    id=STRING,
    entity_id=optional(STRING),
    parent_source_id=optional(STRING),
    scope=STRING,
    type=STRING,
    initial=STRING,
    remaining=STRING,
    valid_from=INSTANT,
    expires_at=optional(INSTANT),
    priority=INTEGER,
    status=STRING,
)
_SYSTEM = {
    "customer_id": STRING,
    "credit_system": STRING,
    "credit_system_id": STRING,
    "credit_system_name": STRING,
    "unit_name": STRING,
    "system_status": STRING,
    "as_of": INSTANT,
    "sources": array(_SOURCE),
}
_BALANCE = shape(**_SYSTEM, available=STRING)
_ENTITY_BALANCE = shape(
    **_SYSTEM,
    entity_id=STRING,
    entity_status=STRING,
    entity_available=STRING,
    shared_available=STRING,
    effective_available=STRING,
    consumed=STRING,
    pool_policy=STRING,
)
_OPERATIONS = shape(customer_id=STRING, operations=array(ANY_OBJECT), next_cursor=optional(STRING))

_GRANT = "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e"
_NAMES = {
    "credit_system": "ai_credits",
    "credit_system_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e",
    "credit_system_name": "AI credits",
    "unit_name": "credits",
}
_SHOWN_SOURCE = {
    "id": _GRANT,
    "entity_id": None,
    "parent_source_id": None,
    "scope": "customer",
    "transferable": True,
    "returnable": False,
    "type": "top_up",
    "reference": None,
    "subscription_id": None,
    "initial": "100",
    "remaining": "97",
    "valid_from": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "priority": 50,
    "status": "active",
    "available": True,
}
_SHOWN: dict[str, Any] = {
    "customer_id": "cust_123",
    **_NAMES,
    "system_status": "active",
    "available": "97",
    "as_of": "2026-01-15T10:30:00Z",
    "sources": [_SHOWN_SOURCE],
}
_OF_ENTITY: dict[str, Any] = {
    **{name: value for name, value in _SHOWN.items() if name != "available"},
    "entity_id": "research-agent",
    "entity_status": "active",
    "entity_available": "0",
    "shared_available": "97",
    "effective_available": "97",
    "consumed": "3",
    "pool_policy": "entity_then_customer",
}
_OPERATION = {
    "id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "entity_id": "research-agent",
    **_NAMES,
    "feature_code": "llm_tokens",
    "billable_metric_code": "llm_tokens",
    "type": "consume",
    "status": "succeeded",
    "metric_amount": "1500",
    "credit_amount": "3",
    "rate_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f",
    "rate_metric_amount": "1000",
    "rate_credit_amount": "2",
    "reason": None,
    "description": None,
    "occurred_at": "2026-01-15T10:30:00Z",
    "source_allocations": [
        {
            "source_id": _GRANT,
            "source_entity_id": None,
            "source_type": "top_up",
            "delta": "-3",
            "before": "100",
            "after": "97",
        }
    ],
}

_CUSTOMER = "/customers/{customer_id}"
_ENTITY = _CUSTOMER + "/entities/{entity_id}"
_TAG = "Product credits"
_SOURCES = (
    " `sources` are the grants that something is left of, in the order in which they are spent; none begins later than it was"
    " made, so all of them are active. What is held is not among what is there."
)
_WHAT_OPERATIONS = (
    "Newest first: what was consumed, granted, corrected, taken back and moved, and what expired, each an entry of the ledger"
    " (`id` is its transaction's), and what was denied. A deduction that was refunded in full is `reversed`. Credits that are"
    " held, and released again, are no operations: what a hold comes to is the `consume` that settles it. A transfer is two:"
    " what it took, and what it gave. `credit_amount` is positive; `delta` says which way."
)


def _get(path: str, handler: Any, summary: str, description: str, schema: Any, response: object) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=SEED,
        summary=summary,
        description=description,
        tag=_TAG,
        query=OperationsQuery if path.endswith("-operations") else None,
        reply_schema=schema,
        errors=(404,),
        snapshot=True,
        example=Example(response=response),
    )


ENDPOINTS = (
    _get(
        _CUSTOMER + "/credit-systems",
        list_of_customer,
        "List a customer's credits of every system",
        "Of every credit system that it ever had credits of: its own, not what was given to its entities."
        + _SOURCES,
        shape(customer_id=STRING, as_of=INSTANT, balances=array(_BALANCE)),
        {"customer_id": "cust_123", "as_of": "2026-01-15T10:30:00Z", "balances": [_SHOWN]},
    ),
    _get(
        _CUSTOMER + "/credit-systems/{code}/balance",
        show_of_customer,
        "Get a customer's credits of one system",
        "Its own, not what was given to its entities." + _SOURCES,
        _BALANCE,
        _SHOWN,
    ),
    _get(
        _CUSTOMER + "/credit-operations",
        operations_of_customer,
        "List a customer's credit operations",
        _WHAT_OPERATIONS,
        _OPERATIONS,
        {"customer_id": "cust_123", "operations": [_OPERATION], "next_cursor": None},
    ),
    _get(
        _ENTITY + "/credit-systems",
        list_of_entity,
        "List an entity's credits of every system",
        "As one of them." + _SOURCES,
        shape(
            customer_id=STRING,
            entity_id=STRING,
            entity_status=STRING,
            as_of=INSTANT,
            balances=array(_ENTITY_BALANCE),
        ),
        {
            "customer_id": "cust_123",
            "entity_id": "research-agent",
            "entity_status": "active",
            "as_of": "2026-01-15T10:30:00Z",
            "balances": [_OF_ENTITY],
        },
    ),
    _get(
        _ENTITY + "/credit-systems/{code}/balance",
        show_of_entity,
        "Get an entity's credits of one system",
        (
            "`entity_available` is its own and its parents', `shared_available` its customer's, `effective_available` what of"
            " both it may spend by its pool policy: nothing, while it or one above it is not active. A source is `available`"
            " when it counts to that." + _SOURCES
        ),
        _ENTITY_BALANCE,
        _OF_ENTITY,
    ),
    _get(
        _ENTITY + "/credit-operations",
        operations_of_entity,
        "List an entity's credit operations",
        "Its own: of those that had its id, the latest. " + _WHAT_OPERATIONS,
        _OPERATIONS,
        {
            "customer_id": "cust_123",
            "entity_id": "research-agent",
            "operations": [_OPERATION],
            "next_cursor": None,
        },
    ),
)
