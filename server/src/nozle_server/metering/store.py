"""All SQL that looks at stored events beyond the seams."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EVENT_COLUMNS, EventRecord, event_from_row


async def list_events(
    tx: Tx,
    org_id: UUID,
    *,
    external_subscription_id: str | None,
    code: str | None,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    offset: int,
) -> tuple[list[EventRecord], int]:
    """A page of events, the latest first, and how many there are."""
    where = """
        from events e
        where e.org_id = $1 and ($2::text is null or e.external_subscription_id = $2) and ($3::text is null or e.code = $3)
          and e.occurred_at >= coalesce($4::timestamptz, '-infinity') and e.occurred_at < coalesce($5::timestamptz, 'infinity')
    """
    values = (org_id, external_subscription_id, code, start, end)
    total = await tx.fetchval(f"select count(*) {where}", *values)
    rows = await tx.fetch(
        f"select {EVENT_COLUMNS} {where} order by e.occurred_at desc, e.id desc limit $6 offset $7",
        *values,
        limit,
        offset,
    )
    return [event_from_row(row) for row in rows], total
