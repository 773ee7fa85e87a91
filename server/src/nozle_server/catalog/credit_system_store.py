"""All SQL of credit systems and rates, and rows <-> values.

Who changes a system calls `hold_systems` first: one change of an organization's systems at a time, each told by a higher
`organizations.credits_version`.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.catalog.credit_model import CreditRate, CreditSystem, SystemStatus
from nozle_server.infra.database import Tx

_SYSTEM = "org_id, id, code, name, description, unit_name, status, features, created_at, updated_at"
_RATE = """r.org_id, r.id, r.credit_system_id, s.code as credit_system, r.metric_id, r.metric_amount, r.credit_amount,
    r.effective_from, r.effective_to, r.created_at"""
_OF_SYSTEM = "join credit_systems s on s.org_id = r.org_id and s.id = r.credit_system_id"


def system_from_row(row: asyncpg.Record) -> CreditSystem:
    return CreditSystem(
        **{**dict(row), "status": SystemStatus(row["status"]), "features": tuple(row["features"])}
    )


def rate_from_row(row: asyncpg.Record) -> CreditRate:
    return CreditRate(**dict(row))


async def hold_systems(tx: Tx, org_id: UUID) -> None:
    """Take one's turn to change the organization's credit systems, and have what others remember of them be out of date
    once this is committed."""
    await tx.execute("update organizations set credits_version = credits_version + 1 where id = $1", org_id)


async def find_system(tx: Tx, org_id: UUID, code: str) -> CreditSystem | None:
    row = await tx.fetchrow(
        f"select {_SYSTEM} from credit_systems where org_id = $1 and code = $2", org_id, code
    )
    return system_from_row(row) if row else None


async def lock_system(tx: Tx, org_id: UUID, code: str) -> CreditSystem | None:
    """The system, held until the transaction ends: nobody begins to grant or rate it meanwhile."""
    row = await tx.fetchrow(
        f"select {_SYSTEM} from credit_systems where org_id = $1 and code = $2 for update", org_id, code
    )
    return system_from_row(row) if row else None


async def hold_by_code(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, CreditSystem]:
    """Those of these systems that exist, by code; they are not archived until the transaction ends, and others may hold
    them too."""
    rows = await tx.fetch(
        f"select {_SYSTEM} from credit_systems where org_id = $1 and code = any($2) order by id for key share",
        org_id,
        list(codes),
    )
    return {row["code"]: system_from_row(row) for row in rows}


async def list_systems(
    tx: Tx, org_id: UUID, status: SystemStatus | None, *, limit: int, offset: int
) -> tuple[list[CreditSystem], int]:
    """A page of the organization's systems, the oldest first, and how many there are."""
    where = "from credit_systems where org_id = $1 and ($2::text is null or status = $2)"
    total = await tx.fetchval(f"select count(*) {where}", org_id, status)
    rows = await tx.fetch(
        f"select {_SYSTEM} {where} order by created_at, id limit $3 offset $4", org_id, status, limit, offset
    )
    return [system_from_row(row) for row in rows], total


async def owners_of_features(tx: Tx, org_id: UUID, features: Sequence[str]) -> dict[str, str]:
    """The code of the system that each of these labels belongs to; those of none are not among the keys."""
    rows = await tx.fetch(
        """select f.feature, s.code from credit_system_features f
           join credit_systems s on s.org_id = f.org_id and s.id = f.credit_system_id
           where f.org_id = $1 and f.feature = any($2)""",
        org_id,
        list(features),
    )
    return {row["feature"]: row["code"] for row in rows}


async def insert_system(tx: Tx, system: CreditSystem) -> bool:
    """False when the code is taken."""
    inserted = await tx.fetchval(
        f"""insert into credit_systems ({_SYSTEM}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            on conflict (org_id, code) do nothing returning true""",
        *_values(system),
    )
    return inserted is not None


async def update_system(tx: Tx, system: CreditSystem) -> None:
    await tx.execute(
        """update credit_systems set code = $3, name = $4, description = $5, unit_name = $6, status = $7, features = $8,
               created_at = $9, updated_at = $10
           where org_id = $1 and id = $2""",
        *_values(system),
    )


def _values(system: CreditSystem) -> tuple[object, ...]:
    return (
        system.org_id,
        system.id,
        system.code,
        system.name,
        system.description,
        system.unit_name,
        system.status,
        list(system.features),
        system.created_at,
        system.updated_at,
    )


async def is_granted_by_plans(tx: Tx, org_id: UUID, code: str) -> bool:
    """Whether a plan that can be taken, or that somebody has, grants credits of the system."""
    return bool(
        await tx.fetchval(
            """
            select exists (
                select 1 from plan_versions v join plans p on p.org_id = v.org_id and p.id = v.plan_id
                where v.org_id = $1
                  and v.credit_grants @> jsonb_build_array(jsonb_build_object('credit_system', $2::text))
                  and (p.current_version_id = v.id and p.deleted_at is null
                       or exists (select 1 from subscriptions s where s.org_id = v.org_id and s.plan_version_id = v.id
                                    and s.status in ('active', 'pending'))))
            """,
            org_id,
            code,
        )
    )


async def rates_of_system(tx: Tx, org_id: UUID, system_id: UUID) -> list[CreditRate]:
    """Every version of every rate of a system, in order of metric and time."""
    rows = await tx.fetch(
        f"""select {_RATE} from credit_rates r {_OF_SYSTEM}
            where r.org_id = $1 and r.credit_system_id = $2
            order by r.metric_id, r.effective_from, r.created_at, r.id""",
        org_id,
        system_id,
    )
    return [rate_from_row(row) for row in rows]


async def versions_of_rate(tx: Tx, org_id: UUID, system_id: UUID, metric_id: UUID) -> list[CreditRate]:
    """Every version of a metric's rate in a system, in order of time."""
    rows = await tx.fetch(
        f"""select {_RATE} from credit_rates r {_OF_SYSTEM}
            where r.org_id = $1 and r.credit_system_id = $2 and r.metric_id = $3
            order by r.effective_from, r.created_at, r.id""",
        org_id,
        system_id,
        metric_id,
    )
    return [rate_from_row(row) for row in rows]


async def rates_at(tx: Tx, org_id: UUID, code: str | None, metric_id: UUID, at: datetime) -> list[CreditRate]:
    """What rates a metric at an instant: in one system, or in all that are active."""
    rows = await tx.fetch(
        f"""select {_RATE} from credit_rates r {_OF_SYSTEM}
            where r.org_id = $1 and r.metric_id = $2 and r.effective_from <= $3
              and (r.effective_to is null or r.effective_to > $3)
              and case when $4::text is null then s.status = 'active' else s.code = $4 end""",
        org_id,
        metric_id,
        at,
        code,
    )
    return [rate_from_row(row) for row in rows]


async def metric_has_rates(tx: Tx, org_id: UUID, metric_id: UUID) -> bool:
    """Whether the metric has or ever had a rate."""
    return bool(
        await tx.fetchval(
            "select exists (select 1 from credit_rates where org_id = $1 and metric_id = $2)",
            org_id,
            metric_id,
        )
    )


async def insert_rate(tx: Tx, rate: CreditRate) -> None:
    await tx.execute(
        """insert into credit_rates (org_id, id, credit_system_id, metric_id, metric_amount, credit_amount,
               effective_from, effective_to, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        rate.org_id,
        rate.id,
        rate.credit_system_id,
        rate.metric_id,
        rate.metric_amount,
        rate.credit_amount,
        rate.effective_from,
        rate.effective_to,
        rate.created_at,
    )


async def close_rates(tx: Tx, closed: Sequence[CreditRate]) -> None:
    """Store when versions of one organization end; nothing else of them ever changes."""
    await tx.executemany(
        "update credit_rates set effective_to = $3 where org_id = $1 and id = $2",
        [(one.org_id, one.id, one.effective_to) for one in closed],
    )
