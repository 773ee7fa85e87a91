"""Entities: the teams, users, agents and runs of a customer."""

from collections import Counter
from typing import Any

import msgspec

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.paging import Limit, from_cursor, to_cursor
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, INSTANT, INTEGER, STRING, array, optional, shape
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import get_customer
from nozle_server.entities.drafts import (
    EntityDraft,
    NamedEntityDraft,
    Snapshot,
    parse_entity_id,
    to_snapshot,
    to_snapshots,
)
from nozle_server.entities.model import Action, Entity, EntityChange, EntityStatus
from nozle_server.entities.queries import get_entity, list_entities
from nozle_server.workflows.change_entity import put_entities


class EntitiesQuery(msgspec.Struct):
    status: EntityStatus | None = None
    limit: Limit = 50
    cursor: str | None = None


class EntitiesBody(msgspec.Struct):
    """1 to 500, each of another entity."""

    entities: list[NamedEntityDraft]


def entity_json(customer: Customer, entity: Entity) -> dict[str, object]:
    return {
        "id": entity.id,
        "customer_id": customer.external_id,
        "external_id": entity.external_id,
        "name": entity.name,
        "status": entity.status,
        "metadata": entity.metadata,
        "parent_entity_id": entity.parent_external_id,
        "pool_policy": entity.pool_policy,
        "created_at": entity.created_at,
        "updated_at": entity.updated_at,
        "deleted_at": entity.deleted_at,
    }


async def index(call: Call) -> object:
    query: EntitiesQuery = call.query
    customer = await get_customer(call.tx, call.org_id, call.path["customer_id"])
    entities, following = await list_entities(
        call.tx,
        org_id=call.org_id,
        customer_id=customer.id,
        status=query.status,
        before=from_cursor(query.cursor),
        limit=query.limit,
    )
    return {
        "customer_id": customer.external_id,
        "entities": [entity_json(customer, entity) for entity in entities],
        "next_cursor": None if following is None else to_cursor(following),
    }


async def show(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["customer_id"])
    entity = await get_entity(call.tx, call.org_id, customer.id, call.path["entity_id"])
    return {"entity": entity_json(customer, entity)}


async def put(call: Call) -> object:
    return await _put_one(call, to_snapshot(call.path["entity_id"], call.body))


async def delete(call: Call) -> object:
    external_id = parse_entity_id(call.path["entity_id"], "entity_id")
    return await _put_one(call, Snapshot(external_id=external_id, status=EntityStatus.DELETED))


async def bulk_upsert(call: Call) -> object:
    customer, changes = await _put(call, *to_snapshots(call.body.entities))
    counts = Counter(one.action for one in changes)
    return {
        "customer_id": customer.external_id,
        "entities": [_change_json(customer, one) for one in changes],
        "counts": {action: counts[action] for action in Action},
    }


async def _put_one(call: Call, snapshot: Snapshot) -> object:
    customer, (change,) = await _put(call, snapshot)
    return _change_json(customer, change)


async def _put(call: Call, *snapshots: Snapshot) -> tuple[Customer, tuple[EntityChange, ...]]:
    return await put_entities(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        customer_id=call.path["customer_id"],
        snapshots=snapshots,
        now=call.now,
    )


def _change_json(customer: Customer, change: EntityChange) -> dict[str, object]:
    return {"action": change.action, "entity": entity_json(customer, change.entity)}


ENTITY = shape(
    id=STRING,
    customer_id=STRING,
    external_id=STRING,
    name=optional(STRING),
    status=STRING,
    metadata=ANY_OBJECT,
    parent_entity_id=optional(STRING),
    pool_policy=STRING,
    created_at=INSTANT,
    updated_at=INSTANT,
    deleted_at=optional(INSTANT),
)
_CHANGED = shape(action=STRING, entity=ENTITY, replayed=BOOLEAN)
_EXAMPLE: dict[str, Any] = {
    "id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e",
    "customer_id": "cust_123",
    "external_id": "research-agent",
    "name": "Research agent",
    "status": "active",
    "metadata": {"model": "gpt-4o"},
    "parent_entity_id": "research",
    "pool_policy": "entity_then_customer",
    "created_at": "2026-01-15T10:30:00Z",
    "updated_at": "2026-01-15T10:30:00Z",
    "deleted_at": None,
}
_DELETED = {
    **_EXAMPLE,
    "status": "deleted",
    "updated_at": "2026-02-01T00:00:00Z",
    "deleted_at": "2026-02-01T00:00:00Z",
}
_SENT = {
    "name": "Research agent",
    "status": "active",
    "metadata": {"model": "gpt-4o"},
    "parent_entity_id": "research",
}
_NAMED = ("external_id", "name", "status", "metadata", "parent_entity_id")
_TEAM = {**_EXAMPLE, "external_id": "research", "name": "Research", "metadata": {}, "parent_entity_id": None}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/customers/{customer_id}/entities",
        handler=index,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="List a customer's entities",
        description="Newest first; deleted ones too, unless `status` asks for others.",
        tag="Entities",
        query=EntitiesQuery,
        reply_schema=shape(customer_id=STRING, entities=array(ENTITY), next_cursor=optional(STRING)),
        errors=(404,),
        snapshot=True,
        example=Example(
            response={"customer_id": "cust_123", "entities": [_EXAMPLE], "next_cursor": None},
        ),
    ),
    Endpoint(
        method="GET",
        path="/customers/{customer_id}/entities/{entity_id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Get an entity",
        description="Of several that had this id the latest, which may be deleted.",
        tag="Entities",
        reply_schema=shape(entity=ENTITY),
        errors=(404,),
        snapshot=True,
        example=Example(response={"entity": _EXAMPLE}),
    ),
    Endpoint(
        method="PUT",
        path="/customers/{customer_id}/entities/{entity_id}",
        handler=put,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Create or change an entity",
        description=(
            "A complete snapshot: without `name` or `metadata` there is none. Without `parent_entity_id` the parent stays,"
            " null takes it away; without `pool_policy` that stays (`entity_then_customer` at first). `action` is what"
            " became of it: `created`, `updated`, `unchanged`, `activated`, `suspended`, `deleted`, or `reactivated` where"
            " a deleted one had this id: another entity with another `id`, which inherits nothing. Only an active entity"
            " spends, and only while all it stands below are active too: suspending or deleting returns the top-ups allocated"
            " to it to the customer, and lets its other grants expire. Entities stand at most 8 deep below one another."
        ),
        tag="Entities",
        body=EntityDraft,
        reply_schema=_CHANGED,
        errors=(404, 409, 422),
        idempotent=True,
        key_required=True,
        tells_replay=True,
        example=Example(request=_SENT, response={"action": "created", "entity": _EXAMPLE, "replayed": False}),
    ),
    Endpoint(
        method="POST",
        path="/customers/{customer_id}/entities/bulk-upsert",
        handler=bulk_upsert,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Create or change many entities",
        description=(
            "1 to 500 snapshots, each as for one entity; all or none of them, as if at one moment: one may be the parent of"
            " another, in any order."
        ),
        tag="Entities",
        body=EntitiesBody,
        reply_schema=shape(
            customer_id=STRING,
            entities=array(shape(action=STRING, entity=ENTITY)),
            counts=shape(**dict.fromkeys(Action, INTEGER)),
            replayed=BOOLEAN,
        ),
        errors=(404, 409, 422),
        idempotent=True,
        key_required=True,
        tells_replay=True,
        example=Example(
            request={"entities": [{name: one[name] for name in _NAMED} for one in (_TEAM, _EXAMPLE)]},
            response={
                "customer_id": "cust_123",
                "entities": [{"action": "created", "entity": one} for one in (_TEAM, _EXAMPLE)],
                "counts": {action: 2 if action is Action.CREATED else 0 for action in Action},
                "replayed": False,
            },
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/customers/{customer_id}/entities/{entity_id}",
        handler=delete,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Delete an entity",
        description=(
            "What it did stays; unused credits go as when it is suspended. While entities stand below it, it is a 409; once"
            " deleted, `unchanged`."
        ),
        tag="Entities",
        reply_schema=_CHANGED,
        errors=(404, 409),
        idempotent=True,
        key_required=True,
        tells_replay=True,
        example=Example(response={"action": "deleted", "entity": _DELETED, "replayed": False}),
    ),
)
