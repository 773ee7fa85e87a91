"""Usage that credits were taken for counts, and is not charged again."""

from typing import Any

import pytest

from credits.product import a_rate, a_system, give, track
from world import World, audit

pytestmark = pytest.mark.database

PRICE: dict[str, Any] = {
    "billable_metric_code": "tokens",
    "charge_model": "standard",
    "properties": {"amount": "0.10"},
}


async def a_shop(world: World, charge: dict[str, Any], **metric: object) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(**metric)
    await a_system(world)
    await a_rate(world, credits="1", per="1")
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.assign("acme", "pro", "sub")
    await give(world, 1000)


async def used(world: World) -> Any:
    return (await world.get("/api/v1/usage/acme/tokens"))["value"]


async def billed(world: World) -> list[int]:
    """What the last invoice charges for usage, in cents."""
    return sorted(cents for _, cents in await world.lines("acme") if cents)


async def test_it_counts_and_the_invoice_leaves_it_out(world: World) -> None:
    await a_shop(world, PRICE)
    event = await world.event((await track(world, properties={"n": 70})).json["operation_id"])
    assert event is not None
    assert (event["billing_status"], event["reason"]) == ("counted", "paid_by_credits")
    await world.use("acme", 30)
    # What somebody else says of an event is only a property of it.
    await world.use("acme", 5, properties={"paid_by": "credits"})
    assert await used(world) == 105
    shown = await world.get("/core/api/v1/customers/acme/current_usage", external_subscription_id="sub")
    assert shown["customer_usage"]["amount_cents"] == 350
    await world.turn("2026-02-01")
    assert await world.units("acme") == 35
    assert await billed(world) == [350]
    [row] = await world.fetch("select id from invoice_lines where org_id = $1 and units = 35")
    explained = await world.get(f"/core/api/v1/fees/{row['id']}/explanation")
    assert sorted(event["properties"]["n"] for event in explained["explanation"]["usage"]["events"]) == [
        5,
        30,
    ]
    await audit(world)


async def test_a_charge_may_say_what_it_costs(world: World) -> None:
    """A filter on `paid_by` prices it: here at a fifth."""
    cheap = {"values": {"paid_by": ["credits"]}, "properties": {"amount": "0.02"}}
    await a_shop(world, {**PRICE, "filters": [cheap]}, filters=[{"key": "paid_by", "values": ["credits"]}])
    await track(world, properties={"n": 70})
    await world.use("acme", 30)
    await world.turn("2026-02-01")
    assert await billed(world) == [140, 300]
    await audit(world)


async def test_it_is_not_charged_in_advance_either(world: World) -> None:
    await a_shop(world, {**PRICE, "pay_in_advance": True})
    await track(world, properties={"n": 70})
    assert await world.fetch("select from invoice_lines where org_id = $1") == []
    await world.use("acme", 30)
    [line] = await world.fetch("select units, amount_cents from invoice_lines where org_id = $1")
    assert (line["units"], line["amount_cents"]) == (30, 300)
    await track(world, properties={"n": 7})
    await world.turn("2026-02-01")
    rows = await world.fetch("select sum(amount_cents) from invoice_lines where org_id = $1")
    assert rows[0][0] == 300
    await audit(world)


async def test_tiers_begin_with_what_is_charged(world: World) -> None:
    tiers = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.1", "flat_amount": "0"},
    ]
    await a_shop(world, {**PRICE, "charge_model": "graduated", "properties": {"graduated_ranges": tiers}})
    await track(world, properties={"n": 500})
    await world.use("acme", 12)
    await world.turn("2026-02-01")
    assert await billed(world) == [1020]


async def test_late_usage_that_is_paid_corrects_nothing(world: World) -> None:
    await a_shop(world, PRICE)
    await world.use("acme", 30)
    await world.turn("2026-02-02")
    late = await track(world, properties={"n": 70}, timestamp="2026-01-15T00:00:00Z")
    event = await world.event(late.json["operation_id"])
    assert event is not None
    assert (event["billing_status"], event["reason"]) == ("late", "paid_by_credits")
    await world.turn("2026-03-01")
    [row] = await world.fetch("select sum(amount_cents) from invoice_lines where org_id = $1")
    assert row[0] == 300
    await audit(world)


async def test_a_customer_without_a_subscription_spends_too(world: World) -> None:
    """Nothing is dropped in silence: the event is stored and flagged."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await a_system(world)
    await a_rate(world, credits="1", per="1")
    await world.a_customer()
    await give(world, 10)
    tracked = (await track(world, properties={"n": 7})).json
    assert (tracked["allowed"], tracked["remaining"]) == (True, "3")
    event = await world.event(tracked["operation_id"])
    assert event is not None
    assert (event["billing_status"], event["reason"]) == ("unmatched", "subscription_not_found")
    await audit(world)


async def test_it_costs_and_a_margin_report_sees_it(world: World) -> None:
    await a_shop(world, PRICE)
    await world.a_cost_model(cost_per_unit_cents="0.5")
    await track(world, properties={"n": 70})
    summary = await world.get("/api/v1/margin/summary")
    assert (summary["total_cost_cents"], summary["total_revenue_cents"]) == (35, 0)
