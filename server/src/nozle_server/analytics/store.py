"""All SQL of analytics: it reads what invoicing wrote, and writes nothing. Months are of issuing dates, which stand on the
invoices in the customer's zone; of instants in the organization's."""

from datetime import date, timedelta
from uuid import UUID

from nozle_server.analytics.model import (
    Collection,
    InvoicedUsage,
    Overdue,
    Range,
    Revenue,
    SubscriptionFees,
)
from nozle_server.core.periods import Interval
from nozle_server.infra.database import Tx

_LONGEST = timedelta(days=400)
"""How far back a yearly fee may have been issued that still counts today."""

_ISSUED = """i.org_id = $1 and i.status = 'finalized' and i.payment_dispute_lost_at is null
    and ($2::text is null or i.currency = $2)"""


async def first_month(tx: Tx, org_id: UUID) -> date | None:
    """The month of the first invoice."""
    first: date | None = await tx.fetchval(
        "select date_trunc('month', min(issuing_date))::date from invoices where org_id = $1", org_id
    )
    return first


async def gross_revenue(tx: Tx, org_id: UUID, wanted: Range, timezone: str) -> list[Revenue]:
    rows = await tx.fetch(
        f"""
        with revenue as (
            select date_trunc('month', i.issuing_date)::date as month, i.currency, 1 as invoices_count,
                i.total_amount_cents - coalesce((select sum(c.refund_amount_cents) from credit_notes c
                    where c.org_id = i.org_id and c.invoice_id = i.id), 0) as amount_cents
            from invoices i
            where {_ISSUED} and i.issuing_date >= $3::date and i.issuing_date < $4::date + interval '1 month'
              and ($5::uuid is null or i.customer_id = $5)
            union all
            select date_trunc('month', l.created_at at time zone $6)::date, l.currency, 0, l.amount_cents
            from invoice_lines l
            where l.org_id = $1 and l.invoice_id is null and l.pay_in_advance
              and ($2::text is null or l.currency = $2) and ($5::uuid is null or l.customer_id = $5)
        )
        select month, currency, sum(amount_cents) as amount_cents, sum(invoices_count) as invoices_count
        from revenue where month between $3::date and $4::date group by month, currency order by month, currency
        """,
        org_id,
        wanted.currency,
        wanted.first,
        wanted.last,
        wanted.customer_id,
        timezone,
    )
    return [
        Revenue(row["month"], row["currency"], int(row["amount_cents"]), int(row["invoices_count"]))
        for row in rows
    ]


async def invoice_collection(tx: Tx, org_id: UUID, wanted: Range) -> list[Collection]:
    rows = await tx.fetch(
        f"""
        select date_trunc('month', i.issuing_date)::date as month, i.payment_status, i.currency, count(*) as invoices_count,
            sum(i.total_amount_cents) as amount_cents
        from invoices i
        where {_ISSUED} and i.issuing_date >= $3::date and i.issuing_date < $4::date + interval '1 month'
        group by 1, 2, 3 order by 1, 2, 3
        """,
        org_id,
        wanted.currency,
        wanted.first,
        wanted.last,
    )
    return [Collection(**{**row, "amount_cents": int(row["amount_cents"])}) for row in rows]


async def invoiced_usage(tx: Tx, org_id: UUID, wanted: Range) -> list[InvoicedUsage]:
    rows = await tx.fetch(
        f"""
        select date_trunc('month', i.issuing_date)::date as month, m.code, i.currency,
            sum(l.amount_cents - l.coupons_exact_amount_cents) as amount_cents
        from invoices i
        join invoice_lines l on l.org_id = i.org_id and l.invoice_id = i.id and l.kind = 'charge'
        join billable_metrics m on m.org_id = l.org_id and m.id = l.metric_id
        where {_ISSUED} and i.invoice_type <> 'progressive_billing'
          and i.issuing_date >= $3::date and i.issuing_date < $4::date + interval '1 month'
        group by 1, 2, 3 order by 1 desc, 4 desc, 2, 3
        """,
        org_id,
        wanted.currency,
        wanted.first,
        wanted.last,
    )
    return [InvoicedUsage(**row) for row in rows]


async def overdue_balance(tx: Tx, org_id: UUID, wanted: Range, today: date) -> list[Overdue]:
    rows = await tx.fetch(
        f"""
        select date_trunc('month', i.payment_due_date)::date as month, i.currency,
            sum(i.total_amount_cents - i.total_paid_amount_cents - coalesce((select sum(c.offset_amount_cents)
                from credit_notes c where c.org_id = i.org_id and c.invoice_id = i.id), 0)) as amount_cents,
            array_agg(i.id order by i.payment_due_date, i.id) as invoice_ids
        from invoices i
        where {_ISSUED} and i.payment_status <> 'succeeded' and i.payment_due_date < $3
          and date_trunc('month', i.payment_due_date)::date between $4::date and $5::date
          and ($6::uuid is null or i.customer_id = $6)
        group by 1, 2 order by 1, 2
        """,
        org_id,
        wanted.currency,
        today,
        wanted.first,
        wanted.last,
        wanted.customer_id,
    )
    return [
        Overdue(row["month"], row["currency"], int(row["amount_cents"]), tuple(row["invoice_ids"]))
        for row in rows
    ]


async def subscription_fees(tx: Tx, org_id: UUID, wanted: Range) -> list[SubscriptionFees]:
    """The fees that may count in the months asked for: alike ones together, whole minor units each."""
    rows = await tx.fetch(
        f"""
        select i.issuing_date as issued_on, v.interval, v.pay_in_advance, i.currency, count(*) as count,
            (l.period_end at time zone s.timezone)::date - (l.period_start at time zone s.timezone)::date as days,
            sum(l.amount_cents - round(l.coupons_exact_amount_cents) + l.taxes_amount_cents) as amount_cents
        from invoices i
        join invoice_lines l on l.org_id = i.org_id and l.invoice_id = i.id and l.kind = 'subscription'
        join plan_versions v on v.org_id = l.org_id and v.id = l.plan_version_id
        join subscriptions s on s.org_id = l.org_id and s.id = l.subscription_id
        where {_ISSUED} and i.issuing_date >= $3::date and i.issuing_date < $4::date + interval '1 month'
        group by 1, 2, 3, 4, 6 order by 1, 2, 3, 4, 6
        """,
        org_id,
        wanted.currency,
        wanted.first - _LONGEST,
        wanted.last,
    )
    return [
        SubscriptionFees(
            **{
                **row,
                "interval": Interval(row["interval"]),
                "amount_cents": int(row["amount_cents"]),
                "days": max(1, row["days"]),
            }
        )
        for row in rows
    ]
