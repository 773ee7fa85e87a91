"""Use cases that only look at entities."""

from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.entities import store
from nozle_server.entities.model import Entity, EntityStatus
from nozle_server.infra.database import Tx


async def find_entity(tx: Tx, org_id: UUID, customer_id: UUID, external_id: str) -> Entity | None:
    """The entity of the customer that is known by this id now; the last that was, when it is deleted (its status says
    so); None when there never was one. InvalidInput for what cannot be an id."""
    return await store.find_latest(tx, org_id, customer_id, parse_id(external_id, "entity_id"))


async def get_entity(tx: Tx, org_id: UUID, customer_id: UUID, external_id: str) -> Entity:
    """As `find_entity`; NotFound `entity_not_found` when there never was one."""
    entity = await find_entity(tx, org_id, customer_id, external_id)
    if entity is None:
        raise unknown_entity()
    return entity


async def find_standing(tx: Tx, org_id: UUID, customer_id: UUID, external_id: str) -> bool | None:
    """Whether the customer's entity and all above it are active; None when there never was one of that id."""
    entity = await store.find_latest(tx, org_id, customer_id, external_id)
    if entity is None or entity.parent_id is None or entity.status is not EntityStatus.ACTIVE:
        return None if entity is None else entity.status is EntityStatus.ACTIVE
    chain = await store.list_chain(tx, org_id, entity.id)
    return all(one.status is EntityStatus.ACTIVE for one in chain)


async def list_chain(tx: Tx, org_id: UUID, entity_id: UUID) -> tuple[Entity, ...]:
    """The entity first, then its parents up to the top: at most `tree.MAX_DEPTH` for one that is not deleted. Empty
    for an id that is nobody's."""
    return await store.list_chain(tx, org_id, entity_id)


async def list_entities(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    status: EntityStatus | None,
    before: int | None,
    limit: int,
) -> tuple[list[Entity], int | None]:
    """A page of a customer's entities, newest first, and where the next page starts (None: there is none)."""
    entities = await store.list_page(tx, org_id, customer_id, status=status, before=before, limit=limit + 1)
    if len(entities) <= limit:
        return entities, None
    return entities[:limit], entities[limit - 1].number


def unknown_entity() -> NotFound:
    return NotFound("entity not found", code="entity_not_found")
