"""All SQL of coupons as they are defined, and rows <-> values."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from nozle_server.coupons.model import Coupon, CouponType, Frequency, Limits, Terms
from nozle_server.infra.database import Tx

_COUPON = """c.org_id, c.id, c.code, c.name, c.description, c.coupon_type, c.amount_cents, c.currency, c.percentage_rate,
    c.frequency, c.frequency_duration, c.expiration_at, c.reusable, c.limited_plans, c.limited_billable_metrics,
    c.created_at, c.updated_at, c.deleted_at,
    array(select cp.plan_id from coupon_plans cp where cp.org_id = c.org_id and cp.coupon_id = c.id) as plan_ids,
    array(select p.code from coupon_plans cp join plans p on p.org_id = cp.org_id and p.id = cp.plan_id
          where cp.org_id = c.org_id and cp.coupon_id = c.id and p.deleted_at is null order by p.code) as plan_codes,
    array(select cm.metric_id from coupon_metrics cm where cm.org_id = c.org_id and cm.coupon_id = c.id) as metric_ids,
    array(select m.code from coupon_metrics cm join billable_metrics m on m.org_id = cm.org_id and m.id = cm.metric_id
          where cm.org_id = c.org_id and cm.coupon_id = c.id and m.deleted_at is null order by m.code) as metric_codes"""


def terms_from_row(row: asyncpg.Record) -> Terms:
    rate: Decimal | None = row["percentage_rate"]
    return Terms(
        amount_cents=row["amount_cents"],
        currency=row["currency"],
        percentage_rate=rate,
        frequency=Frequency(row["frequency"]),
        frequency_duration=row["frequency_duration"],
    )


def coupon_from_row(row: asyncpg.Record) -> Coupon:
    return Coupon(
        org_id=row["org_id"],
        id=row["id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        coupon_type=CouponType(row["coupon_type"]),
        terms=terms_from_row(row),
        limits=Limits(
            limited_plans=row["limited_plans"],
            limited_billable_metrics=row["limited_billable_metrics"],
            plan_ids=frozenset(row["plan_ids"]),
            plan_codes=tuple(row["plan_codes"]),
            metric_ids=frozenset(row["metric_ids"]),
            metric_codes=tuple(row["metric_codes"]),
        ),
        expiration_at=row["expiration_at"],
        reusable=row["reusable"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )


async def find_coupon(tx: Tx, org_id: UUID, code: str) -> Coupon | None:
    row = await tx.fetchrow(
        f"select {_COUPON} from coupons c where c.org_id = $1 and c.code = $2 and c.deleted_at is null",
        org_id,
        code,
    )
    return coupon_from_row(row) if row else None


async def lock_coupon(tx: Tx, org_id: UUID, code: str) -> Coupon | None:
    """The coupon, held until the transaction ends: one change at a time, and nobody is given it meanwhile."""
    await tx.execute(
        "select 1 from coupons where org_id = $1 and code = $2 and deleted_at is null for update",
        org_id,
        code,
    )
    return await find_coupon(tx, org_id, code)


async def hold_coupon(tx: Tx, org_id: UUID, code: str) -> Coupon | None:
    """The coupon, which cannot be changed or removed until the transaction ends; others may hold it too."""
    await tx.execute(
        "select 1 from coupons where org_id = $1 and code = $2 and deleted_at is null for key share",
        org_id,
        code,
    )
    return await find_coupon(tx, org_id, code)


async def coupons_by_id(tx: Tx, org_id: UUID, coupon_ids: Sequence[UUID]) -> dict[UUID, Coupon]:
    """Coupons that something refers to, also those that have been removed."""
    rows = await tx.fetch(
        f"select {_COUPON} from coupons c where c.org_id = $1 and c.id = any($2)", org_id, list(coupon_ids)
    )
    return {row["id"]: coupon_from_row(row) for row in rows}


async def list_coupons(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Coupon], int]:
    total = await tx.fetchval("select count(*) from coupons where org_id = $1 and deleted_at is null", org_id)
    rows = await tx.fetch(
        f"""select {_COUPON} from coupons c where c.org_id = $1 and c.deleted_at is null
            order by c.created_at desc, c.id desc limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [coupon_from_row(row) for row in rows], total


async def code_is_taken(tx: Tx, coupon: Coupon) -> bool:
    """Whether another coupon has this one's code."""
    return bool(
        await tx.fetchval(
            "select true from coupons where org_id = $1 and code = $2 and id <> $3 and deleted_at is null",
            coupon.org_id,
            coupon.code,
            coupon.id,
        )
    )


async def insert_coupon(tx: Tx, coupon: Coupon) -> bool:
    """False when the code is taken."""
    inserted = await tx.fetchval(
        """
        insert into coupons (org_id, id, code, name, description, coupon_type, amount_cents, currency, percentage_rate,
            frequency, frequency_duration, expiration_at, reusable, limited_plans, limited_billable_metrics, updated_at,
            created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        on conflict (org_id, code) where deleted_at is null do nothing returning true
        """,
        *_values(coupon),
        coupon.created_at,
    )
    if inserted:
        await _set_targets(tx, coupon)
    return inserted is not None


async def update_coupon(tx: Tx, coupon: Coupon) -> None:
    await tx.execute(
        """
        update coupons set code = $3, name = $4, description = $5, coupon_type = $6, amount_cents = $7, currency = $8,
            percentage_rate = $9, frequency = $10, frequency_duration = $11, expiration_at = $12, reusable = $13,
            limited_plans = $14, limited_billable_metrics = $15, updated_at = $16
        where org_id = $1 and id = $2
        """,
        *_values(coupon),
    )
    await _set_targets(tx, coupon)


def _values(coupon: Coupon) -> tuple[object, ...]:
    return (
        coupon.org_id,
        coupon.id,
        coupon.code,
        coupon.name,
        coupon.description,
        coupon.coupon_type,
        coupon.terms.amount_cents,
        coupon.terms.currency,
        coupon.terms.percentage_rate,
        coupon.terms.frequency,
        coupon.terms.frequency_duration,
        coupon.expiration_at,
        coupon.reusable,
        coupon.limits.limited_plans,
        coupon.limits.limited_billable_metrics,
        coupon.updated_at,
    )


async def _set_targets(tx: Tx, coupon: Coupon) -> None:
    for table, column, ids in (
        ("coupon_plans", "plan_id", coupon.limits.plan_ids),
        ("coupon_metrics", "metric_id", coupon.limits.metric_ids),
    ):
        await tx.execute(
            f"delete from {table} where org_id = $1 and coupon_id = $2 and {column} <> all($3)",
            coupon.org_id,
            coupon.id,
            list(ids),
        )
        await tx.execute(
            f"""insert into {table} (org_id, coupon_id, {column}) select $1, $2, unnest($3::uuid[])
                on conflict do nothing""",
            coupon.org_id,
            coupon.id,
            list(ids),
        )


async def delete_coupon(tx: Tx, org_id: UUID, coupon_id: UUID, now: datetime) -> None:
    """Customers who have it lose what is left of it."""
    await tx.execute(
        "update coupons set deleted_at = $3 where org_id = $1 and id = $2", org_id, coupon_id, now
    )
    await tx.execute(
        """
        update applied_coupons set status = 'terminated', terminated_at = $3, ended_by = 'removal'
        where org_id = $1 and coupon_id = $2 and status = 'active'
        """,
        org_id,
        coupon_id,
        now,
    )


async def is_applied(tx: Tx, org_id: UUID, coupon_id: UUID) -> bool:
    """Whether a customer has the coupon, or had it."""
    return bool(
        await tx.fetchval(
            "select exists (select from applied_coupons where org_id = $1 and coupon_id = $2)",
            org_id,
            coupon_id,
        )
    )
