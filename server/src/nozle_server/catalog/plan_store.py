"""All SQL of plans, their versions and entitlements."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.catalog.model import Entitlement, Plan, PlanUse, PlanVersion
from nozle_server.catalog.plan_rows import VERSION_NAMES, version_from_row, version_values
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx

_VERSION = ", ".join(f"v.{name}" for name in VERSION_NAMES)
_PLAN = """p.org_id, p.id, p.code, p.name, p.description, p.metadata, p.created_at, p.updated_at, p.current_version_id,
    (select coalesce(jsonb_agg(jsonb_build_object('feature_id', e.feature_id, 'code', f.code, 'privileges', e.privileges)
                     order by f.code), '[]')
       from plan_entitlements e join features f on f.org_id = e.org_id and f.id = e.feature_id
      where e.org_id = p.org_id and e.plan_id = p.id) as entitlements"""


# Versions are immutable, so a decoded one is right for ever; bounded because an organization may have very many.
_decoded: dict[UUID, PlanVersion] = {}

_DECODED_AT_MOST = 10_000


def _decode(row: asyncpg.Record) -> PlanVersion:
    version = version_from_row(row)
    if len(_decoded) >= _DECODED_AT_MOST:
        _decoded.clear()
    _decoded[version.id] = version
    return version


def forget_decoded() -> None:
    """Drop the decoded plan versions (`/admin/reload`)."""
    _decoded.clear()


def _plan_from_row(row: asyncpg.Record, current: PlanVersion) -> Plan:
    return Plan(
        org_id=row["org_id"],
        id=row["id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        current=current,
        entitlements=tuple(
            Entitlement(UUID(one["feature_id"]), one["code"], one["privileges"])
            for one in row["entitlements"]
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        metadata=row["metadata"],
    )


async def find_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    row = await tx.fetchrow(
        f"select {_PLAN} from plans p where p.org_id = $1 and p.code = $2 and p.deleted_at is null",
        org_id,
        code,
    )
    return _plan_from_row(row, await get_plan_version(tx, org_id, row["current_version_id"])) if row else None


async def lock_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    """The plan, held until the transaction ends: one change at a time, and nobody subscribes meanwhile."""
    await tx.execute(
        "select 1 from plans where org_id = $1 and code = $2 and deleted_at is null for update", org_id, code
    )
    return await find_plan(tx, org_id, code)


async def hold_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    """The plan, which cannot be changed or removed until the transaction ends; others may hold it too."""
    await tx.execute(
        "select 1 from plans where org_id = $1 and code = $2 and deleted_at is null for key share",
        org_id,
        code,
    )
    return await find_plan(tx, org_id, code)


async def list_plans(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Plan], int]:
    total = await tx.fetchval("select count(*) from plans where org_id = $1 and deleted_at is null", org_id)
    rows = await tx.fetch(
        f"""select {_PLAN} from plans p join plan_versions v on v.org_id = p.org_id and v.id = p.current_version_id
            where p.org_id = $1 and p.deleted_at is null
            order by v.amount_cents, p.code limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    versions = await get_plan_versions(tx, org_id, [row["current_version_id"] for row in rows])
    return [_plan_from_row(row, versions[row["current_version_id"]]) for row in rows], total


async def get_plan_version(tx: Tx, org_id: UUID, version_id: UUID) -> PlanVersion:
    return (await get_plan_versions(tx, org_id, [version_id]))[version_id]


async def get_plan_versions(tx: Tx, org_id: UUID, version_ids: Sequence[UUID]) -> dict[UUID, PlanVersion]:
    """Versions that something of ours refers to, by id."""
    found = {}
    for version_id in version_ids:
        known = _decoded.get(version_id)
        if known is not None and known.org_id == org_id:
            found[version_id] = known
    if missing := [one for one in version_ids if one not in found]:
        rows = await tx.fetch(
            f"select {_VERSION} from plan_versions v where v.org_id = $1 and v.id = any($2)", org_id, missing
        )
        found |= {row["id"]: _decode(row) for row in rows}
    assert all(one in found for one in version_ids), "versions are never deleted"
    return found


async def list_versions(tx: Tx, org_id: UUID, plan_id: UUID) -> list[PlanVersion]:
    """All versions of a plan, oldest first; those that override one for a subscription are not among them."""
    rows = await tx.fetch(
        f"""select {_VERSION} from plan_versions v
            where v.org_id = $1 and v.plan_id = $2 and v.overrides is null order by v.version""",
        org_id,
        plan_id,
    )
    return [_decode(row) for row in rows]


async def find_version(tx: Tx, org_id: UUID, plan_id: UUID, number: int) -> PlanVersion | None:
    row = await tx.fetchrow(
        f"""select {_VERSION} from plan_versions v
            where v.org_id = $1 and v.plan_id = $2 and v.version = $3 and v.overrides is null""",
        org_id,
        plan_id,
        number,
    )
    return _decode(row) if row else None


async def count_by_version(tx: Tx, org_id: UUID, plan_id: UUID) -> dict[int, int]:
    """Active subscriptions by the number of the version they are on, be it with overrides."""
    rows = await tx.fetch(
        """
        select v.version, count(*) as subscriptions
        from subscriptions s join plan_versions v on v.org_id = s.org_id and v.id = s.plan_version_id
        where s.org_id = $1 and s.plan_id = $2 and s.status = 'active' group by v.version
        """,
        org_id,
        plan_id,
    )
    return {row["version"]: row["subscriptions"] for row in rows}


async def count_use(tx: Tx, org_id: UUID, plan_ids: Sequence[UUID]) -> dict[UUID, PlanUse]:
    """How much each of these plans is used, by its id."""
    rows = await tx.fetch(
        """
        select p.id, a.subscriptions, a.customers, (
            select count(distinct i.id) from invoices i
            join invoice_subscriptions x on x.org_id = i.org_id and x.invoice_id = i.id
            join subscriptions s on s.org_id = x.org_id and s.id = x.subscription_id
            where i.org_id = p.org_id and i.status = 'draft' and s.plan_id = p.id) as drafts
        from plans p, lateral (
            select count(*) as subscriptions, count(distinct s.customer_id) as customers from subscriptions s
            where s.org_id = p.org_id and s.plan_id = p.id and s.status = 'active') a
        where p.org_id = $1 and p.id = any($2)
        """,
        org_id,
        list(plan_ids),
    )
    return {row["id"]: PlanUse(row["subscriptions"], row["customers"], row["drafts"]) for row in rows}


async def insert_plan(
    tx: Tx, *, org_id: UUID, plan_id: UUID, code: str, name: str, description: str | None, now: datetime
) -> bool:
    """False when the code is taken. The version follows in the same transaction."""
    inserted = await tx.fetchval(
        """
        insert into plans (org_id, id, code, name, description, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6)
        on conflict (org_id, code) where deleted_at is null do nothing returning 1
        """,
        org_id,
        plan_id,
        code,
        name,
        description,
        now,
    )
    return inserted is not None


async def add_version(tx: Tx, version: PlanVersion) -> None:
    """Store a version; one that overrides none becomes the plan's current one."""
    places = ", ".join(f"${n}" for n in range(1, len(VERSION_NAMES) + 1))
    await tx.execute(
        f"insert into plan_versions ({', '.join(VERSION_NAMES)}) values ({places})", *version_values(version)
    )
    if version.overrides is None:
        await tx.execute(
            "update plans set current_version_id = $3, updated_at = $4 where org_id = $1 and id = $2",
            version.org_id,
            version.plan_id,
            version.id,
            version.created_at,
        )


async def rename_plan(
    tx: Tx, org_id: UUID, plan_id: UUID, *, name: str, description: str | None, now: datetime
) -> None:
    await tx.execute(
        "update plans set name = $3, description = $4, updated_at = $5 where org_id = $1 and id = $2",
        org_id,
        plan_id,
        name,
        description,
        now,
    )


async def set_metadata(
    tx: Tx, org_id: UUID, plan_id: UUID, metadata: Mapping[str, str | None] | None, now: datetime
) -> None:
    await tx.execute(
        "update plans set metadata = $3, updated_at = $4 where org_id = $1 and id = $2",
        org_id,
        plan_id,
        metadata,
        now,
    )


async def delete_plan(tx: Tx, org_id: UUID, plan_id: UUID, now: datetime) -> None:
    await tx.execute("update plans set deleted_at = $3 where org_id = $1 and id = $2", org_id, plan_id, now)


async def count_subscriptions(tx: Tx, org_id: UUID, plan_id: UUID) -> int:
    """Subscriptions on the plan that still run or will."""
    count = await tx.fetchval(
        "select count(*) from subscriptions where org_id = $1 and plan_id = $2 and status in ('active', 'pending')",
        org_id,
        plan_id,
    )
    assert isinstance(count, int)
    return count


async def set_entitlement(
    tx: Tx, org_id: UUID, plan_id: UUID, feature_id: UUID, privileges: Mapping[str, Any], now: datetime
) -> None:
    await tx.execute(
        """
        insert into plan_entitlements (org_id, plan_id, feature_id, privileges, created_at) values ($1, $2, $3, $4, $5)
        on conflict (org_id, plan_id, feature_id) do update set privileges = excluded.privileges
        """,
        org_id,
        plan_id,
        feature_id,
        privileges,
        now,
    )


async def delete_entitlement(tx: Tx, org_id: UUID, plan_id: UUID, feature_id: UUID) -> None:
    await tx.execute(
        "delete from plan_entitlements where org_id = $1 and plan_id = $2 and feature_id = $3",
        org_id,
        plan_id,
        feature_id,
    )


@read_once
async def plan_names(tx: Tx, org_id: UUID, plan_id: UUID) -> tuple[str, str]:
    """A plan's code and what it is called now."""
    row = await tx.fetchrow("select code, name from plans where org_id = $1 and id = $2", org_id, plan_id)
    assert row is not None, "a subscription's plan exists: plans are only marked as deleted"
    return row["code"], row["name"]
