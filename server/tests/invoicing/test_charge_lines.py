"""What usage becomes on an invoice: prices, groups, parts of a period, minimums, charges in advance. No database."""

import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.catalog.charge_models import (
    ChargeModel,
    Dynamic,
    Graduated,
    Percentage,
    PriceRange,
    Standard,
)
from nozle_server.catalog.model import (
    Aggregation,
    Charge,
    ChargeFilter,
    Metric,
    MetricFilter,
    PlanVersion,
)
from nozle_server.core.periods import BillingTime, Interval, Period
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.usage_store import UsageRow
from nozle_server.invoicing.lines import (
    charge_lines,
    event_line,
    event_price,
    is_left_to_successor,
    usage_query,
    usage_window,
)
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.subscriptions.model import Status, Subscription
from world import instant

ORG, NOW = uuid.UUID(int=9), instant("2026-04-01")
MARCH = Period(instant("2026-03-01"), instant("2026-04-01"))
APRIL = Period(instant("2026-04-01"), instant("2026-05-01"))
LATE_MARCH = Period(instant("2026-03-17"), instant("2026-04-01"))  # 15 of 31 days


def a_metric(how: Aggregation = Aggregation.SUM, **more: Any) -> Metric:
    values: dict[str, Any] = {
        "org_id": ORG,
        "id": uuid.UUID(int=1),
        "code": "seats",
        "name": "Seats",
        "description": None,
        "aggregation": how,
        "field_name": "n",
        "expression": None,
        "filters": (MetricFilter("region", ("eu", "us")),),
        "created_at": NOW,
        "updated_at": NOW,
        **more,
    }
    return Metric(**values)


def a_charge(model: ChargeModel, *filters: ChargeFilter, **more: Any) -> Charge:
    return Charge(uuid.UUID(int=2), uuid.UUID(int=1), "seats", model, filters, None, NOW, **more)


def a_filter(model: ChargeModel, **values: str) -> ChargeFilter:
    return ChargeFilter(uuid.uuid4(), {key: (value,) for key, value in values.items()}, model, None)


def a_version(*charges: Charge) -> PlanVersion:
    return PlanVersion(
        ORG, uuid.uuid4(), uuid.uuid4(), 1, Interval.MONTHLY, 0, "USD", False, Decimal(0), charges, NOW
    )


def a_subscription(started_at: datetime = MARCH.start, timezone: str = "UTC") -> Subscription:
    return Subscription(
        org_id=ORG,
        id=uuid.uuid4(),
        external_id="s",
        customer_id=uuid.uuid4(),
        plan_id=uuid.uuid4(),
        plan_version_id=uuid.uuid4(),
        name=None,
        status=Status.ACTIVE,
        billing_time=BillingTime.CALENDAR,
        timezone=timezone,
        subscription_at=started_at,
        started_at=started_at,
        initial_started_at=started_at,
        ending_at=None,
        terminated_at=None,
        canceled_at=None,
        current_period_start=started_at,
        current_period_end=MARCH.end,
        billed_through=started_at,
        created_at=started_at,
    )


def a_row(units: object, *, events: int = 1, filter: int | None = None, **more: Any) -> UsageRow:
    return UsageRow(0, filter, (), Decimal(str(units)), events, **more)


def lines(
    charge: Charge, *rows: UsageRow, metric: Metric | None = None, period: Period = MARCH, **more: Any
) -> list[InvoiceLine]:
    return charge_lines(
        a_subscription(period.start),
        a_version(charge),
        charge,
        metric or a_metric(),
        period,
        rows,
        NOW,
        **more,
    )


def shown(found: list[InvoiceLine]) -> list[tuple[str, Decimal, int]]:
    for line in found:
        assert sum((step["amount_cents"] for step in line.steps), Decimal(0)) == line.exact_amount_cents
    return [(line.description, line.units, line.amount_cents) for line in found]


def test_each_combination_of_group_values_is_priced_on_its_own() -> None:
    tiers = Graduated(
        (PriceRange(0, 10, Decimal(1), Decimal(2)), PriceRange(11, None, Decimal(0), Decimal(1)))
    )
    charge = a_charge(tiers, pricing_group_keys=("region", "cloud"))
    found = lines(
        charge,
        a_row(10, grouped_by={"region": "eu", "cloud": "aws"}),
        a_row(11, grouped_by={"region": "us", "cloud": None}),
    )
    assert shown(found) == [("Seats • eu • aws", 10, 2100), ("Seats • us", 11, 2200)]
    assert found[1].grouped_by == {"region": "us", "cloud": None}
    (empty,) = lines(charge)
    assert (empty.grouped_by, empty.amount_cents) == ({"region": None, "cloud": None}, 100)


def test_a_filter_without_usage_has_a_line_where_it_costs_something() -> None:
    flat = Graduated((PriceRange(0, None, Decimal(3), Decimal(1)),))
    charge = a_charge(
        Standard(Decimal(1)), a_filter(flat, region="eu"), a_filter(Standard(Decimal(1)), region="us")
    )
    assert shown(lines(charge)) == [("Seats", 0, 0), ("Seats (eu)", 0, 300)]


@pytest.mark.parametrize(
    ("function", "precision", "units", "cents"),
    [
        (None, None, "2.345", 235),
        ("round", None, "2", 200),
        ("round", 2, "2.35", 235),
        ("ceil", 0, "3", 300),
        ("floor", 1, "2.3", 230),
        ("ceil", -1, "10", 1000),
    ],
)
def test_units_are_rounded_before_they_are_priced(
    function: str | None, precision: int | None, units: str, cents: int
) -> None:
    metric = a_metric(rounding_function=function, rounding_precision=precision)
    (line,) = lines(a_charge(Standard(Decimal(1))), a_row("2.345"), metric=metric)
    assert (line.units, line.amount_cents) == (Decimal(units), cents)
    assert str(line.units) == units
    shown([line])


@pytest.mark.parametrize(
    ("weighted", "exact"),
    [
        (10 * 31 * 86_400, "1000"),  # ten for the whole month
        (31 * 86_400, "100"),
        (1, "0.00003733572281959378733572281959"),
        (0, "0"),
    ],
)
def test_a_weighted_sum_is_a_share_of_the_whole_period(weighted: int, exact: str) -> None:
    metric = a_metric(Aggregation.WEIGHTED_SUM, weighted_interval="seconds", recurring=True)
    charge = a_charge(Standard(Decimal(1)))
    (line,) = lines(charge, a_row(10, weighted_units=Decimal(weighted)), metric=metric)
    assert abs(line.exact_amount_cents - Decimal(exact)) < Decimal("1e-21")
    shown([line])
    (part,) = lines(charge, a_row(10, weighted_units=Decimal(weighted)), metric=metric, period=LATE_MARCH)
    assert part.exact_amount_cents == line.exact_amount_cents  # of the whole month, also in a part of it


def test_a_prorated_charge_shows_full_units_and_prices_their_days() -> None:
    metric = a_metric(recurring=True)
    charge = a_charge(Standard(Decimal(31)), prorated=True)
    row = a_row(6, weighted_units=Decimal(2 * 31 + 4 * 16))
    (line,) = lines(charge, row, metric=metric)
    assert (line.units, line.amount_cents) == (6, 12600)
    assert (line.steps[0]["kind"], line.steps[0]["whole_days"]) == ("proration", 31)
    query = usage_query(charge, metric, [usage_window(a_subscription(), MARCH, [ORG])])
    assert (query.recurring, query.weighted, query.windows[0].earlier) == (True, True, (ORG,))


def test_graduated_prorated_units_are_walked_event_by_event() -> None:
    metric = a_metric(recurring=True)
    tiers = Graduated(
        (PriceRange(0, 2, Decimal(0), Decimal(31)), PriceRange(3, None, Decimal(1), Decimal(62)))
    )
    charge = a_charge(tiers, prorated=True)
    assert usage_query(charge, metric, []).with_transactions
    row = a_row(
        3,
        weighted_units=Decimal(2 * 31 + 10),
        transactions=(Decimal(2), Decimal(1)),
        weighted_transactions=(Decimal(62), Decimal(10)),
    )
    (line,) = lines(charge, row, metric=metric)
    assert line.exact_amount_cents.quantize(Decimal("1e-18")) == 2 * 3100 + 2000 + 100


@pytest.mark.parametrize(
    ("period", "used", "minimum", "true_up"),
    [
        (MARCH, 0, 3100, 3100),
        (MARCH, 31, 3100, None),
        (MARCH, 30, 3100, 100),
        (LATE_MARCH, 10, 3100, 500),
        (LATE_MARCH, 15, 3100, None),
        (LATE_MARCH, 0, 1000, 484),  # 483.87
        (MARCH, 0, 0, None),
    ],
)
def test_what_a_charge_misses_of_its_minimum_is_a_line_of_its_own(
    period: Period, used: int, minimum: int, true_up: int | None
) -> None:
    charge = a_charge(Standard(Decimal(1)), min_amount_cents=minimum)
    first, *more = lines(charge, a_row(used), period=period)
    if true_up is None:
        assert more == []
        return
    (line,) = more
    assert (line.amount_cents, line.units, line.events_count, line.true_up_of) == (true_up, 1, 0, first.id)
    shown([line])


def test_the_minimum_is_that_of_all_prices_together() -> None:
    charge = a_charge(
        Standard(Decimal(1)), a_filter(Standard(Decimal(2)), region="eu"), min_amount_cents=1000
    )
    found = lines(charge, a_row(1), a_row(4, filter=0))
    assert [line.amount_cents for line in found] == [100, 800, 100]
    assert found[2].charge_filter_id is None


def test_a_dynamic_charge_costs_what_its_events_say() -> None:
    charge = a_charge(Dynamic())
    assert usage_query(charge, a_metric(), []).with_amounts
    (line,) = lines(charge, a_row(5, amount_cents=Decimal("12.345")))
    assert (line.exact_amount_cents, line.amount_cents) == (Decimal("12.345"), 12)


def test_what_was_paid_in_advance_is_not_billed_again_but_for_what_is_carried_over() -> None:
    charge = a_charge(Standard(Decimal(2)), pay_in_advance=True)
    assert lines(charge, a_row(5)) == []
    assert lines(charge, a_row(5), following=APRIL) == []
    recurring = a_metric(recurring=True)
    assert lines(charge, a_row(5), metric=recurring) == []  # it ends
    (line,) = lines(charge, a_row(5), metric=recurring, following=APRIL)
    assert (line.amount_cents, line.period_start, line.pay_in_advance) == (1000, APRIL.start, False)
    hidden = replace(charge, invoiceable=False)
    (line,) = lines(hidden, a_row(5), metric=recurring, following=APRIL)
    assert line.pay_in_advance


def test_a_full_recurring_quantity_is_left_to_the_plan_that_follows() -> None:
    charge = a_charge(Standard(Decimal(2)))
    recurring = a_metric(recurring=True)
    assert is_left_to_successor(charge, recurring, a_version(charge))
    assert not is_left_to_successor(charge, recurring, a_version())
    assert not is_left_to_successor(charge, a_metric(), a_version(charge))
    assert not is_left_to_successor(replace(charge, prorated=True), recurring, a_version(charge))


def an_event(at: str, **properties: object) -> EventRecord:
    return EventRecord(
        id=uuid.uuid4(),
        transaction_id="t",
        occurred_at=instant(at),
        received_at=instant(at),
        code="seats",
        external_customer_id="acme",
        external_subscription_id=None,
        customer_id=None,
        subscription_id=None,
        metric_id=uuid.UUID(int=1),
        status="counted",
        reason=None,
        quantity=Decimal(1),
        unique_value=None,
        model=None,
        input_tokens=Decimal(0),
        output_tokens=Decimal(0),
        cost_cents=None,
        cost_model_id=None,
        precise_total_amount_cents=None,
        properties=properties,
    )


def in_advance(
    charge: Charge, metric: Metric, event: EventRecord, before: list[UsageRow], after: list[UsageRow]
) -> InvoiceLine:
    subscription = a_subscription()
    price = event_price(charge, metric, usage_window(subscription, MARCH), event)
    return event_line(
        subscription, a_version(charge), charge, metric, MARCH, event, price, before, after, NOW
    )


def test_an_event_in_advance_pays_what_it_adds_to_its_own_price_and_group() -> None:
    charge = a_charge(
        Standard(Decimal(1)),
        a_filter(Standard(Decimal(5)), region="eu"),
        pay_in_advance=True,
        pricing_group_keys=("cloud",),
    )
    event = an_event("2026-03-10", region="us", cloud="aws")
    before = [a_row(3, highest=Decimal(3), grouped_by={"cloud": "gcp"})]
    after = [*before, a_row(2, highest=Decimal(2), grouped_by={"cloud": "aws"})]
    line = in_advance(charge, a_metric(), event, before, after)
    assert shown([line]) == [("Seats • aws", 2, 200)]
    assert (line.pay_in_advance, line.event_transaction_id, line.events_count) == (True, "t", 1)
    price = event_price(
        charge, a_metric(), usage_window(a_subscription(), MARCH), an_event("2026-03-10", region="eu")
    )
    assert (price.filter_index, price.grouped_by) == (0, {})
    assert (price.before.arrived, price.after.arrived) == (
        replace(price.after.arrived, with_it=False) if price.after.arrived else None,
        price.after.arrived,
    )


def test_units_that_come_back_are_not_paid_twice() -> None:
    charge = a_charge(Standard(Decimal(1)), pay_in_advance=True)
    row = a_row(4, highest=Decimal(10), events=3)
    line = in_advance(charge, a_metric(), an_event("2026-03-10"), [row], [replace(row, events_count=4)])
    assert shown([line]) == [("Seats", 0, 0)]


def test_a_prorated_event_in_advance_pays_from_its_day_on() -> None:
    charge = a_charge(Standard(Decimal(31)), pay_in_advance=True, prorated=True)
    after = [a_row(3, highest=Decimal(3))]
    line = in_advance(
        charge,
        a_metric(recurring=True),
        an_event("2026-03-16"),
        [a_row(1, highest=Decimal(1))],
        after,
    )
    assert (line.units, line.amount_cents) == (2, 2 * 16 * 100)
    shown([line])


def test_a_free_event_in_advance_costs_nothing_and_the_next_pays() -> None:
    charge = a_charge(Percentage(Decimal(1), Decimal("0.5"), free_units_per_events=1), pay_in_advance=True)
    one = a_row(100, highest=Decimal(100), transactions=(Decimal(100),))
    two = a_row(300, events=2, highest=Decimal(300), transactions=(Decimal(100), Decimal(200)))
    assert shown([in_advance(charge, a_metric(), an_event("2026-03-10"), [], [one])]) == [("Seats", 100, 0)]
    assert shown([in_advance(charge, a_metric(), an_event("2026-03-11"), [one], [two])]) == [
        ("Seats", 200, 250)
    ]
