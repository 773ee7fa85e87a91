"""SQL over the usage on invoices: past periods of a subscription, and what was ever billed for its usage."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class UsagePeriod:
    """A period of usage that an invoice is about."""

    invoice_id: UUID
    subscription_id: UUID
    start: datetime
    end: datetime


async def list_past_periods(
    tx: Tx, org_id: UUID, customer_id: UUID, external_subscription_id: str, *, limit: int, offset: int
) -> tuple[list[UsagePeriod], int]:
    """A page of the periods of usage on final invoices and drafts, newest first, and how many there are."""
    where = """
        from invoice_subscriptions i
        join subscriptions s on s.org_id = i.org_id and s.id = i.subscription_id
        join invoices v on v.org_id = i.org_id and v.id = i.invoice_id
        where i.org_id = $1 and s.customer_id = $2 and s.external_id = $3 and i.charges_start is not null
          and i.reason in ('subscription_periodic', 'subscription_terminating') and v.status in ('draft', 'finalized')
    """
    values = (org_id, customer_id, external_subscription_id)
    total = await tx.fetchval(f"select count(*) {where}", *values)
    rows = await tx.fetch(
        f"""select i.invoice_id, i.subscription_id, i.charges_start as start, i.charges_end as end {where}
            order by i.charges_start desc, i.invoice_id desc limit $4 offset $5""",
        *values,
        limit,
        offset,
    )
    return [UsagePeriod(**row) for row in rows], total


async def usage_billed_before(tx: Tx, org_id: UUID, external_subscription_id: str, before: datetime) -> int:
    """Minor units of usage of periods that ended at or before `before`, over all subscriptions of a chain, without tax;
    from final invoices, drafts, and fees paid in advance. Progressive invoices are left out: the period's invoice charges
    the same usage again."""
    billed = await tx.fetchval(
        """
        select coalesce(sum(l.amount_cents), 0)
        from subscriptions s
        join invoice_lines l on l.org_id = s.org_id and l.subscription_id = s.id
        left join invoices v on v.org_id = l.org_id and v.id = l.invoice_id
        where s.org_id = $1 and s.external_id = $2 and l.kind = 'charge' and l.period_end <= $3
          and (v.id is null or v.status in ('draft', 'finalized') and v.invoice_type <> 'progressive_billing')
        """,
        org_id,
        external_subscription_id,
        before,
    )
    return int(billed)


async def historical_usage(tx: Tx, org_id: UUID, external_subscription_id: str) -> int:
    """Minor units used before the merchant came to us; 0 when nothing was said."""
    found = await tx.fetchval(
        "select amount_cents from historical_usage where org_id = $1 and external_subscription_id = $2",
        org_id,
        external_subscription_id,
    )
    return int(found or 0)


async def set_historical_usage(
    tx: Tx, org_id: UUID, external_subscription_id: str, amount_cents: int, now: datetime
) -> None:
    await tx.execute(
        """insert into historical_usage (org_id, external_subscription_id, amount_cents, updated_at)
           values ($1, $2, $3, $4)
           on conflict (org_id, external_subscription_id) do update
           set amount_cents = excluded.amount_cents, updated_at = excluded.updated_at""",
        org_id,
        external_subscription_id,
        amount_cents,
        now,
    )
