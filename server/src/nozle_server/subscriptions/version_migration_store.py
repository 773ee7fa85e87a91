"""All SQL of migrations between versions of a plan."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.version_migration import ItemStatus, MigrationItem, VersionMigration

# What became of an item: a follower that has begun, has not, or was called off (with the migration, or by another change).
_STATUS = """case
    when i.skip_reason is not null then 'skipped'
    when i.successor_id = i.subscription_id or f.status in ('active', 'terminated') then 'succeeded'
    when f.status = 'pending' then 'pending'
    when m.canceled_at is not null then 'canceled'
    else 'skipped' end"""
_FROM_ITEMS = """from plan_version_migration_items i
    join plan_version_migrations m on m.org_id = i.org_id and m.id = i.migration_id
    left join subscriptions f on f.org_id = i.org_id and f.id = i.successor_id"""
_MIGRATION = f"""
    select g.org_id, g.id, g.plan_id, p.code as plan_code, g.from_version, v.version as to_version, g.created_at,
        g.canceled_at, c.matched_count, c.pending_count, c.succeeded_count, c.skipped_count, c.last_effective_at
    from plan_version_migrations g
    join plans p on p.org_id = g.org_id and p.id = g.plan_id
    join plan_versions v on v.org_id = g.org_id and v.id = g.to_version_id,
    lateral (
        select count(*) as matched_count,
            count(*) filter (where status = 'pending') as pending_count,
            count(*) filter (where status = 'succeeded') as succeeded_count,
            count(*) filter (where status = 'skipped') as skipped_count,
            max(effective_at) filter (where status = 'succeeded') as last_effective_at
        from (select {_STATUS} as status, i.effective_at {_FROM_ITEMS}
              where i.org_id = g.org_id and i.migration_id = g.id) items
    ) c"""


async def lock_subscribers(tx: Tx, org_id: UUID, plan_id: UUID) -> None:
    """Hold the plan's subscriptions until the transaction ends, their customers first, all in order of id."""
    await tx.execute(
        """
        select 1 from customers c where c.org_id = $1 and c.id in (
            select customer_id from subscriptions
            where org_id = $1 and plan_id = $2 and status in ('active', 'pending'))
        order by c.id for no key update
        """,
        org_id,
        plan_id,
    )
    await tx.execute(
        """
        select 1 from subscriptions where org_id = $1 and plan_id = $2 and status in ('active', 'pending')
        order by id for no key update
        """,
        org_id,
        plan_id,
    )


async def list_subscribers(
    tx: Tx, org_id: UUID, plan_id: UUID, from_version: int | None, target_id: UUID
) -> list[tuple[Subscription, str]]:
    """Subscriptions that run, or will without following another of the plan, on a version (None: any) other than the
    target; with overrides counts as on the version that these override. Each with its customer's external id."""
    rows = await tx.fetch(
        """
        select s.*, c.external_id as external_customer_id
        from subscriptions s
        join plan_versions v on v.org_id = s.org_id and v.id = s.plan_version_id
        join customers c on c.org_id = s.org_id and c.id = s.customer_id
        where s.org_id = $1 and s.plan_id = $2 and ($3::integer is null or v.version = $3)
          and coalesce(v.overrides, v.id) <> $4
          and (s.status = 'active' or s.status = 'pending' and not exists (
                select from subscriptions o where o.org_id = s.org_id and o.id = s.previous_subscription_id
                    and o.status = 'active' and o.plan_id = s.plan_id))
        order by s.created_at, s.id
        """,
        org_id,
        plan_id,
        from_version,
        target_id,
    )
    return [(store.from_row(row), row["external_customer_id"]) for row in rows]


async def list_pending_followers(
    tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]
) -> list[Subscription]:
    """What is to follow these subscriptions."""
    rows = await tx.fetch(
        "select * from subscriptions where org_id = $1 and previous_subscription_id = any($2) and status = 'pending'",
        org_id,
        list(subscription_ids),
    )
    return [store.from_row(row) for row in rows]


async def insert_migration(
    tx: Tx,
    *,
    org_id: UUID,
    migration_id: UUID,
    plan_id: UUID,
    from_version: int | None,
    to_version_id: UUID,
    now: datetime,
) -> None:
    await tx.execute(
        """
        insert into plan_version_migrations (org_id, id, plan_id, from_version, to_version_id, created_at)
        values ($1, $2, $3, $4, $5, $6)
        """,
        org_id,
        migration_id,
        plan_id,
        from_version,
        to_version_id,
        now,
    )


async def insert_items(
    tx: Tx,
    org_id: UUID,
    migration_id: UUID,
    items: Sequence[tuple[UUID, UUID | None, str | None, datetime | None]],
) -> None:
    """Items of (subscription, follower, reason to skip it, when it moves)."""
    await tx.execute(
        """
        insert into plan_version_migration_items (org_id, migration_id, subscription_id, successor_id, skip_reason,
            effective_at)
        select $1, $2, * from unnest($3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[])
        """,
        org_id,
        migration_id,
        [item[0] for item in items],
        [item[1] for item in items],
        [item[2] for item in items],
        [item[3] for item in items],
    )


async def find_migration(tx: Tx, org_id: UUID, plan_id: UUID, migration_id: UUID) -> VersionMigration | None:
    row = await tx.fetchrow(
        f"{_MIGRATION} where g.org_id = $1 and g.plan_id = $2 and g.id = $3", org_id, plan_id, migration_id
    )
    return _from_row(row) if row else None


async def list_migrations(tx: Tx, org_id: UUID, plan_id: UUID) -> list[VersionMigration]:
    """All migrations of a plan, newest first."""
    rows = await tx.fetch(
        f"{_MIGRATION} where g.org_id = $1 and g.plan_id = $2 order by g.created_at desc, g.id desc",
        org_id,
        plan_id,
    )
    return [_from_row(row) for row in rows]


async def list_items(tx: Tx, org_id: UUID, migration_id: UUID) -> list[MigrationItem]:
    rows = await tx.fetch(
        f"""
        select s.external_id, c.external_id as customer, {_STATUS} as status,
            coalesce(i.skip_reason, case when {_STATUS} = 'skipped' then 'subscription_changed' end) as reason,
            i.effective_at
        {_FROM_ITEMS}
        join subscriptions s on s.org_id = i.org_id and s.id = i.subscription_id
        join customers c on c.org_id = s.org_id and c.id = s.customer_id
        where i.org_id = $1 and i.migration_id = $2 order by s.created_at, s.id
        """,
        org_id,
        migration_id,
    )
    return [
        MigrationItem(
            row["external_id"], row["customer"], ItemStatus(row["status"]), row["reason"], row["effective_at"]
        )
        for row in rows
    ]


async def cancel_migration(tx: Tx, org_id: UUID, migration_id: UUID, now: datetime) -> None:
    """Call off what has not moved yet."""
    await tx.execute(
        """
        update subscriptions f set status = 'canceled', canceled_at = $3
        from plan_version_migration_items i
        where i.org_id = $1 and i.migration_id = $2 and i.successor_id <> i.subscription_id
          and f.org_id = i.org_id and f.id = i.successor_id and f.status = 'pending'
        """,
        org_id,
        migration_id,
        now,
    )
    await tx.execute(
        "update plan_version_migrations set canceled_at = $3 where org_id = $1 and id = $2",
        org_id,
        migration_id,
        now,
    )


def _from_row(row: asyncpg.Record) -> VersionMigration:
    return VersionMigration(**dict(row))
