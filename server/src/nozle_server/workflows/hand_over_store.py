"""SQL of handing events over from a subscription that ended to what follows it."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EVENT_COLUMNS, EventRecord, event_from_row


async def take_over(
    tx: Tx, org_id: UUID, subscription_id: UUID, at: datetime, *, to: UUID | None
) -> list[EventRecord]:
    """Counted events of a subscription from `at` on become those of `to`, or nobody's; as they were before. Metrics that
    carry their quantity over stay with the subscription that nobody follows, and so do events that it has charged."""
    rows = await tx.fetch(
        f"""
        with used as (
            select m.id from billable_metrics m where m.org_id = $1 and ($4::uuid is not null or not m.recurring)
        ), taken as (
            select {EVENT_COLUMNS} from events e
            where e.org_id = $1 and e.subscription_id = $2 and e.occurred_at >= $3 and e.status = 'counted'
              and e.metric_id = any(array(select id from used))
              and not exists (select 1 from invoice_lines l where l.org_id = $1 and l.subscription_id = $2
                and l.event_transaction_id = e.transaction_id)
        ), changed as (
            update events e set subscription_id = $4,
                status = case when $4::uuid is null then 'unmatched' else e.status end,
                reason = case when $4::uuid is null then 'subscription_not_found' else e.reason end
            from taken t where e.org_id = $1 and e.occurred_at = t.occurred_at and e.id = t.id
        )
        select * from taken order by occurred_at, transaction_id
        """,
        org_id,
        subscription_id,
        at,
        to,
    )
    return [event_from_row(row) for row in rows]


async def forget_counter(
    tx: Tx, org_id: UUID, subscription_id: UUID, metric_id: UUID, start: datetime
) -> None:
    """Drop a period's running total, to be counted anew."""
    for table in ("usage_counters", "usage_unique_values"):
        await tx.execute(
            f"delete from {table} where org_id = $1 and subscription_id = $2 and metric_id = $3 and period_start = $4",
            org_id,
            subscription_id,
            metric_id,
            start,
        )


async def counted_within(
    tx: Tx, org_id: UUID, subscription_id: UUID, metric_id: UUID, start: datetime, end: datetime
) -> list[EventRecord]:
    rows = await tx.fetch(
        f"""select {EVENT_COLUMNS} from events e
            where e.org_id = $1 and e.subscription_id = $2 and e.metric_id = $3 and e.status = 'counted'
              and e.occurred_at >= $4 and e.occurred_at < $5""",
        org_id,
        subscription_id,
        metric_id,
        start,
        end,
    )
    return [event_from_row(row) for row in rows]
