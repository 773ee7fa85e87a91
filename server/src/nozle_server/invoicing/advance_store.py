"""SQL of what is charged in advance: whose turn it is, and fees that are on no invoice."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.infra.usage_store import FOR_EVER
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.store import LINE_COLUMNS, line_from_row

Turn = tuple[UUID, UUID]
"""A subscription and a metric: their events are charged one after the other."""
Arrived = tuple[datetime, UUID]
"""When an event arrived, and its id."""

_NOBODY = UUID(int=0)


async def hold_turns(tx: Tx, org_id: UUID, turns: Sequence[Turn]) -> dict[Turn, Arrived]:
    """The last event that was charged of each, held until the transaction ends: others wait until then."""
    found = await _lock(tx, org_id, turns)
    if missing := [one for one in turns if one not in found]:
        # Events from before a plan charged them in advance count as arrived before those that it does charge.
        await tx.execute(
            """
            insert into advance_arrivals (org_id, subscription_id, metric_id, received_at, event_id)
            select $1, t.subscription_id, t.metric_id, coalesce((select max(received_at) from events e
                where e.org_id = $1 and e.subscription_id = t.subscription_id and e.metric_id = t.metric_id), $4), $5
            from unnest($2::uuid[], $3::uuid[]) as t (subscription_id, metric_id)
            on conflict do nothing
            """,
            org_id,
            [subscription_id for subscription_id, _ in missing],
            [metric_id for _, metric_id in missing],
            FOR_EVER,
            _NOBODY,
        )
        found = await _lock(tx, org_id, turns)
    return found


async def _lock(tx: Tx, org_id: UUID, turns: Sequence[Turn]) -> dict[Turn, Arrived]:
    rows = await tx.fetch(
        """
        select subscription_id, metric_id, received_at, event_id from advance_arrivals
        where org_id = $1 and (subscription_id, metric_id) in (select * from unnest($2::uuid[], $3::uuid[]))
        order by subscription_id, metric_id for update
        """,
        org_id,
        [subscription_id for subscription_id, _ in turns],
        [metric_id for _, metric_id in turns],
    )
    return {(row["subscription_id"], row["metric_id"]): (row["received_at"], row["event_id"]) for row in rows}


async def set_turns(tx: Tx, org_id: UUID, last: Mapping[Turn, Arrived]) -> None:
    """The last event of each, by who holds them."""
    await tx.executemany(
        """update advance_arrivals set received_at = $4, event_id = $5
           where org_id = $1 and subscription_id = $2 and metric_id = $3""",
        [(org_id, *turn, *arrived) for turn, arrived in last.items()],
    )


async def lock_paid(
    tx: Tx, org_id: UUID, customer_id: UUID, external_ids: Sequence[str], *, ended_by: datetime | None
) -> list[InvoiceLine]:
    """Paid fees of these subscriptions, by external id, that are on no invoice: of periods that ended by then (None: of
    any). Held until the transaction ends."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    rows = await tx.fetch(
        f"""
        select {columns} from invoice_lines l
        join subscriptions s on s.org_id = l.org_id and s.id = l.subscription_id
        where l.org_id = $1 and l.customer_id = $2 and s.external_id = any($3) and l.invoice_id is null
          and l.pay_in_advance and l.payment_status = 'succeeded' and ($4::timestamptz is null or l.period_end <= $4)
        order by l.created_at, l.id
        for update of l
        """,
        org_id,
        customer_id,
        list(external_ids),
        ended_by,
    )
    return [line_from_row(row) for row in rows]


async def put_on_invoice(tx: Tx, lines: Sequence[InvoiceLine]) -> None:
    """Put lines that are on no invoice on the one they name now."""
    await tx.executemany(
        """update invoice_lines set invoice_id = $3, position = $4
           where org_id = $1 and id = $2 and invoice_id is null""",
        [(line.org_id, line.id, line.invoice_id, line.position) for line in lines],
    )
