"""When periods begin and end, what they cost, and which side of a boundary an event is on."""

import itertools
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}


async def _periods(world: World, customer: str = "acme") -> list[tuple[str, str]]:
    return [(one["period_start"], one["period_end"]) for one in await world.invoices(customer)]


async def test_31_january_renews_on_the_last_day_of_short_months_and_returns(world: World) -> None:
    """T02: the anchor day clamps to 29 February in a leap year and comes back on 31 March."""
    await world.turn("2028-01-31")
    await world.a_plan(amount_cents=3100)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.turn("2028-07-01")
    bounds = ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31", "2028-06-30"]
    expected = [f"{day}T00:00:00Z" for day in bounds]
    assert await _periods(world) == list(itertools.pairwise(expected))
    assert {one["total_amount_cents"] for one in await world.invoices("acme")} == {3100}


async def test_29_february_yearly(world: World) -> None:
    await world.turn("2028-02-29T10:30:00Z")
    await world.a_plan(amount_cents=3660, interval="yearly")
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.turn("2032-03-01")
    bounds = [
        "2028-02-29T10:30:00Z",
        *(f"20{y}-02-{29 if y == 32 else 28}T00:00:00Z" for y in (29, 30, 31, 32)),
    ]
    assert await _periods(world) == list(itertools.pairwise(bounds))


@pytest.mark.parametrize(
    ("interval", "ends"),
    [
        ("weekly", ["2026-01-12", "2026-01-19"]),
        ("monthly", ["2026-02-01", "2026-03-01"]),
        ("quarterly", ["2026-04-01", "2026-07-01"]),
        ("semiannual", ["2026-07-01", "2027-01-01"]),
        ("yearly", ["2027-01-01", "2028-01-01"]),
    ],
)
async def test_calendar_billing_prorates_the_first_period_by_days(
    world: World, interval: str, ends: list[str]
) -> None:
    """Decision 26: the first period is cut at the calendar's boundary and costs its share of days."""
    await world.turn("2026-01-08")  # a Thursday
    days = {
        "weekly": (4, 7),
        "monthly": (24, 31),
        "quarterly": (83, 90),
        "semiannual": (174, 181),
        "yearly": (358, 365),
    }
    part, whole = days[interval]
    await world.a_plan(amount_cents=whole * 100, interval=interval)
    await world.a_customer()
    await world.subscribe("acme", "pro", billing_time="calendar")
    await world.turn(ends[1])
    first, second = await world.invoices("acme")
    assert [first["period_start"], first["period_end"]] == ["2026-01-08T00:00:00Z", f"{ends[0]}T00:00:00Z"]
    assert [second["period_start"], second["period_end"]] == [f"{end}T00:00:00Z" for end in ends]
    assert [first["total_amount_cents"], second["total_amount_cents"]] == [part * 100, whole * 100]


async def test_a_fee_in_arrears_is_on_the_invoice_of_its_period(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=4900)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    assert await world.invoices("acme") == []
    await world.turn("2026-02-01")
    [invoice] = await world.invoices("acme")
    assert (invoice["number"], invoice["billing_reason"]) == ("INV-001", "subscription_periodic")
    assert (invoice["issuing_date"], invoice["amount"], invoice["status"]) == ("2026-02-01", 4900, "open")


async def test_a_fee_in_advance_is_invoiced_when_the_period_starts(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(amount_cents=4900, pay_in_advance=True, charges=[STANDARD])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    assert await world.lines("acme") == [("Pro, monthly fee", 4900)]
    await world.use("acme", 2)
    await world.turn("2026-02-01")
    invoice = await world.last_invoice("acme")
    fee, usage = invoice["lines"]
    assert (fee["period_start"], fee["amount_cents"]) == ("2026-02-01T00:00:00Z", 4900)
    assert (usage["period_start"], usage["amount_cents"]) == ("2026-01-01T00:00:00Z", 200)
    assert [one["billing_reason"] for one in await world.invoices("acme")] == [
        "subscription_starting",
        "subscription_periodic",
    ]


@pytest.mark.parametrize("pay_in_advance", [False, True])
async def test_ending_at_cuts_the_last_period_and_prorates_it(world: World, pay_in_advance: bool) -> None:
    """A subscription with an end is invoiced a last time, for its days, and then `can` says that it has expired."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(
        amount_cents=2800, pay_in_advance=pay_in_advance, charges=[STANDARD], entitlements={"chat": True}
    )
    await world.a_customer()
    await world.subscribe("acme", "pro", ending_at="2026-02-15T00:00:00Z")
    await world.at("2026-02-14").use("acme", 3)
    assert await world.reason("acme") == (True, "unlimited")
    await world.turn("2026-02-15")
    assert await world.reason("acme") == (False, "subscription_expired")
    await world.turn("2026-06-01")
    last = await world.last_invoice("acme")
    assert (last["billing_reason"], last["period_end"]) == (
        "subscription_terminating",
        "2026-02-15T00:00:00Z",
    )
    invoices = await world.invoices("acme")
    fees = [
        line["amount_cents"] for one in invoices for line in one["lines"] if line["kind"] == "subscription"
    ]
    usage = [line["amount_cents"] for one in invoices for line in one["lines"] if line["kind"] == "charge"]
    # Paid in advance, the last fee is a whole one; what is unused of it is credited when the end comes.
    assert fees == ([2800, 2800] if pay_in_advance else [2800, 1500])  # the day of the end is paid
    assert usage == [0, 300]
    late = await world.use("acme", 1, timestamp="2026-02-14T12:00:00Z")
    assert (late["billing_status"], late["reason"]) == ("late", "period_already_invoiced")
    after = await world.use("acme", 1, timestamp="2026-02-15T00:00:00Z")
    assert (after["billing_status"], after["reason"]) == ("unmatched", "subscription_not_found")
    await audit(world)


@pytest.mark.parametrize(
    ("zone", "start", "bounds"),
    [
        (
            "America/Los_Angeles",
            "2026-02-01T08:00:00Z",
            ["2026-02-01T08:00:00Z", "2026-03-01T08:00:00Z", "2026-04-01T07:00:00Z"],
        ),
        (
            "Europe/Berlin",
            "2026-09-01T10:00:00Z",
            ["2026-09-01T10:00:00Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"],
        ),
        (
            "Australia/Lord_Howe",
            "2026-03-10T00:00:00Z",
            ["2026-03-10T00:00:00Z", "2026-04-09T13:30:00Z", "2026-05-09T13:30:00Z"],
        ),
        (
            "Pacific/Kiritimati",
            "2026-01-31T12:00:00Z",
            ["2026-01-31T12:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z"],
        ),
    ],
)
async def test_periods_end_at_midnight_where_the_customer_lives(
    world: World, zone: str, start: str, bounds: list[str]
) -> None:
    """T01, T04: boundaries are local midnights, across changes of the clocks, and a full month costs a full fee."""
    await world.turn(start)
    await world.a_plan(amount_cents=1000)
    await world.a_customer(timezone=zone)
    await world.subscribe("acme", "pro")
    await world.turn(bounds[-1])
    assert await _periods(world) == list(itertools.pairwise(bounds))
    assert {one["total_amount_cents"] for one in await world.invoices("acme")} == {1000}


async def test_an_event_at_the_boundary_belongs_to_the_period_that_starts(world: World) -> None:
    """T08: start inclusive, end exclusive, to the microsecond; each event is in exactly one period."""
    await _a_subscriber(world)
    for at, n in (
        ("2026-01-31T23:59:59.999999Z", 1),
        ("2026-02-01T00:00:00Z", 10),
        ("2026-02-01T00:00:00.000001Z", 100),
    ):
        await world.at("2026-01-31T23:59:00Z").use("acme", n, timestamp=at)
    assert (await world.can("acme"))["used"] == 1
    await world.turn("2026-02-01")
    assert await world.units("acme") == 1
    assert (await world.can("acme"))["used"] == 110
    await world.turn("2026-03-01")
    assert await world.units("acme") == 110
    await audit(world)


async def test_the_start_of_a_subscription_is_inclusive(world: World) -> None:
    await _a_subscriber(world)
    before = await world.use("acme", 1, timestamp="2025-12-31T23:59:59.999999Z")
    assert (before["billing_status"], before["reason"]) == ("unmatched", "subscription_not_found")
    assert (await world.use("acme", 1, timestamp="2026-01-01T00:00:00Z"))["billing_status"] == "counted"


async def test_late_events_are_flagged_and_never_change_an_invoice_but_the_next_one(world: World) -> None:
    """I06, Decision 26: after the invoice is final an event of its period is stored, flagged, and billed with the next."""
    await _a_subscriber(world)
    await world.use("acme", 5)
    await world.turn("2026-02-01")
    before = await world.invoices("acme")
    late = await world.use("acme", 7, id="late", timestamp="2026-01-20T00:00:00Z")
    assert (late["billing_status"], late["reason"]) == ("late", "period_already_invoiced")
    assert (await world.can("acme"))["used"] == 0
    await world.turn("2026-03-01")
    assert (await world.invoices("acme"))[0] == before[0]
    assert await world.units("acme") == 7
    stored = await world.event("late")
    assert stored is not None
    assert stored["billing_status"] == "late"
    await audit(world)


async def test_invoice_numbers_are_gapless_within_the_organization(world: World, other_world: World) -> None:
    for each in (world, other_world):
        await each.turn("2026-01-01")
        await each.a_plan(amount_cents=100)
        for customer in ("a", "b", "c"):
            await each.a_customer(customer)
            await each.subscribe(customer, "pro")
    await world.turn("2026-04-01")
    await other_world.turn("2026-03-01")
    found = await world.get("/core/api/v1/invoices", per_page=100)
    assert [one["sequential_id"] for one in found["invoices"]] == list(range(9, 0, -1))
    assert [one["number"] for one in found["invoices"]][-1] == "INV-001"
    assert (await other_world.get("/core/api/v1/invoices"))["meta"]["total_count"] == 6


async def test_another_price_is_for_those_who_come_after_it(world: World) -> None:
    """A plan's subscribers keep the version that they subscribed to."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[STANDARD])
    for customer in ("early", "later"):
        await world.a_customer(customer)
    await world.subscribe("early", "pro")
    dearer: dict[str, Any] = {**STANDARD, "properties": {"amount": "2"}}
    plan = {"code": "pro", "name": "Pro", "interval": "monthly", "amount_cents": 2000, "charges": [dearer]}
    answer = await world.call("PUT", "/core/api/v1/plans/pro", {"plan": plan})
    assert answer.json["plan"]["version"] == 2
    await world.subscribe("later", "pro")
    for customer in ("early", "later"):
        await world.use(customer, 3)
    await world.turn("2026-02-01")
    assert await world.lines("early") == [("Pro, monthly fee", 1000), ("tokens", 300)]
    assert await world.lines("later") == [("Pro, monthly fee", 2000), ("tokens", 600)]


async def test_included_credits_come_each_period_and_end_with_it(world: World) -> None:
    """Decision 14: each period's credits expire with it, before the next period's are granted; others stay."""
    await world.turn("2026-01-01")
    await world.a_plan(credits=100)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.grant("acme", 7)
    assert await world.deduct("acme", 30) == (True, 77)
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 107
    assert await world.transactions("acme") == [
        ("grant", 100),
        ("grant", 7),
        ("deduct", 30),
        ("expire", 70),
        ("grant", 100),
    ]
    await audit(world)


async def _a_subscriber(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(charges=[STANDARD], entitlements={"chat": {"limit": 1000}})
    await world.a_customer()
    await world.subscribe("acme", "pro")
