"""All SQL that looks at stored events beyond the seams."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EVENT_COLUMNS, EventRecord, event_from_row
from nozle_server.metering.model import PAID_BY_CREDITS


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


async def list_priced_together(
    tx: Tx,
    org_id: UUID,
    *,
    subscription_id: UUID,
    metric_id: UUID,
    start: datetime,
    end: datetime,
    matching: Mapping[str, Sequence[str]],
    not_matching: Sequence[Mapping[str, Sequence[str]]],
    group: Mapping[str, str | None],
    unpaid: bool = False,
    limit: int,
    offset: int,
) -> tuple[list[EventRecord], int]:
    """A page of the events of one line, in order of time, and how many there are: those of a subscription's period that
    have one of the values of each property of `matching`, and not of any of `not_matching`, and these values of `group`;
    `unpaid` leaves out what credits were taken for.
    """
    values: list[object] = [org_id, subscription_id, metric_id, start, end]

    def one_of(properties: Mapping[str, Sequence[str]]) -> str:
        conditions = ["true"]
        for key, allowed in properties.items():
            values.extend((key, list(allowed)))
            conditions.append(
                f"coalesce(e.properties ->> ${len(values) - 1}::text = any(${len(values)}::text[]), false)"
            )
        return f"({' and '.join(conditions)})"

    conditions = [one_of(matching), *(f"not {one_of(other)}" for other in not_matching)]
    for key, value in group.items():
        values.extend((key, value))
        conditions.append(
            f"nullif(e.properties ->> ${len(values) - 1}::text, '') is not distinct from ${len(values)}::text"
        )
    if unpaid:
        values.append(PAID_BY_CREDITS)
        conditions.append(f"e.reason is distinct from ${len(values)}")
    where = f"""
        from events e where e.org_id = $1 and e.subscription_id = $2 and e.metric_id = $3
          and e.occurred_at >= $4 and e.occurred_at < $5 and e.status in ('counted', 'late')
          and {" and ".join(conditions)}
    """
    total = await tx.fetchval(f"select count(*) {where}", *values)
    rows = await tx.fetch(
        f"""select {EVENT_COLUMNS} {where} order by e.occurred_at, e.id
            limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        offset,
    )
    return [event_from_row(row) for row in rows], total
