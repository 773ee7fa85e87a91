"""The test clock (Decision 23): any first instant, then only forward, and everything due runs before the answer."""

from decimal import Decimal

import pytest

from world import World, audit

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}


async def _turn(world: World, now: object) -> tuple[int, str | None]:
    answer = await world.call("POST", "/api/v1/test-clock", {"now": now})
    return answer.status, answer.json.get("code")


async def test_the_first_turn_may_go_anywhere_and_later_ones_only_forward(world: World) -> None:
    assert (await world.get("/api/v1/test-clock"))["now"] is None
    await world.turn("1999-12-31T23:59:59Z")
    assert (await world.get("/api/v1/test-clock"))["now"] == "1999-12-31T23:59:59Z"
    assert await _turn(world, "1999-12-31T23:59:58Z") == (422, "clock_goes_forward")
    assert await _turn(world, "1999-12-31T23:59:59Z") == (200, None)
    await world.turn("2040-01-01")
    assert await _turn(world, "2039-12-31T00:00:00Z") == (422, "clock_goes_forward")


async def test_the_clock_cannot_go_back_once_something_was_billed(world: World) -> None:
    await world.a_plan(amount_cents=100, pay_in_advance=True)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    assert await _turn(world, "2020-01-01T00:00:00Z") == (422, "clock_goes_forward")


async def test_live_organizations_have_no_clock(live_world: World) -> None:
    assert await _turn(live_world, "2040-01-01T00:00:00Z") == (403, "live_mode")
    assert (await live_world.call("GET", "/api/v1/test-clock")).status == 403


@pytest.mark.parametrize(
    "now", ["soon", "2026-01-01", "", None, 5, "9999-12-31T00:00:00Z", "1969-12-31T00:00:00Z"]
)
async def test_what_is_no_instant_is_400(world: World, now: object) -> None:
    assert (await _turn(world, now))[0] == 400


async def test_time_stands_still_and_everything_is_dated_by_it(world: World) -> None:
    await world.turn("2026-03-04T05:06:07Z")
    await world.a_metric()
    await world.a_plan(charges=[STANDARD])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    stored = await world.use("acme", 1)
    assert (stored["timestamp"], stored["created_at"]) == ("2026-03-04T05:06:07Z", "2026-03-04T05:06:07Z")
    assert (await world.grant("acme", 1))["created_at"] == "2026-03-04T05:06:07Z"
    found = await world.get("/api/v1/subscriptions", external_customer_id="acme")
    assert found["subscriptions"][0]["started_at"] == "2026-03-04T05:06:07Z"


async def test_what_falls_due_runs_in_order_of_time(world: World) -> None:
    """Two customers' periods and a grant's end in one turn: each at its own instant, invoices numbered in order."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=100)
    for customer, day in (("a", "2026-01-01"), ("b", "2026-01-10")):
        await world.a_customer(customer)
        await world.at(day).subscribe(customer, "pro")
    await world.grant("a", 5, expires_at="2026-02-05T12:00:00Z")
    await world.turn("2026-03-20")
    found = (await world.get("/core/api/v1/invoices"))["invoices"][::-1]
    assert [(one["customer"]["external_id"], one["created_at"][:10]) for one in found] == [
        ("a", "2026-02-01"),
        ("b", "2026-02-10"),
        ("a", "2026-03-01"),
        ("b", "2026-03-10"),
    ]
    rows = await world.fetch("select occurred_at from ledger_entries where org_id = $1 and type = 'expire'")
    assert [row["occurred_at"].isoformat() for row in rows] == ["2026-02-05T12:00:00+00:00"]


@pytest.mark.parametrize("day", ["2028-02-29", "2028-12-31", "2027-02-28", "2028-01-31T23:59:59Z"])
async def test_a_subscription_may_start_on_any_day(world: World, day: str) -> None:
    await world.turn(day)
    await world.a_plan()
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def test_one_absurd_bill_does_not_stop_everybody_elses(world: World) -> None:
    """A line too large for its column may be refused when it is sent or capped, but it must never keep the
    organization's other periods from ending."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[STANDARD])
    for customer in ("absurd", "ordinary"):
        await world.a_customer(customer)
        await world.subscribe(customer, "pro")
    await world.use("absurd", Decimal("999999999999999999"))
    await world.use("ordinary", 1)
    await world.turn("2026-02-02")
    assert await world.lines("ordinary") == [("Pro, monthly fee", 0), ("tokens", 100)]
    await audit(world)
