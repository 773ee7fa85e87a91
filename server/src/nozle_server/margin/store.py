"""All SQL of margin: costs by what they belong to, invoiced lines, and what is not invoiced yet."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.store import LINE_COLUMNS, line_from_row
from nozle_server.margin.model import CostRow, Range
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line of a subscription, stored or as it would be made now, with what it counts for."""

    line: InvoiceLine
    amount_cents: Decimal
    subscription_id: UUID
    plan_id: UUID
    plan_version_id: UUID
    period_start: datetime
    period_end: datetime


def priced(line: InvoiceLine, amount_cents: Decimal) -> PricedLine:
    """A line that belongs to a subscription's period."""
    assert line.subscription_id, "a line of a subscription"
    assert line.plan_id, "a subscription has a plan"
    assert line.plan_version_id, "a subscription has a plan"
    assert line.period_start, "a subscription's line has a period"
    assert line.period_end, "a subscription's line has a period"
    return PricedLine(
        line,
        amount_cents,
        line.subscription_id,
        line.plan_id,
        line.plan_version_id,
        line.period_start,
        line.period_end,
    )


async def costs(tx: Tx, org_id: UUID, within: Range, *, currency: str) -> list[CostRow]:
    """What the events in the range cost, by customer, plan, metric, model and hour.

    Events of customers who are billed in another currency are left out; those that matched no subscription count in
    the organization's own.
    """
    rows = await tx.fetch(
        """
        select e.customer_id, s.plan_id, e.code as metric_code, coalesce(e.model, 'unknown') as model,
            date_trunc('hour', e.occurred_at) as at, coalesce(sum(e.cost_cents), 0) as cost_cents,
            coalesce(sum(e.quantity), 0) as units,
            sum(e.input_tokens) as input_tokens, sum(e.output_tokens) as output_tokens,
            count(*) as events_count, count(*) filter (where e.cost_cents is null) as uncosted_events_count
        from events e
        left join subscriptions s on s.org_id = e.org_id and s.id = e.subscription_id
        left join plan_versions v on v.org_id = s.org_id and v.id = s.plan_version_id
        where e.org_id = $1 and e.occurred_at >= coalesce($2::timestamptz, '-infinity')
          and e.occurred_at < coalesce($3::timestamptz, 'infinity')
          and e.metric_id is not null
          and coalesce(v.currency, (select default_currency from organizations where id = $1)) = $4
        group by 1, 2, 3, 4, 5
        """,
        org_id,
        within.start,
        within.end,
        currency,
    )
    return [CostRow(**dict(row)) for row in rows]


async def invoiced_lines(tx: Tx, org_id: UUID, within: Range, *, currency: str) -> list[PricedLine]:
    """Lines of finalized invoices, or paid in advance and not invoiced, whose period touches the range, as settled."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    rows = await tx.fetch(
        f"""
        select {columns} from invoice_lines l
        left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
        where l.org_id = $1 and (l.invoice_id is null or i.status = 'finalized') and l.currency = $4
          and l.subscription_id is not null
          and l.period_end > coalesce($2::timestamptz, '-infinity') and l.period_start < coalesce($3::timestamptz, 'infinity')
        """,
        org_id,
        within.start,
        within.end,
        currency,
    )
    return [priced(line_from_row(row), Decimal(row["amount_cents"])) for row in rows]


async def running_subscriptions(tx: Tx, org_id: UUID, now: datetime) -> list[Subscription]:
    """Subscriptions with time that is not invoiced yet."""
    rows = await tx.fetch(
        f"""select {subscriptions_store.COLUMNS} from subscriptions
            where org_id = $1 and status = 'active' and billed_through <= $2 order by id""",
        org_id,
        now,
    )
    return [subscriptions_store.from_row(row) for row in rows]


async def names(tx: Tx, org_id: UUID, table: str, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str | None]]:
    """(external id or code, name) of customers or plans by id."""
    key = {"customers": "external_id", "plans": "code"}[table]
    rows = await tx.fetch(
        f"select id, {key} as key, name from {table} where org_id = $1 and id = any($2)", org_id, list(ids)
    )
    return {row["id"]: (row["key"], row["name"]) for row in rows}


async def metric_names(tx: Tx, org_id: UUID) -> dict[str, str]:
    """Names of billable metrics by code."""
    rows = await tx.fetch(
        "select code, name from billable_metrics where org_id = $1 and deleted_at is null", org_id
    )
    return {row["code"]: row["name"] for row in rows}


async def first_activity(tx: Tx, org_id: UUID) -> datetime | None:
    """When the organization's first subscription started or first event happened."""
    at = await tx.fetchval(
        """
        select least((select min(started_at) from subscriptions where org_id = $1),
                     (select min(occurred_at) from events where org_id = $1))
        """,
        org_id,
    )
    assert at is None or isinstance(at, datetime)
    return at


async def default_currency(tx: Tx, org_id: UUID) -> str:
    currency = await tx.fetchval("select default_currency from organizations where id = $1", org_id)
    assert isinstance(currency, str), "the organization exists: its key was just read"
    return currency


async def subscription_timezones(tx: Tx, org_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The zones whose days subscriptions are billed by."""
    rows = await tx.fetch(
        "select id, timezone from subscriptions where org_id = $1 and id = any($2)", org_id, list(ids)
    )
    return {row["id"]: row["timezone"] for row in rows}
