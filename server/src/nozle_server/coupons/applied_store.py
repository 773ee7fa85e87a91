"""All SQL of the coupons that customers have, and of what invoices took of them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.coupons.apply import Discount
from nozle_server.coupons.model import AppliedCoupon, CouponUse
from nozle_server.coupons.store import coupons_by_id, terms_from_row
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx

_APPLIED = """a.org_id, a.id, a.coupon_id, a.customer_id, cu.external_id as external_customer_id, a.amount_cents,
    a.currency, a.percentage_rate, a.frequency, a.frequency_duration, a.frequency_duration_remaining, a.status,
    a.terminated_at, a.created_at,
    (select coalesce(sum(u.amount_cents), 0) from coupon_uses u
     where u.org_id = a.org_id and u.applied_coupon_id = a.id and not u.given_back) as used_cents"""
_FROM = "from applied_coupons a join customers cu on cu.org_id = a.org_id and cu.id = a.customer_id"

_USE = """u.id, u.applied_coupon_id, u.invoice_id, u.amount_cents, i.currency, i.payment_status, u.created_at
    from coupon_uses u join invoices i on i.org_id = u.org_id and i.id = u.invoice_id"""


async def _from_rows(tx: Tx, org_id: UUID, rows: Sequence[asyncpg.Record]) -> list[AppliedCoupon]:
    coupons = await coupons_by_id(tx, org_id, [row["coupon_id"] for row in rows]) if rows else {}
    return [
        AppliedCoupon(
            org_id=row["org_id"],
            id=row["id"],
            coupon=coupons[row["coupon_id"]],
            customer_id=row["customer_id"],
            external_customer_id=row["external_customer_id"],
            terms=terms_from_row(row),
            frequency_duration_remaining=row["frequency_duration_remaining"],
            used_cents=int(row["used_cents"]),
            status=row["status"],
            terminated_at=row["terminated_at"],
            created_at=row["created_at"],
        )
        for row in rows
    ]


async def list_applied(
    tx: Tx,
    org_id: UUID,
    *,
    external_customer_id: str | None,
    coupon_codes: Sequence[str],
    status: str | None,
    limit: int,
    offset: int,
) -> tuple[list[AppliedCoupon], int]:
    """Newest first; every filter that is None or empty lets all pass. Those of removed customers are left out."""
    where = """where a.org_id = $1 and cu.deleted_at is null and ($2::text is null or cu.external_id = $2)
        and (cardinality($3::text[]) = 0 or exists (select from coupons c
             where c.org_id = a.org_id and c.id = a.coupon_id and c.code = any($3)))
        and ($4::text is null or a.status = $4)"""
    filters = (org_id, external_customer_id, list(coupon_codes), status)
    total = await tx.fetchval(f"select count(*) {_FROM} {where}", *filters)
    rows = await tx.fetch(
        f"select {_APPLIED} {_FROM} {where} order by a.created_at desc, a.id desc limit $5 offset $6",
        *filters,
        limit,
        offset,
    )
    return await _from_rows(tx, org_id, rows), total


async def customers_with_coupons(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these customers that `active_of_customer` finds something for."""
    rows = await tx.fetch(
        """select distinct customer_id from applied_coupons
           where org_id = $1 and customer_id = any($2) and status = 'active'""",
        org_id,
        list(customer_ids),
    )
    return {row["customer_id"] for row in rows}


@read_once
async def active_of_customer(
    tx: Tx, org_id: UUID, customer_id: UUID, *, until: datetime | None = None, lock: bool = False
) -> list[AppliedCoupon]:
    """What the customer has (`until` an instant: and had then), in the order in which it was given."""
    if lock:
        # By a statement of its own: one that waits for a row would not see what has been taken of it meanwhile.
        await tx.execute(
            """select 1 from applied_coupons where org_id = $1 and customer_id = $2 and status = 'active'
               order by created_at, id for no key update""",
            org_id,
            customer_id,
        )
    rows = await tx.fetch(
        f"""select {_APPLIED} {_FROM} where a.org_id = $1 and a.customer_id = $2 and a.status = 'active'
              and ($3::timestamptz is null or a.created_at <= $3)
            order by a.created_at, a.id""",
        org_id,
        customer_id,
        until,
    )
    return await _from_rows(tx, org_id, rows)


async def find_of_customer(
    tx: Tx, org_id: UUID, customer_id: UUID, applied_coupon_id: UUID
) -> AppliedCoupon | None:
    rows = await tx.fetch(
        f"select {_APPLIED} {_FROM} where a.org_id = $1 and a.customer_id = $2 and a.id = $3",
        org_id,
        customer_id,
        applied_coupon_id,
    )
    return next(iter(await _from_rows(tx, org_id, rows)), None)


async def had_coupon(tx: Tx, org_id: UUID, customer_id: UUID, coupon_id: UUID) -> bool:
    """Whether the customer has the coupon, or had it."""
    return bool(
        await tx.fetchval(
            """select exists (select from applied_coupons
                              where org_id = $1 and customer_id = $2 and coupon_id = $3)""",
            org_id,
            customer_id,
            coupon_id,
        )
    )


async def insert_applied(tx: Tx, applied: AppliedCoupon) -> None:
    await tx.execute(
        """
        insert into applied_coupons (org_id, id, coupon_id, customer_id, amount_cents, currency, percentage_rate,
            frequency, frequency_duration, frequency_duration_remaining, status, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        applied.org_id,
        applied.id,
        applied.coupon.id,
        applied.customer_id,
        applied.terms.amount_cents,
        applied.terms.currency,
        applied.terms.percentage_rate,
        applied.terms.frequency,
        applied.terms.frequency_duration,
        applied.frequency_duration_remaining,
        applied.status,
        applied.created_at,
    )


async def end_applied(
    tx: Tx, org_id: UUID, *, customer_id: UUID, applied_coupon_id: UUID, now: datetime
) -> None:
    """Take it away from its customer; what has ended before stays as it was."""
    await tx.execute(
        """
        update applied_coupons set status = 'terminated', terminated_at = $4, ended_by = 'removal'
        where org_id = $1 and customer_id = $2 and id = $3 and status = 'active'
        """,
        org_id,
        customer_id,
        applied_coupon_id,
        now,
    )


async def record_use(
    tx: Tx, org_id: UUID, use_id: UUID, invoice_id: UUID, discount: Discount, now: datetime
) -> None:
    """Write down what an invoice took, and end the coupon when nothing is left of it."""
    await tx.execute(
        """
        insert into coupon_uses (org_id, id, applied_coupon_id, invoice_id, amount_cents, created_at)
        values ($1, $2, $3, $4, $5, $6)
        """,
        org_id,
        use_id,
        discount.applied_coupon_id,
        invoice_id,
        discount.amount_cents,
        now,
    )
    counted = await tx.execute(
        """
        with applied as (
            select a.id, a.frequency_duration_remaining - 1 as periods_left, case a.frequency
                when 'recurring' then a.frequency_duration_remaining <= 1
                when 'forever' then false
                else a.amount_cents is null or a.amount_cents <= (
                    select sum(u.amount_cents) from coupon_uses u
                    where u.org_id = a.org_id and u.applied_coupon_id = a.id and not u.given_back)
                end as used_up
            from applied_coupons a where a.org_id = $1 and a.id = $2
        )
        update applied_coupons a set frequency_duration_remaining = applied.periods_left,
            status = case when used_up then 'terminated' else 'active' end,
            terminated_at = case when used_up then $3::timestamptz end, ended_by = case when used_up then 'use' end
        from applied where a.org_id = $1 and a.id = applied.id and a.status = 'active'
        """,
        org_id,
        discount.applied_coupon_id,
        now,
    )
    assert counted == "UPDATE 1", "discounts come from coupons that are active and locked"


async def give_back(tx: Tx, org_id: UUID, invoice_id: UUID) -> None:
    """Undo what an invoice took. What had been used up comes back; what was taken away, or deleted, does not."""
    await tx.execute(
        """
        with given as (
            update coupon_uses set given_back = true where org_id = $1 and invoice_id = $2 and not given_back
            returning applied_coupon_id
        ), back as (
            select a.id, a.ended_by = 'use' and c.deleted_at is null as again
            from applied_coupons a join given on given.applied_coupon_id = a.id
            join coupons c on c.org_id = a.org_id and c.id = a.coupon_id
            where a.org_id = $1
        )
        update applied_coupons a set
            frequency_duration_remaining = least(a.frequency_duration_remaining + 1, a.frequency_duration),
            status = case when again then 'active' else a.status end,
            terminated_at = case when again then null else a.terminated_at end,
            ended_by = case when again then null else a.ended_by end
        from back where a.org_id = $1 and a.id = back.id
        """,
        org_id,
        invoice_id,
    )


async def uses_of(tx: Tx, org_id: UUID, applied_coupon_ids: Sequence[UUID]) -> list[CouponUse]:
    """What invoices took of these, in order; also what was given back."""
    rows = await tx.fetch(
        f"""select {_USE} where u.org_id = $1 and u.applied_coupon_id = any($2) order by u.created_at, u.id""",
        org_id,
        list(applied_coupon_ids),
    )
    return [CouponUse(**{**dict(row), "amount_cents": int(row["amount_cents"])}) for row in rows]
