"""All SQL of entities, and rows <-> values. Whoever changes an entity holds its customer's row."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.entities.model import Entity, EntityStatus, PoolPolicy
from nozle_server.infra.database import Tx

_COLUMNS = """e.org_id, e.id, e.customer_id, e.number, e.external_id, e.name, e.status, e.metadata, e.parent_id,
    p.external_id as parent_external_id, e.pool_policy, e.created_at, e.updated_at, e.deleted_at"""
_WITH_PARENT = "left join entities p on p.org_id = e.org_id and p.id = e.parent_id"


def from_row(row: asyncpg.Record) -> Entity:
    return Entity(
        **{
            **dict(row),
            "status": EntityStatus(row["status"]),
            "pool_policy": PoolPolicy(row["pool_policy"]),
        }
    )


async def find_latest(tx: Tx, org_id: UUID, customer_id: UUID, external_id: str) -> Entity | None:
    row = await tx.fetchrow(
        f"""select {_COLUMNS} from entities e {_WITH_PARENT}
            where e.org_id = $1 and e.customer_id = $2 and e.external_id = $3 order by e.number desc limit 1""",
        org_id,
        customer_id,
        external_id,
    )
    return from_row(row) if row else None


async def list_latest(
    tx: Tx, org_id: UUID, customer_id: UUID, external_ids: Collection[str]
) -> dict[str, Entity]:
    """The latest entity of each of these external ids that there ever was one of."""
    rows = await tx.fetch(
        f"""select distinct on (e.external_id) {_COLUMNS} from entities e {_WITH_PARENT}
            where e.org_id = $1 and e.customer_id = $2 and e.external_id = any($3)
            order by e.external_id, e.number desc""",
        org_id,
        customer_id,
        list(external_ids),
    )
    return {row["external_id"]: from_row(row) for row in rows}


async def list_chain(tx: Tx, org_id: UUID, entity_id: UUID) -> tuple[Entity, ...]:
    """The entity, its parent, the parent's parent and so on."""
    rows = await tx.fetch(
        f"""
        with recursive chain as (
            select id, parent_id, 1 as place from entities where org_id = $1 and id = $2
            union all
            select u.id, u.parent_id, c.place + 1 from chain c
            join entities u on u.org_id = $1 and u.id = c.parent_id
        )
        select {_COLUMNS} from chain c join entities e on e.org_id = $1 and e.id = c.id {_WITH_PARENT}
        order by c.place
        """,
        org_id,
        entity_id,
    )
    return tuple(from_row(row) for row in rows)


async def list_page(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    *,
    status: EntityStatus | None,
    before: int | None,
    limit: int,
) -> list[Entity]:
    """Newest first; `before` is the number of the last one already seen."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from entities e {_WITH_PARENT}
            where e.org_id = $1 and e.customer_id = $2 and ($3::text is null or e.status = $3)
                and ($4::bigint is null or e.number < $4)
            order by e.number desc limit $5""",
        org_id,
        customer_id,
        status,
        before,
        limit,
    )
    return [from_row(row) for row in rows]


async def parents_around(
    tx: Tx, org_id: UUID, customer_id: UUID, entity_ids: Collection[UUID]
) -> dict[UUID, UUID | None]:
    """The parent of each live entity that stands above or below one of these, and of these themselves."""
    rows = await tx.fetch(
        """
        with recursive above as (
            select id, parent_id from entities where org_id = $1 and id = any($3) and deleted_at is null
            union
            select e.id, e.parent_id from above a join entities e on e.org_id = $1 and e.id = a.parent_id
        ), below as (
            select id, parent_id from entities where org_id = $1 and id = any($3) and deleted_at is null
            union
            select e.id, e.parent_id from below b
            join entities e on e.org_id = $1 and e.customer_id = $2 and e.parent_id = b.id and e.deleted_at is null
        )
        select id, parent_id from above union select id, parent_id from below
        """,
        org_id,
        customer_id,
        list(entity_ids),
    )
    return {row["id"]: row["parent_id"] for row in rows}


async def last_number(tx: Tx, org_id: UUID, customer_id: UUID) -> int:
    """The number of the customer's newest entity; 0 when it never had one."""
    number = await tx.fetchval(
        "select coalesce(max(number), 0) from entities where org_id = $1 and customer_id = $2",
        org_id,
        customer_id,
    )
    assert isinstance(number, int)
    return number


async def insert_all(tx: Tx, entities: Sequence[Entity]) -> None:
    """Store new entities in one statement, so that one may be the parent of another."""
    if not entities:
        return
    await tx.execute(
        """
        insert into entities (org_id, id, customer_id, number, external_id, name, status, metadata, parent_id,
            pool_policy, created_at, updated_at)
        select $1, n.id, $2, n.number, n.external_id, n.name, n.status, n.metadata, n.parent_id, n.pool_policy, $3, $3
        from unnest($4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::uuid[],
            $11::text[]) as n (id, number, external_id, name, status, metadata, parent_id, pool_policy)
        """,
        entities[0].org_id,
        entities[0].customer_id,
        entities[0].created_at,
        [one.id for one in entities],
        [one.number for one in entities],
        [one.external_id for one in entities],
        [one.name for one in entities],
        [one.status for one in entities],
        [one.metadata for one in entities],
        [one.parent_id for one in entities],
        [one.pool_policy for one in entities],
    )


async def update_all(tx: Tx, entities: Sequence[Entity]) -> None:
    """Store entities that changed."""
    if not entities:
        return
    await tx.execute(
        """
        update entities e set name = n.name, status = n.status, metadata = n.metadata, parent_id = n.parent_id,
            pool_policy = n.pool_policy, updated_at = n.updated_at, deleted_at = n.deleted_at
        from unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::uuid[], $7::text[], $8::timestamptz[],
            $9::timestamptz[]) as n (id, name, status, metadata, parent_id, pool_policy, updated_at, deleted_at)
        where e.org_id = $1 and e.id = n.id
        """,
        entities[0].org_id,
        [one.id for one in entities],
        [one.name for one in entities],
        [one.status for one in entities],
        [one.metadata for one in entities],
        [one.parent_id for one in entities],
        [one.pool_policy for one in entities],
        [one.updated_at for one in entities],
        [one.deleted_at for one in entities],
    )


async def mark_all_deleted(tx: Tx, org_id: UUID, customer_id: UUID, now: datetime) -> list[Entity]:
    """Delete what the customer has; in order of number."""
    rows = await tx.fetch(
        f"""
        with e as (
            update entities set status = 'deleted', deleted_at = $3, updated_at = $3
            where org_id = $1 and customer_id = $2 and deleted_at is null returning *
        )
        select {_COLUMNS} from e {_WITH_PARENT} order by e.number
        """,
        org_id,
        customer_id,
        now,
    )
    return [from_row(row) for row in rows]
