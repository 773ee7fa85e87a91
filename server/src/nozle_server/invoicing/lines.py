"""What a period's usage costs, as invoice lines: one for each price of each charge and each combination of its groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.catalog.model import ALL_VALUES, Aggregation, Charge, ChargeFilter, Metric, PlanVersion
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period, days
from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.core.values import replace
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.usage_store import Arrival, UsageQuery, UsageRow, Window
from nozle_server.invoicing.model import InvoiceLine, LineKind
from nozle_server.metering.model import PAID_BY_CREDITS
from nozle_server.metering.quantity import round_units
from nozle_server.rating.filters import (
    best_match,
    conditions,
    group_of,
    in_order_of_match,
    prices_paid_usage,
)
from nozle_server.rating.rate import (
    RatedLine,
    Usage,
    needs_amounts,
    needs_parts,
    needs_transactions,
    price_of_event,
    rate,
)
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.proration import fee_days

_ZERO = Decimal(0)


def usage_window(
    subscription: Subscription,
    period: Period,
    earlier: Sequence[UUID] = (),
    *,
    replaced: bool = False,
    ended: bool = False,
) -> Window:
    """A subscription's usage in a period; `earlier` are the subscriptions it took over from
    (`subscriptions.store.chains`), which a recurring metric counts on from. Where another plan takes its place at the
    period's end (`replaced`), that day is the other's; where it ended there (`ended`), within the period, it is its own."""
    zone = subscription.timezone
    return Window(subscription.id, period.start, period.end, tuple(earlier), zone, replaced, ended)


def usage_query(
    charge: Charge, metric: Metric, windows: Sequence[Window], *, include_late: bool = False
) -> UsageQuery:
    """The question whose rows `charge_lines` prices. `include_late` rates a closed period anew."""
    filters = in_order_of_match(charge.filters)
    models = [charge.model, *(one.model for one in filters)]
    prorated = is_prorated(charge, metric)
    return UsageQuery(
        metric_id=charge.metric_id,
        aggregation=metric.aggregation,
        windows=tuple(windows),
        filters=tuple(conditions(one, metric) for one in filters),
        group_keys=(charge.pricing_group_keys, *(one.pricing_group_keys for one in filters)),
        recurring=metric.recurring,
        include_late=include_late,
        weighted=prorated or metric.aggregation is Aggregation.WEIGHTED_SUM,
        with_transactions=any(
            needs_transactions(model) or (prorated and needs_parts(model)) for model in models
        ),
        with_amounts=any(needs_amounts(model) for model in models),
        unpaid=not prices_paid_usage(charge.filters),
    )


def is_charged(charge: Charge, event: EventRecord) -> bool:
    """Whether an event is usage that the charge prices: not, when credits were taken for it already."""
    return event.reason != PAID_BY_CREDITS or prices_paid_usage(charge.filters)


def is_prorated(charge: Charge, metric: Metric) -> bool:
    """Whether a period's quantity counts by the days it was there. What is paid in advance is paid in full when the
    period begins, and prorated by the event after that."""
    return charge.prorated and metric.recurring and not charge.pay_in_advance


def is_left_to_successor(charge: Charge, metric: Metric, successor: PlanVersion) -> bool:
    """Whether a period that a change of plan cuts short leaves a charge to the plan that follows: a recurring quantity
    that is not prorated is there in the whole period and is billed once, when it ends."""
    return (
        metric.recurring
        and not charge.prorated
        and not charge.pay_in_advance
        and successor.charge_for(metric.id) is not None
    )


def charge_lines(
    subscription: Subscription,
    version: PlanVersion,
    charge: Charge,
    metric: Metric,
    period: Period,
    rows: Sequence[UsageRow],
    now: datetime,
    *,
    following: Period | None = None,
    replaced: bool = False,
) -> list[InvoiceLine]:
    """A charge's lines from one window's usage.

    Its own price always has a line, a filter's where some event matched it or it costs something all the same. A
    minimum that the lines do not reach adds a line of its own. What is paid in advance has been billed event by event:
    only a quantity that is carried over is billed again, in full, for the `following` period (None: there is none);
    where the charge is not invoiceable, these lines say `pay_in_advance` and belong on no invoice.
    """
    if charge.pay_in_advance and not (metric.recurring and following):
        return []
    billed = following if charge.pay_in_advance and following else period
    pricing = _Pricing(subscription, version, charge, metric, period, now, replaced)
    lines = []
    for charge_filter, row in _priced_rows(charge, rows):
        usage = pricing.usage(pricing.model(charge_filter), row)
        rated = rate(pricing.model(charge_filter), usage, currency=version.currency)
        if row is None and charge_filter is not None and not rated.exact_amount_cents:
            continue
        line = pricing.line(charge_filter, rated, billed, row.grouped_by if row else None)
        steps = (*pricing.quantity_steps(row, usage), *line.steps)
        events_count = 0 if row is None or charge.pay_in_advance else row.events_count
        lines.append(replace(line, steps=steps, events_count=events_count))
    true_up = pricing.true_up(lines)
    return lines if true_up is None else [*lines, true_up]


@dataclass(frozen=True, slots=True)
class EventPrice:
    """Which of a charge's prices one event pays, and the two questions whose answers `event_line` compares: the usage that
    had arrived before the event, and with it."""

    charge_filter: ChargeFilter | None
    filter_index: int | None
    grouped_by: Mapping[str, str | None]
    before: UsageQuery
    after: UsageQuery

    def of(self, rows: Sequence[UsageRow]) -> UsageRow | None:
        """The row of the event's own price and group."""
        return next(
            (
                row
                for row in rows
                if row.filter_index == self.filter_index and dict(row.grouped_by) == dict(self.grouped_by)
            ),
            None,
        )


def event_price(charge: Charge, metric: Metric, window: Window, event: EventRecord) -> EventPrice:
    """How a charge that is paid in advance looks at one event of a period."""
    filters = in_order_of_match(charge.filters)
    matched = best_match(charge.filters, event.properties, metric)
    keys = matched.pricing_group_keys if matched else charge.pricing_group_keys
    query = replace(
        usage_query(charge, metric, [window], include_late=True), weighted=False, with_highest=True
    )
    return EventPrice(
        charge_filter=matched,
        filter_index=filters.index(matched) if matched else None,
        grouped_by=group_of(keys, event.properties),
        before=replace(query, arrived=Arrival(event.received_at, event.id, with_it=False)),
        after=replace(query, arrived=Arrival(event.received_at, event.id, with_it=True)),
    )


def event_line(
    subscription: Subscription,
    version: PlanVersion,
    charge: Charge,
    metric: Metric,
    period: Period,
    event: EventRecord,
    price: EventPrice,
    before: Sequence[UsageRow],
    after: Sequence[UsageRow],
    now: datetime,
) -> InvoiceLine:
    """What one event of a charge that is paid in advance costs: what the highest usage so far costs with it and did not
    cost before. Prorated, what it adds is paid from the event's day to the end of the period."""
    pricing = _Pricing(subscription, version, charge, metric, period, now)
    model = pricing.model(price.charge_filter)
    usage_before = pricing.highest(model, price.of(before))
    usage_after = pricing.highest(model, price.of(after))
    added = max(_ZERO, EXACT.subtract(usage_after.units, usage_before.units))
    steps: tuple[Mapping[str, Any], ...] = ()
    if charge.prorated and metric.recurring:
        left = days(Period(max(event.occurred_at, period.start), period.end), subscription.timezone)
        _, whole = pricing.whole_days
        part = divide(EXACT.multiply(added, Decimal(left)), Decimal(whole))
        usage_before = replace(usage_before, prorated_units=usage_before.units)
        usage_after = replace(usage_after, prorated_units=EXACT.add(usage_before.units, part))
        steps = (_note("proration", added, days=left, whole_days=whole),)
    rated = price_of_event(model, usage_before, usage_after, currency=version.currency)
    line = pricing.line(price.charge_filter, rated, period, price.grouped_by)
    return replace(
        line,
        steps=(*steps, *line.steps),
        events_count=1,
        pay_in_advance=True,
        event_transaction_id=event.transaction_id,
    )


@dataclass(frozen=True, slots=True)
class _Pricing:
    """One charge of one subscription in one period."""

    subscription: Subscription
    version: PlanVersion
    charge: Charge
    metric: Metric
    period: Period
    now: datetime
    replaced: bool = False

    @property
    def whole_days(self) -> tuple[int, int]:
        """(days of the period, days of the whole period that it is a part of)."""
        interval = self.version.usage_interval
        share = fee_days(self.subscription, interval, self.period, replaced=self.replaced, trial=False)
        return share.days, share.whole_days

    @property
    def whole_seconds(self) -> Decimal:
        """Seconds of the whole period, as they passed: a day with a change of clocks has 23 or 25 hours."""
        whole = self.subscription.calendar(self.version.usage_interval).whole(self.period)
        passed = whole.end - whole.start
        return Decimal(passed.days * 86_400 + passed.seconds)

    def model(self, charge_filter: ChargeFilter | None) -> ChargeModel:
        return charge_filter.model if charge_filter else self.charge.model

    def usage(self, model: ChargeModel, row: UsageRow | None) -> Usage:
        """What the charge model prices, of what was counted."""
        prorated = is_prorated(self.charge, self.metric)
        if row is None:
            return Usage(_ZERO, 0, prorated_units=_ZERO if prorated else None)
        usage = Usage(round_units(self.metric, row.units), row.events_count, amount_cents=row.amount_cents)
        if self.metric.aggregation is Aggregation.WEIGHTED_SUM:
            units = round_units(self.metric, divide(row.weighted_units, self.whole_seconds))
            usage = replace(usage, units=units)
            return (
                replace(usage, transactions=(units,), events_count=1) if needs_transactions(model) else usage
            )
        if prorated:
            _, whole = self.whole_days
            parts = tuple(divide(part, Decimal(whole)) for part in row.weighted_transactions)
            return replace(
                usage,
                prorated_units=round_units(self.metric, divide(row.weighted_units, Decimal(whole))),
                transactions=row.transactions if needs_parts(model) else (),
                prorated_transactions=parts if needs_parts(model) else (),
            )
        if needs_transactions(model):
            # What was carried over counts as one event, a value that is there as one.
            return replace(usage, transactions=row.transactions, events_count=len(row.transactions))
        return usage

    def highest(self, model: ChargeModel, row: UsageRow | None) -> Usage:
        """The highest usage so far, which a charge in advance has been paid for."""
        if row is None:
            return Usage(_ZERO, 0)
        transactions = row.transactions if needs_transactions(model) else ()
        return Usage(
            round_units(self.metric, row.highest),
            len(transactions) if needs_transactions(model) else row.events_count,
            transactions,
            amount_cents=row.amount_cents,
        )

    def quantity_steps(self, row: UsageRow | None, usage: Usage) -> tuple[Mapping[str, Any], ...]:
        """How the quantity came about, for who asks why: weights and rounding. They cost nothing themselves."""
        if row is None:
            return ()
        if self.metric.aggregation is Aggregation.WEIGHTED_SUM:
            return (
                _note(
                    "weighted_sum",
                    usage.units,
                    unit_seconds=row.weighted_units,
                    whole_seconds=self.whole_seconds,
                ),
            )
        steps: list[Mapping[str, Any]] = []
        if usage.prorated_units is not None:
            in_period, whole = self.whole_days
            steps.append(
                _note(
                    "proration",
                    usage.prorated_units,
                    unit_days=row.weighted_units,
                    days=in_period,
                    whole_days=whole,
                )
            )
        if usage.units != row.units:
            steps.append(_note("rounding", usage.units, units_before=row.units))
        return tuple(steps)

    def line(
        self,
        charge_filter: ChargeFilter | None,
        rated: RatedLine,
        period: Period,
        grouped_by: Mapping[str, str | None] | None,
    ) -> InvoiceLine:
        keys = charge_filter.pricing_group_keys if charge_filter else self.charge.pricing_group_keys
        groups = dict.fromkeys(keys) if grouped_by is None else grouped_by
        return InvoiceLine(
            org_id=self.version.org_id,
            id=new_id(),
            kind=LineKind.CHARGE,
            customer_id=self.subscription.customer_id,
            currency=self.version.currency,
            created_at=self.now,
            subscription_id=self.subscription.id,
            plan_id=self.version.plan_id,
            plan_version_id=self.version.id,
            charge_id=self.charge.id,
            charge_filter_id=charge_filter.id if charge_filter else None,
            metric_id=self.metric.id,
            metric_code=self.metric.code,
            description=_description(self.charge, self.metric, charge_filter, groups),
            units=rated.units,
            exact_amount_cents=rated.exact_amount_cents,
            amount_cents=rated.amount_cents,
            period_start=period.start,
            period_end=period.end,
            steps=tuple(step.to_json() for step in rated.steps),
            grouped_by=groups,
            pay_in_advance=self.charge.pay_in_advance and not self.charge.invoiceable,
        )

    def true_up(self, lines: Sequence[InvoiceLine]) -> InvoiceLine | None:
        """What the lines miss of the charge's minimum, which counts by days where the period is a part of one."""
        if not self.charge.min_amount_cents or self.charge.pay_in_advance:
            return None
        in_period, whole = self.whole_days
        minimum = divide(Decimal(self.charge.min_amount_cents * in_period), Decimal(whole))
        used = sum(line.amount_cents for line in lines)
        with localcontext(EXACT):
            missing = minimum - used
        if missing <= 0:
            return None
        step = _note("minimum", Decimal(1), minimum_cents=minimum, used_cents=used)
        parent = lines[0]
        return replace(
            parent,
            id=new_id(),
            description=f"{_description(self.charge, self.metric, None, {})}, minimum",
            grouped_by={},
            units=Decimal(1),
            events_count=0,
            exact_amount_cents=missing,
            amount_cents=to_cents(missing),
            steps=({**step, "flat_cents": missing, "amount_cents": missing},),
            true_up_of=parent.id,
        )


def _priced_rows(
    charge: Charge, rows: Sequence[UsageRow]
) -> list[tuple[ChargeFilter | None, UsageRow | None]]:
    """Every price of a charge with the usage it prices: first its own, then each filter's, a row for each group."""
    prices: list[tuple[ChargeFilter | None, UsageRow | None]] = []
    for index, one in ((None, None), *enumerate(in_order_of_match(charge.filters))):
        found = [row for row in rows if row.filter_index == index]
        prices += [(one, row) for row in found] or [(one, None)]
    return prices


def _description(
    charge: Charge,
    metric: Metric,
    charge_filter: ChargeFilter | None,
    grouped_by: Mapping[str, str | None],
) -> str:
    name = charge.invoice_display_name or metric.name
    if charge_filter is not None:
        values = ", ".join(
            key if value == ALL_VALUES else value
            for key, of_key in sorted(charge_filter.values.items())
            for value in of_key
        )
        name = charge_filter.invoice_display_name or f"{name} ({values})"
    return " • ".join([name, *(value for value in grouped_by.values() if value)])


def _note(kind: str, units: Decimal, **more: object) -> dict[str, Any]:
    """A step that says how something came about and costs nothing."""
    return {
        "kind": kind,
        "units": units,
        "unit_price_cents": _ZERO,
        "flat_cents": _ZERO,
        "amount_cents": _ZERO,
        "label": "",
        **more,
    }
