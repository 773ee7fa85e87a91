"""Fees of plans by days, changes and ends of subscriptions: dates and figures of Lago's scenarios, asked of our API."""

from typing import Any, NamedTuple

import pytest

from parity import (
    Bill,
    a_tax,
    assert_bills,
    bill,
    costs,
    credited,
    end,
    invoices,
    notes,
    pay,
    standard,
    start,
)
from world import World, audit

pytestmark = pytest.mark.database


class Fee(NamedTuple):
    """One plan, one subscription, and what its invoices come to."""

    told: str
    plan: dict[str, Any]
    starts: str
    until: str
    bills: list[int]
    billing_time: str = "calendar"
    zone: str = "UTC"
    ends: str | None = None


WEEK = {"interval": "weekly", "amount_cents": 700, "pay_in_advance": True}
WEEKLY = {"interval": "weekly", "amount_cents": 100_000}
YEARLY = {"interval": "yearly", "amount_cents": 100_000}

FEES = [
    # invoices/invoices_spec: the days left of a week, by the customer's own calendar.
    Fee("Friday in UTC is Thursday in Denver", WEEK, "2023-06-16T05:00", "2023-06-16T06:00", [400], zone="America/Denver"),
    Fee("Friday in Halifax too", WEEK, "2023-06-16T05:00", "2023-06-16T06:00", [300], zone="America/Halifax"),
    Fee("Friday evening in Paris", WEEK, "2023-06-16T20:00", "2023-06-16T21:00", [300], zone="Europe/Paris"),
    Fee("Friday in UTC is Saturday in Karachi", WEEK, "2023-06-16T20:00", "2023-06-16T21:00", [200], zone="Asia/Karachi"),
    # golden/b02: the first part of a week, whole weeks, and the part of one that ends.
    Fee("a week begun on Wednesday", WEEKLY, "2024-03-06T10:00", "2024-03-18T01:00", [71_429, 100_000]),
    Fee("a week begun on Monday", WEEKLY, "2024-03-04T10:00", "2024-03-11T01:00", [100_000]),
    Fee("a week that ends on Thursday", WEEKLY, "2024-03-04T10:00", "2024-03-12", [57_143], ends="2024-03-07T10:00"),
    Fee("the last of January, in a leap year", {"amount_cents": 2900}, "2024-01-31T01:00", "2024-02-29T02:00", [2900],
        billing_time="anniversary"),
    Fee("a year begun on 16 March has 291 of 366 days", YEARLY, "2024-03-16", "2025-01-01T01:00", [79_508]),
    Fee("a year that ends on 16 March had 76", YEARLY, "2024-01-01", "2024-03-17", [20_765], ends="2024-03-16T10:00"),
    # golden/b09: a day of March is a dollar.
    Fee("begun in mid month", {"amount_cents": 3100}, "2024-03-16", "2024-04-01T01:00", [1600]),
    Fee("ended in mid month", {"amount_cents": 3100}, "2024-03-01", "2024-04-02", [1600], ends="2024-03-16T10:00"),
    Fee("ten days of trial", {"amount_cents": 3100, "trial_period": 10}, "2024-03-01", "2024-04-01T01:00", [2100]),
    # subscriptions/upgrade_proration_spec: 32 of the quarter's 91 days, however short the subscription was.
    Fee("a quarter joined late and left early", {"interval": "quarterly", "amount_cents": 91_000}, "2024-05-20T10:00",
        "2024-07-02", [32_000], ends="2024-06-20T10:00"),
    # invoices/invoices_spec: grace leaves the figure as it is.
    Fee("six days of December", {"amount_cents": 1000}, "2022-12-15", "2022-12-31", [194], ends="2022-12-20T06:00"),
]  # fmt: skip


@pytest.mark.parametrize("fee", FEES, ids=lambda fee: fee.told)
async def test_a_fee_counts_the_days_that_lago_counts(world: World, fee: Fee) -> None:
    await world.turn(fee.starts)
    await world.a_plan(**fee.plan)
    await world.a_customer(timezone=fee.zone)
    await start(world, fee.starts, billing_time=fee.billing_time)
    if fee.ends is not None:
        await end(world, fee.ends)
    await world.turn(fee.until)
    await assert_bills(world, [{"fees": cents} for cents in fee.bills])
    await audit(world)


async def test_a_leap_february_in_advance(world: World) -> None:
    """invoices/invoices_spec: on 1 February 2024 the fee is of February's 29 days, the usage of January's 31."""
    await world.turn("2023-06-16T05:00")
    await world.a_plan(amount_cents=700, pay_in_advance=True)
    await world.a_customer()
    await start(world, "2023-06-16T05:00")
    await world.turn("2024-02-01T12:12")
    last = (await invoices(world))[-1]
    assert last["total_amount_cents"] == 700
    [shown] = last["billing_periods"]
    assert {
        name: shown[name][:10] for name in shown if name.endswith("datetime") and "fixed" not in name
    } == {
        "subscription_from_datetime": "2024-02-01",
        "subscription_to_datetime": "2024-02-29",
        "charges_from_datetime": "2024-01-01",
        "charges_to_datetime": "2024-01-31",
    }


# Trials.

MILLIONS = {"amount_cents": 5_000_000, "pay_in_advance": True}


async def a_trial(
    world: World, days: int, starts: str = "2024-03-05T12:12", zone: str = "UTC", **plan: Any
) -> None:
    await world.turn(starts)
    await world.a_metric(how="count_agg")
    await world.a_plan(**MILLIONS, trial_period=days, charges=[standard("10")], **plan)
    await world.a_customer(timezone=zone)
    await start(world, starts)


async def test_a_fee_in_advance_waits_for_the_trial(world: World) -> None:
    """subscriptions/free_trial_billing_spec: ten days of trial from the 5th leave 17 of March's 31."""
    await a_trial(world, 10)
    await world.turn("2024-03-15T12:02")
    await assert_bills(world, [])
    await world.turn("2024-03-15T13:02")
    await assert_bills(world, [{"subscription": [2_741_935], "total": 2_741_935}])
    await audit(world)


@pytest.mark.parametrize(
    ("used", "changed", "again", "charge"),
    [
        ("2024-03-08", "2024-03-10T12:12", ["2024-03-11"], 1200),
        ("2024-03-05T13:00", "2024-03-05T13:15", ["2024-03-05T15:00", "2024-03-05T15:01"], 2400),
    ],
    ids=["in the trial", "on its first day"],
)
async def test_an_upgrade_in_the_trial_bills_the_usage_and_keeps_counting_from_the_first_day(
    world: World, used: str, changed: str, again: list[str], charge: int
) -> None:
    """subscriptions/free_trial_billing_spec: the new plan's 13 days end on the 18th; 14 of 31 days are left."""
    await a_trial(world, 10)
    await world.a_plan(
        code="max", amount_cents=10_000_000, pay_in_advance=True, trial_period=13, charges=[standard("12")]
    )
    await world.at(used).use("acme")
    await start(world, changed, "max")
    await assert_bills(world, [{"subscription": [], "charge": [1000]}])
    for when in again:
        await world.at(when).use("acme")
    await world.turn("2024-03-15T13:00")
    assert len(await invoices(world)) == 1
    await world.turn("2024-03-18T13:00")
    await world.turn("2024-04-01T12:12")
    await assert_bills(
        world,
        [
            {"charge": [1000]},
            {"subscription": [4_516_129], "charge": []},
            {"subscription": [10_000_000], "charge": [charge]},
        ],
    )
    await audit(world)


async def test_a_trial_longer_than_the_month(world: World) -> None:
    """subscriptions/free_trial_billing_spec: 45 days end on 19 April; 12 of its 30 days are left."""
    await a_trial(world, 45)
    await world.at("2024-03-10").use("acme")
    await world.turn("2024-04-19T13:01")
    await assert_bills(
        world, [{"charge": [1000], "subscription": []}, {"subscription": [2_000_000], "charge": []}]
    )
    await audit(world)


async def test_a_trial_that_ends_on_the_day_of_billing_in_paris(world: World) -> None:
    """subscriptions/free_trial_billing_spec: the trial ends on 1 April, local time, so April is paid in full."""
    await a_trial(world, 10, "2024-03-22T01:12", "Europe/Paris")
    await world.at("2024-03-23").use("acme")
    await world.turn("2024-04-01T13:11")
    found = await invoices(world)
    assert sum(one["total_amount_cents"] for one in found) == 5_001_000
    await audit(world)


async def test_a_trial_that_ends_a_day_later_in_tokyo(world: World) -> None:
    """subscriptions/free_trial_billing_spec: 1 April in UTC is the 2nd in Tokyo: 29 of 30 days."""
    await a_trial(world, 10, "2024-03-22T18:12", "Asia/Tokyo")
    await world.at("2024-03-28").use("acme")
    await world.turn("2024-03-31T15:10")
    await assert_bills(world, [{"charge": [1000], "subscription": []}])
    await world.turn("2024-04-01T19:11")
    await assert_bills(world, [{"charge": [1000]}, {"subscription": [4_833_333], "charge": []}])
    await audit(world)


async def test_the_commitment_of_a_month_in_which_a_trial_ends_counts_the_fee_that_was_paid(
    world: World,
) -> None:
    """subscriptions/free_trial_billing_spec: 100,000 were promised for April, 20,000 and 10 of usage were paid."""
    await a_trial(world, 45, minimum_commitment={"amount_cents": 10_000_000})
    await world.at("2024-03-10").use("acme")
    await world.at("2024-04-10").use("acme")
    await world.turn("2024-05-01")
    found = await invoices(world)
    wanted: Bill = {"subscription": [5_000_000], "charge": [1000], "commitment": [7_999_000]}
    assert bill(found[-1], wanted) == wanted
    await audit(world)


async def test_a_week_of_trial_from_the_fourth_leaves_three_weeks_of_march(world: World) -> None:
    """invoices/invoices_spec: 21 of 31 days."""
    await world.turn("2024-03-04T21:00")
    await world.a_plan(amount_cents=3500, pay_in_advance=True, trial_period=7)
    await world.a_customer()
    await start(world, "2024-03-04T21:00")
    await world.turn("2024-03-11T22:00")
    await assert_bills(world, [{"total": 2371}])


# Upgrades.


@pytest.mark.parametrize(
    ("billing_time", "fees", "credits"),
    [("calendar", [871, 968, 1226], [806, 1210]), ("anniversary", [1000, 1161, 1471], [968, 1451])],
)
async def test_two_upgrades_in_one_day(
    world: World, billing_time: str, fees: list[int], credits: list[int]
) -> None:
    """subscriptions/multiple_upgrade_spec: what is unused comes back with its 25 % of tax."""
    await world.turn("2024-03-05T12:12")
    await a_tax(world, "25")
    for code, amount in (("one", 1000), ("two", 1500), ("three", 1900)):
        await world.a_plan(code=code, amount_cents=amount, pay_in_advance=True)
    await world.a_customer()
    await start(world, "2024-03-05T12:12", "one", billing_time=billing_time)
    await start(world, "2024-03-12T12:12", "two", billing_time=billing_time)
    await start(world, "2024-03-12T13:12", "three", billing_time=billing_time)
    await assert_bills(world, [{"subscription": [cents]} for cents in fees])
    assert await credited(world) == credits
    await audit(world)


async def test_an_upgrade_from_months_to_years(world: World) -> None:
    """subscriptions/upgrade_spec: a day of the old plan's month comes back, 275 of the year's 366 days are paid."""
    await world.turn("2023-06-29T12:12")
    await world.a_plan(code="month", amount_cents=1000, pay_in_advance=True)
    await world.a_plan(code="year", interval="yearly", amount_cents=12_000, pay_in_advance=True)
    await world.a_customer()
    await start(world, "2023-06-29T12:12", "month", billing_time="anniversary")
    await start(world, "2023-09-28T05:00", "year", billing_time="anniversary")
    await assert_bills(world, [{"subscription": [cents]} for cents in (1000, 1000, 1000, 9016)])
    assert await credited(world) == [32]
    await audit(world)


async def test_an_upgrade_in_april_bills_thirty_days_once_each(world: World) -> None:
    """golden/b09/upgrade/advance/credit"""
    await world.turn("2024-04-01")
    await world.a_plan(code="a", amount_cents=3000, pay_in_advance=True)
    await world.a_plan(code="b", amount_cents=9000, pay_in_advance=True)
    await world.a_customer()
    await start(world, "2024-04-01", "a")
    await start(world, "2024-04-16T10:00", "b")
    await assert_bills(world, [{"fees": 3000, "total": 3000}, {"fees": 4500, "notes": 1500, "total": 3000}])
    await audit(world)


async def test_an_upgraded_quarter_is_prorated_on_the_whole_period(world: World) -> None:
    """subscriptions/upgrade_proration_spec: the anniversary is inherited; 32 days of the quarter from 15 April."""
    await world.turn("2024-01-15T10:00")
    await world.a_plan(code="small", interval="quarterly", amount_cents=45_500)
    await world.a_plan(code="large", interval="quarterly", amount_cents=91_000)
    await world.a_customer()
    await start(world, "2024-01-15T10:00", "small", billing_time="anniversary")
    await start(world, "2024-05-20T10:00", "large", billing_time="anniversary")
    await end(world, "2024-06-20T10:00")
    await assert_bills(
        world, [{"subscription": [45_500]}, {"subscription": [17_500]}, {"subscription": [32_000]}]
    )
    await audit(world)


async def a_seat_each(world: World, advance: bool) -> None:
    """Five of a lasting quantity since 2 January 2024, at a dollar a month each, prorated, on two plans."""
    await world.turn("2024-01-01")
    await world.a_metric(code="seats", recurring=True)
    seats = standard("1", "seats", prorated=True)
    await world.a_plan(code="old", amount_cents=2900, pay_in_advance=advance, charges=[seats])
    await world.a_plan(code="new", amount_cents=29_000, pay_in_advance=advance, charges=[seats])
    await world.a_customer()
    await start(world, "2024-01-01", "old")
    await world.at("2024-01-02").use("acme", 5, code="seats")


async def test_a_lasting_quantity_over_an_upgrade_in_advance(world: World) -> None:
    """invoices/invoices_spec: the day of the change belongs to the new plan: 11 days of the seats, then 18."""
    await a_seat_each(world, True)
    await start(world, "2024-02-12T06:00", "new")
    found = await invoices(world)
    assert (found[-1]["fees_amount_cents"], await credited(world)) == (18_000 + 190, [1800])
    await world.turn("2024-03-01T12:12")
    assert (await invoices(world))[-1]["total_amount_cents"] == 29_000 + 310
    await audit(world)


async def test_a_lasting_quantity_over_an_upgrade_in_arrears(world: World) -> None:
    """invoices/invoices_spec: as in advance; the old plan's fee of 11 days, the new one's of 18."""
    await a_seat_each(world, False)
    await start(world, "2024-02-12T06:00", "new")
    assert (await invoices(world))[-1]["total_amount_cents"] == 1100 + 190
    await world.turn("2024-03-01T12:12")
    assert (await invoices(world))[-1]["total_amount_cents"] == 18_000 + 310
    await audit(world)


@pytest.mark.parametrize("advance", [True, False], ids=["in advance", "in arrears"])
@pytest.mark.parametrize("when", ["2024-02-12T06:00", "2024-02-12T00:00"])
async def test_a_lasting_quantity_of_a_subscription_that_ends(world: World, advance: bool, when: str) -> None:
    """invoices/invoices_spec: the day of the end counts: 12 / 29 of 5.00 and of the fee, or 17 days given back."""
    await a_seat_each(world, advance)
    await end(world, when)
    last = (await invoices(world))[-1]
    if advance:
        assert await credited(world) == [1700]
        wanted: Bill = {"fees": 207, "notes": 207, "total": 0}
    else:
        wanted = {"subscription": [1200], "charge": [207], "total": 1407}
    assert bill(last, wanted) == wanted
    await audit(world)


@pytest.mark.parametrize("kept", [True, False], ids=["on both plans", "on the old one alone"])
async def test_a_lasting_quantity_in_full_is_billed_by_the_plan_that_has_it_last(
    world: World, kept: bool
) -> None:
    """invoices/invoices_spec: the old plan bills it only where the new one does not know the metric."""
    await world.turn("2022-12-15")
    await world.a_metric(code="seats", recurring=True)
    seats = [standard("3", "seats")]
    await world.a_plan(code="old", amount_cents=1000, charges=seats)
    await world.a_plan(code="new", amount_cents=2000, charges=seats if kept else [])
    await world.a_customer()
    await start(world, "2022-12-15", "old")
    await world.at("2022-12-16").use("acme", 5, code="seats")
    await start(world, "2022-12-20T06:00", "new")
    await world.turn("2023-01-01")
    billed = [bill(one, {"charge": []})["charge"] for one in await invoices(world)]
    assert billed == ([[], [1500]] if kept else [[1500], []])


async def test_the_usage_of_a_day_of_changes_is_each_plan_s_own(world: World) -> None:
    """invoices/invoices_spec: plans of one price follow each other at once, there and back, on one morning."""
    await world.turn("2024-01-10T06:20")
    await world.a_metric()
    await world.a_plan(code="free", charges=[standard("0")])
    await world.a_plan(code="paid", charges=[standard("1")])
    await world.a_customer()
    await start(world, "2024-01-10T06:20", "free", billing_time="anniversary")
    await world.at("2024-01-10T08:20").use("acme", 10)
    assert await costs(world) == 0
    await start(world, "2024-01-10T08:30", "paid", billing_time="anniversary")
    await assert_bills(world, [{"total": 0}])
    assert await costs(world) == 0
    await world.at("2024-01-10T08:35").use("acme", 10_000)
    assert await costs(world) == 1_000_000
    await start(world, "2024-01-10T08:40", "free", billing_time="anniversary")
    await assert_bills(world, [{"total": 0}, {"total": 1_000_000}])
    assert await costs(world) == 0
    await audit(world)


# Downgrades.


async def test_a_downgrade_waits_for_the_end_of_the_month(world: World) -> None:
    """golden/b09/downgrade/arrears"""
    await world.turn("2024-04-01")
    await world.a_plan(code="a", amount_cents=9000)
    await world.a_plan(code="b", amount_cents=3000)
    await world.a_customer()
    await start(world, "2024-04-01", "a")
    await start(world, "2024-04-16T10:00", "b")
    await world.turn("2024-06-01T01:00")
    await assert_bills(world, [{"total": 9000}, {"total": 3000}])
    await audit(world)


async def test_a_downgrade_from_months_to_years(world: World) -> None:
    """subscriptions/downgrade_spec: the year began with the first subscription; 243 of its 366 days are left."""
    await world.turn("2023-07-19T12:12")
    await world.a_plan(code="month", amount_cents=12_900, pay_in_advance=True)
    await world.a_plan(code="year", interval="yearly", amount_cents=118_800, pay_in_advance=True)
    await world.a_customer()
    await start(world, "2023-07-19T12:12", "month", billing_time="anniversary")
    await start(world, "2023-11-09", "year", billing_time="anniversary")
    await world.turn("2023-11-19T12:12")
    await assert_bills(world, [{"fees": 12_900}] * 4 + [{"fees": 78_875}])
    await audit(world)


# Ends.


async def a_paid_february(world: World, advance: bool = True) -> None:
    """100.00 a month from 8 February 2025 with 20 % tax: 75.00 and 15.00. 50 units at 1.00 are used on the 10th."""
    await world.turn("2025-02-08")
    await a_tax(world, "20")
    await world.a_metric()
    await world.a_plan(amount_cents=10_000, pay_in_advance=advance, charges=[standard()])
    await world.a_customer()
    await start(world, "2025-02-08")


class Ending(NamedTuple):
    told: str
    query: dict[str, str]
    last: Bill | None
    note: tuple[int, int] | None
    paid: int = 0
    left: int = 0


ENDINGS = [
    Ending("credit", {}, {"before_tax": 5000, "taxes": 1000, "notes": 3000, "total": 3000}, (3000, 0)),
    Ending("refund", {"on_termination_credit_note": "refund"}, {"before_tax": 5000, "notes": 1500, "total": 4500},
           (1500, 1500), paid=7500),
    Ending("no note", {"on_termination_credit_note": "skip"}, {"before_tax": 5000, "notes": 0, "total": 6000}, None),
    Ending("no invoice", {"on_termination_invoice": "skip"}, None, (3000, 0), left=3000),
]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.told)
async def test_an_end_gives_seven_of_28_days_back(world: World, ending: Ending) -> None:
    """subscriptions/terminate_manually_spec"""
    await a_paid_february(world)
    if ending.paid:
        await pay(world, (await invoices(world))[0], ending.paid)
    await world.at("2025-02-10").use("acme", 50)
    await end(world, "2025-02-21", **ending.query)
    first: Bill = {"taxes": 1500, "total": 9000}
    await assert_bills(world, [first] if ending.last is None else [first, ending.last])
    shown = [(one["credit_amount_cents"], one["refund_amount_cents"]) for one in await notes(world)]
    assert shown == ([] if ending.note is None else [ending.note])
    assert sum(one["balance_amount_cents"] for one in await notes(world)) == ending.left
    await audit(world)


async def test_an_end_on_the_day_of_the_start(world: World) -> None:
    """subscriptions/terminate_manually_spec: 20 of 28 days come back: 71.43 and 14.29 of tax."""
    await a_paid_february(world)
    await world.at("2025-02-08T05:00").use("acme", 50)
    await end(world, "2025-02-08T12:00")
    await assert_bills(
        world, [{"total": 9000}, {"before_tax": 5000, "taxes": 1000, "notes": 6000, "total": 0}]
    )
    assert [(one["credit_amount_cents"], one["balance_amount_cents"]) for one in await notes(world)] == [
        (8572, 2572)
    ]
    await audit(world)


async def test_an_end_in_arrears_bills_fourteen_of_28_days(world: World) -> None:
    """subscriptions/terminate_manually_spec"""
    await a_paid_february(world, advance=False)
    await world.at("2025-02-10").use("acme", 50)
    await end(world, "2025-02-21")
    await assert_bills(
        world, [{"subscription": [5000], "charge": [5000], "taxes": 2000, "notes": 0, "total": 12_000}]
    )
    await audit(world)
