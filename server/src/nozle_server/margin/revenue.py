"""What was earned in a range, by customer, plan, metric, AI model and hour.

Revenue is what was billed: the settled lines of finalized invoices, and for time that is not invoiced yet the lines
as they would be made now, unrounded. A line's amount is shared out over the usage that made it, in exact parts that
sum to the line: by units where they add up (count, sum), by events otherwise, by their own prices where the charge is
dynamic. A fixed fee, a quantity that is there from day to day (recurring, weighted) and what is missing to a minimum are
spread evenly over the local days of the period, and earned as they begin.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.model import Aggregation, Charge, Metric, PlanVersion
from nozle_server.core.allocation import allocate_exact
from nozle_server.core.periods import Period, local_date, start_of_day
from nozle_server.core.rounding import EXACT
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import UsageRow, Window
from nozle_server.invoicing.fees import fee_line
from nozle_server.invoicing.lines import charge_lines, usage_query, usage_window
from nozle_server.invoicing.model import InvoiceLine, LineKind
from nozle_server.margin import store
from nozle_server.margin.model import Range, RevenueRow
from nozle_server.margin.store import PricedLine
from nozle_server.rating.filters import in_order_of_match
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription

_ADDITIVE = (Aggregation.COUNT, Aggregation.SUM)

# Where a line's usage is: subscription, start of the period, charge filter, values of the group keys.
_Place = tuple[UUID, datetime, UUID | None, tuple[tuple[str, str | None], ...]]


async def revenue(
    tx: Tx, seams: Seams, *, org_id: UUID, within: Range, currency: str, now: datetime
) -> list[RevenueRow]:
    """Rows whose amounts sum to the revenue of the range."""
    lines = await store.invoiced_lines(tx, org_id, within, currency=currency)
    lines += await _lines_to_come(tx, seams, org_id, within, currency, now)
    # A fee is earned day by day: the days of the running period that have not begun are not revenue yet.
    begun = now + timedelta(microseconds=1)
    so_far = Range(within.start, begun if within.end is None else min(begun, within.end))
    rows: list[RevenueRow] = []
    timezones = await store.subscription_timezones(tx, org_id, {one.subscription_id for one in lines})
    charges: dict[tuple[UUID, UUID], list[PricedLine]] = defaultdict(list)
    for one in lines:
        if one.line.kind is LineKind.CHARGE:
            assert one.line.charge_id is not None
            charges[one.plan_version_id, one.line.charge_id].append(one)
        else:
            rows += _fee_by_day(one, timezones[one.subscription_id], so_far)
    for (version_id, charge_id), of_charge in charges.items():
        version = await plan_store.get_plan_version(tx, org_id, version_id)
        charge = next(one for one in version.charges if one.id == charge_id)
        metric = await metric_store.get_metric_by_id(tx, org_id, charge.metric_id)
        for_time = [one for one in of_charge if _is_for_time(one, metric)]
        for one in for_time:
            rows += _fee_by_day(one, timezones[one.subscription_id], so_far, metric.code)
        for_usage = [one for one in of_charge if not _is_for_time(one, metric)]
        rows += await _usage_by_hour(tx, seams, org_id, charge, metric, for_usage, within)
    return rows


async def _lines_to_come(
    tx: Tx, seams: Seams, org_id: UUID, within: Range, currency: str, now: datetime
) -> list[PricedLine]:
    """Lines of the running periods as they stand, exact amounts."""
    running: dict[UUID, list[tuple[Subscription, Period]]] = defaultdict(list)
    for subscription in await store.running_subscriptions(tx, org_id, now):
        version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
        for period in _periods_to_come(subscription, version, now):
            if within.touches(period.start, period.end):
                running[version.id].append((subscription, period))
    lines: list[PricedLine] = []
    for version_id, subscriptions in running.items():
        version = await plan_store.get_plan_version(tx, org_id, version_id)
        if version.currency != currency:
            continue
        if not version.pay_in_advance:  # else it is on an invoice already
            for subscription, period in subscriptions:
                lines.append(_exact(fee_line(subscription, version, "", period, now)))
        for charge in version.charges:
            lines += await _charge_lines_to_come(tx, seams, version, charge, subscriptions, now)
    return lines


def _periods_to_come(subscription: Subscription, version: PlanVersion, now: datetime) -> Iterator[Period]:
    """The current period and those that have begun since, if its billing run is late."""
    period = Period(subscription.current_period_start, subscription.current_period_end)
    yield period
    while period.end <= now and subscription.is_active_at(period.end):
        period = subscription.period_at(period.end, version.usage_interval)
        yield period


async def _charge_lines_to_come(
    tx: Tx,
    seams: Seams,
    version: PlanVersion,
    charge: Charge,
    subscriptions: Sequence[tuple[Subscription, Period]],
    now: datetime,
) -> list[PricedLine]:
    metric = await metric_store.get_metric_by_id(tx, version.org_id, charge.metric_id)
    chains = {}
    if metric.recurring:
        ids = [subscription.id for subscription, _ in subscriptions]
        chains = await subscriptions_store.chains(tx, version.org_id, ids)
    windows = [
        usage_window(subscription, period, chains.get(subscription.id, ()))
        for subscription, period in subscriptions
    ]
    rows = await seams.usage_store.usage(tx, version.org_id, usage_query(charge, metric, windows))
    by_window: dict[int, list[UsageRow]] = defaultdict(list)
    for row in rows:
        by_window[row.window].append(row)
    lines = []
    for number, (subscription, period) in enumerate(subscriptions):
        for line in charge_lines(subscription, version, charge, metric, period, by_window[number], now):
            lines.append(_exact(line))
    return lines


def _exact(line: InvoiceLine) -> PricedLine:
    return store.priced(line, line.exact_amount_cents)


def _is_for_time(priced: PricedLine, metric: Metric) -> bool:
    """Whether a charge is earned as time passes and not as events come: a quantity that is there from day to day, or what
    was missing to a minimum."""
    is_there = metric.recurring or metric.aggregation is Aggregation.WEIGHTED_SUM
    return priced.line.true_up_of is not None or (is_there and priced.line.event_transaction_id is None)


def _fee_by_day(
    priced: PricedLine, timezone: str, within: Range, metric_code: str | None = None
) -> list[RevenueRow]:
    """A fee's equal parts, each at the start of its local day (the first at the start of the period)."""
    starts = _days(priced.period_start, priced.period_end, timezone)
    parts = allocate_exact(priced.amount_cents, [Decimal(1)] * len(starts))
    return [
        RevenueRow(
            priced.line.customer_id,
            priced.plan_id,
            metric_code,
            "unknown" if metric_code else "",
            start,
            part,
        )
        for start, part in zip(starts, parts, strict=True)
        if within.contains(start)
    ]


def _days(start: datetime, end: datetime, timezone: str) -> list[datetime]:
    """The starts of the local days of [start, end), the first no earlier than `start`."""
    day = local_date(start, timezone)
    starts = [start]
    while (following := start_of_day(day := day + timedelta(days=1), timezone)) < end:
        starts.append(following)
    return starts


async def _usage_by_hour(
    tx: Tx,
    seams: Seams,
    org_id: UUID,
    charge: Charge,
    metric: Metric,
    lines: Sequence[PricedLine],
    within: Range,
) -> list[RevenueRow]:
    """Charge lines shared out over the hours and AI models of the usage behind them. Lines of one price, group and period
    (one for each event, where it is paid in advance) are shared out as one."""
    paid: dict[_Place, list[PricedLine]] = defaultdict(list)
    for one in lines:
        if one.amount_cents:
            place = (
                one.subscription_id,
                one.period_start,
                one.line.charge_filter_id,
                _key(one.line.grouped_by),
            )
            paid[place].append(one)
    windows = {
        (of_place[0].subscription_id, of_place[0].period_start): Window(
            of_place[0].subscription_id, of_place[0].period_start, of_place[0].period_end
        )
        for of_place in paid.values()
    }
    starts = list(windows)
    filters = in_order_of_match(charge.filters)
    query = replace(
        usage_query(charge, metric, list(windows.values())),
        # Parts are shared by units where these add up, else by events, which always do.
        aggregation=metric.aggregation if metric.aggregation in _ADDITIVE else Aggregation.COUNT,
        recurring=False,
        weighted=False,
        with_transactions=False,
        group_by=("hour", "model", "inside"),
        inside_start=within.start,
        inside_end=within.end,
    )
    behind: dict[_Place, list[UsageRow]] = defaultdict(list)
    for row in await seams.usage_store.usage(tx, org_id, query) if windows else ():
        filter_id = None if row.filter_index is None else filters[row.filter_index].id
        behind[(*starts[row.window], filter_id, _key(row.grouped_by))].append(row)
    shared: list[RevenueRow] = []
    for place, of_place in paid.items():
        amount = Decimal(0)
        for one in of_place:
            amount = EXACT.add(amount, one.amount_cents)
        shared += _share_out(replace(of_place[0], amount_cents=amount), behind[place], metric, within)
    return shared


def _key(grouped_by: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    return tuple(sorted(grouped_by.items()))


def _share_out(
    priced: PricedLine, usage: Sequence[UsageRow], metric: Metric, within: Range
) -> list[RevenueRow]:
    customer_id = priced.line.customer_id
    if not usage:  # a flat amount that nothing was used for
        at, known = priced.period_start, within.contains(priced.period_start)
        row = RevenueRow(customer_id, priced.plan_id, metric.code, "unknown", at, priced.amount_cents)
        return [row] if known else []
    additive = metric.aggregation in _ADDITIVE
    weights = [row.amount_cents for row in usage]
    if not any(weights):
        weights = [row.units if additive else Decimal(row.events_count) for row in usage]
    if any(weight < 0 for weight in weights) or not any(weights):
        weights = [Decimal(row.events_count) for row in usage]
    parts = allocate_exact(priced.amount_cents, weights)
    return [
        RevenueRow(customer_id, priced.plan_id, metric.code, row.group[1], row.group[0], part)
        for row, part in zip(usage, parts, strict=True)
        if row.group[2]
    ]
