"""All SQL of late usage: which closed periods events came for, and what was billed for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.store import LINE_COLUMNS, line_from_row


@dataclass(frozen=True, slots=True)
class LatePeriod:
    """A closed period of a subscription's usage that `events_count` events of a metric came for afterwards."""

    subscription_id: UUID
    metric_id: UUID
    period_start: datetime
    period_end: datetime
    events_count: int


async def mark(tx: Tx, org_id: UUID, late: LatePeriod, now: datetime) -> None:
    """Note late events; waits for who is correcting the period at this moment, and then marks it anew."""
    await tx.execute(
        """
        insert into late_periods as l (org_id, subscription_id, metric_id, period_start, period_end, events_count,
            first_received_at, last_received_at)
        values ($1, $2, $3, $4, $5, $6, $7, $7)
        on conflict (org_id, subscription_id, metric_id, period_start) do update
            set events_count = l.events_count + excluded.events_count, last_received_at = excluded.last_received_at
        """,
        org_id,
        late.subscription_id,
        late.metric_id,
        late.period_start,
        late.period_end,
        late.events_count,
        now,
    )


async def subscriptions_with_late(tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these subscriptions that `list_late` finds something for."""
    rows = await tx.fetch(
        "select distinct subscription_id from late_periods where org_id = $1 and subscription_id = any($2)",
        org_id,
        list(subscription_ids),
    )
    return {row["subscription_id"] for row in rows}


@read_once
async def list_late(tx: Tx, org_id: UUID, subscription_id: UUID, *, lock: bool = False) -> list[LatePeriod]:
    """What waits to be corrected, the earliest first; `lock` keeps others from adding to it."""
    rows = await tx.fetch(
        f"""select subscription_id, metric_id, period_start, period_end, events_count from late_periods
            where org_id = $1 and subscription_id = $2 order by period_start, metric_id
            {"for update" if lock else ""}""",
        org_id,
        subscription_id,
    )
    return [LatePeriod(**dict(row)) for row in rows]


async def unmark(tx: Tx, org_id: UUID, subscription_id: UUID, period_start: datetime) -> None:
    await tx.execute(
        "delete from late_periods where org_id = $1 and subscription_id = $2 and period_start = $3",
        org_id,
        subscription_id,
        period_start,
    )


async def invoice_of_period(tx: Tx, org_id: UUID, subscription_id: UUID, start: datetime) -> UUID | None:
    """The invoice that a period of usage is on, if that can no longer change."""
    found: UUID | None = await tx.fetchval(
        """
        select i.id from invoice_subscriptions s
        join invoices i on i.org_id = s.org_id and i.id = s.invoice_id
        where s.org_id = $1 and s.subscription_id = $2 and s.charges_start = $3
          and s.reason in ('subscription_periodic', 'subscription_terminating')
          and i.status in ('finalized', 'voided', 'closed')
        order by i.created_at limit 1
        """,
        org_id,
        subscription_id,
        start,
    )
    return found


async def commitments_around(
    tx: Tx, org_id: UUID, subscription_id: UUID, start: datetime, end: datetime
) -> list[InvoiceLine]:
    """The true-ups billed for the fee's period that contains [start, end), the first one first."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    rows = await tx.fetch(
        f"""
        select {columns} from invoice_lines l left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
        where l.org_id = $1 and l.subscription_id = $2 and l.kind = 'commitment'
          and l.period_start <= $3 and l.period_end >= $4
          and (l.invoice_id is null or i.status in ('finalized', 'voided'))
        order by l.created_at, l.id
        """,
        org_id,
        subscription_id,
        start,
        end,
    )
    return [line_from_row(row) for row in rows]


async def lines_adjusting(tx: Tx, org_id: UUID, invoice_id: UUID) -> list[InvoiceLine]:
    """The corrections that were billed, or given back, for the periods of an invoice."""
    rows = await tx.fetch(
        f"""select {", ".join(LINE_COLUMNS)} from invoice_lines
            where org_id = $1 and adjusts_invoice_id = $2 order by created_at, invoice_id, position, id""",
        org_id,
        invoice_id,
    )
    return [line_from_row(row) for row in rows]
