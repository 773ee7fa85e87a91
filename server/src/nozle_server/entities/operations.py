"""Use cases that change entities. Whoever calls one holds the customer's row, so that changes come one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.core import json
from nozle_server.core.errors import Conflict, NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.customers.model import Customer
from nozle_server.entities import store, tree
from nozle_server.entities.drafts import Snapshot
from nozle_server.entities.model import (
    DEFAULT_POOL_POLICY,
    Action,
    Entity,
    EntityChange,
    EntityStatus,
)
from nozle_server.entities.queries import unknown_entity
from nozle_server.infra.batch import batch
from nozle_server.infra.change_bus import Change, ChangeBus
from nozle_server.infra.database import Tx

_BY_STATUS = {EntityStatus.ACTIVE: Action.ACTIVATED, EntityStatus.SUSPENDED: Action.SUSPENDED}


async def put_entities(
    tx: Tx, bus: ChangeBus, *, customer: Customer, snapshots: Sequence[Snapshot], now: datetime
) -> tuple[EntityChange, ...]:
    """Make the entities as the snapshots say, all or none and as if at one moment: what is made here may be a parent
    here, in any order. One change for each snapshot, in their order.

    NotFound `entity_not_found` for what is to be deleted and never was, `parent_entity_not_found`; RuleBroken
    `entity_cycle`, `entity_too_deep`; Conflict `entity_has_children` for what is to be deleted from above others.
    """
    latest = await store.list_latest(tx, customer.org_id, customer.id, _names(snapshots))
    ids = _ids_after(latest, snapshots)
    number = await store.last_number(tx, customer.org_id, customer.id)
    changes: list[EntityChange] = []
    for snapshot in snapshots:
        change = _plan(customer, snapshot, latest.get(snapshot.external_id), ids, number + 1, now)
        number += change.before is None
        changes.append(change)
    await _check_tree(tx, customer, changes)
    await store.insert_all(tx, [one.entity for one in changes if one.before is None])
    await store.update_all(
        tx,
        [one.entity for one in changes if one.before is not None and one.action is not Action.UNCHANGED],
    )
    done = [(one.action, one.entity) for one in changes if one.action is not Action.UNCHANGED]
    await _announce(tx, bus, customer, done)
    return tuple(changes)


async def delete_entities(tx: Tx, bus: ChangeBus, *, customer: Customer, now: datetime) -> tuple[Entity, ...]:
    """Delete all that the customer has, children with their parents; what was deleted."""
    gone = await store.mark_all_deleted(tx, customer.org_id, customer.id, now)
    await _announce(tx, bus, customer, [(Action.DELETED, entity) for entity in gone])
    return tuple(gone)


def _names(snapshots: Sequence[Snapshot]) -> set[str]:
    parents = {one.parent for one in snapshots if isinstance(one.parent, str)}
    return parents | {one.external_id for one in snapshots}


def _ids_after(latest: Mapping[str, Entity], snapshots: Sequence[Snapshot]) -> dict[str, UUID]:
    """The ids of the entities that live when all of it is done, by external id."""
    ids = {name: one.id for name, one in latest.items() if one.is_live}
    for snapshot in snapshots:
        if snapshot.status is EntityStatus.DELETED:
            ids.pop(snapshot.external_id, None)
        else:
            ids.setdefault(snapshot.external_id, new_id())
    return ids


def _plan(
    customer: Customer,
    snapshot: Snapshot,
    latest: Entity | None,
    ids: Mapping[str, UUID],
    number: int,
    now: datetime,
) -> EntityChange:
    before = latest if latest is not None and latest.is_live else None
    if snapshot.status is EntityStatus.DELETED:
        if latest is None:
            raise unknown_entity()
        if before is None:
            return EntityChange(Action.UNCHANGED, latest, latest)
        gone = replace(before, status=EntityStatus.DELETED, updated_at=now, deleted_at=now)
        return EntityChange(Action.DELETED, gone, before)
    if before is None:
        made = _new(customer, snapshot, ids, number, now)
        return EntityChange(Action.CREATED if latest is None else Action.REACTIVATED, made, None)
    after = _set(before, snapshot, ids)
    if _is_same(before, after):
        return EntityChange(Action.UNCHANGED, before, before)
    action = Action.UPDATED if after.status is before.status else _BY_STATUS[after.status]
    return EntityChange(action, replace(after, updated_at=now), before)


def _new(
    customer: Customer, snapshot: Snapshot, ids: Mapping[str, UUID], number: int, now: datetime
) -> Entity:
    blank = Entity(
        org_id=customer.org_id,
        id=ids[snapshot.external_id],
        customer_id=customer.id,
        number=number,
        external_id=snapshot.external_id,
        name=None,
        status=snapshot.status,
        metadata={},
        parent_id=None,
        parent_external_id=None,
        pool_policy=DEFAULT_POOL_POLICY,
        created_at=now,
        updated_at=now,
    )
    return _set(blank, snapshot, ids)


def _set(entity: Entity, snapshot: Snapshot, ids: Mapping[str, UUID]) -> Entity:
    entity = replace(
        entity,
        name=snapshot.name,
        status=snapshot.status,
        metadata=snapshot.metadata,
        pool_policy=snapshot.pool_policy or entity.pool_policy,
    )
    if snapshot.parent is None:
        return replace(entity, parent_id=None, parent_external_id=None)
    if isinstance(snapshot.parent, str):
        if snapshot.parent not in ids:
            raise NotFound("parent entity not found", code="parent_entity_not_found")
        return replace(entity, parent_id=ids[snapshot.parent], parent_external_id=snapshot.parent)
    return entity


def _is_same(before: Entity, after: Entity) -> bool:
    # As JSON: to Python, true is 1.
    same_metadata = json.canonical(before.metadata) == json.canonical(after.metadata)
    return same_metadata and replace(after, metadata=before.metadata) == before


async def _check_tree(tx: Tx, customer: Customer, changes: Sequence[EntityChange]) -> None:
    """Whether the entities stand as they may once the changes are made; looks only at those that a change is about."""
    placed = [one for one in changes if one.before is None or one.before.parent_id != one.entity.parent_id]
    gone = {one.entity.id for one in changes if one.action is Action.DELETED}
    touched = {one.entity.id for one in placed if one.before is not None} | gone
    touched |= {one.entity.parent_id for one in placed if one.entity.parent_id is not None}
    if not touched:
        return
    parents = await store.parents_around(tx, customer.org_id, customer.id, touched)
    parents |= {one.entity.id: one.entity.parent_id for one in placed}
    parents = {node: parent for node, parent in parents.items() if node not in gone}
    if gone & set(parents.values()):
        raise Conflict("other entities stand below it: move or delete them first", code="entity_has_children")
    depths = tree.depths(parents)
    if len(depths) < len(parents):
        raise RuleBroken("an entity cannot stand below itself", code="entity_cycle")
    if max(depths.values(), default=0) > tree.MAX_DEPTH:
        raise RuleBroken(f"entities stand at most {tree.MAX_DEPTH} deep", code="entity_too_deep")


async def _announce(
    tx: Tx, bus: ChangeBus, customer: Customer, done: Sequence[tuple[Action, Entity]]
) -> None:
    async with batch(tx):
        for action, entity in done:
            payload = {
                "customer_id": customer.external_id,
                "external_customer_id": customer.external_id,
                "external_id": entity.external_id,
                "status": entity.status,
            }
            change = Change(customer.org_id, f"entity.{action}", str(entity.id), payload)
            await bus.publish(tx, change)
