"""Stories of how subscriptions start: now, later, in the past, several at once."""

import itertools
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database


async def a_market(world: World) -> None:
    """Starter 29.00 and pro 99.00 a month, both in advance; payg 31.00 in arrears."""
    await world.a_plan(code="starter", amount_cents=2900, pay_in_advance=True)
    await world.a_plan(code="pro", amount_cents=9900, pay_in_advance=True)
    await world.a_plan(code="payg", amount_cents=3100)
    await world.a_feature(metric=None)
    for plan in ("starter", "pro", "payg"):
        await world.post(f"/core/api/v1/plans/{plan}/entitlements", {"entitlements": {"chat": {}}})
    await world.a_customer()


async def core(world: World, external_id: str, status: str = "active") -> dict[str, Any]:
    found = (await world.get(f"/core/api/v1/subscriptions/{external_id}", status=status))["subscription"]
    assert isinstance(found, dict)
    return found


async def totals(world: World, customer: str = "acme") -> list[int]:
    return [one["total_amount_cents"] for one in await world.invoices(customer)]


async def test_a_subscription_starts_on_the_day_it_was_booked_for(world: World) -> None:
    """Pending until then: no access, no bill, no credits; all of them at that instant."""
    await world.turn("2026-01-10")
    await a_market(world)
    await world.a_plan(code="later", amount_cents=2900, pay_in_advance=True, credits=50)
    made = await world.assign("acme", "later", "team", subscription_at="2026-02-01")
    assert (made["status"], made["started_at"]) == ("pending", None)
    assert made["subscription_at"] == "2026-02-01T00:00:00Z"
    assert await world.reason("acme") == (False, "no_subscription")
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (status["status"], status["plan"]) == ("pending", "later")
    await world.turn("2026-01-31T23:59:59Z")
    assert await world.invoices("acme") == []
    assert await world.balance("acme") == 0
    await world.turn("2026-02-01")
    shown = await core(world, "team")
    assert (shown["status"], shown["started_at"]) == ("active", "2026-02-01T00:00:00Z")
    assert await totals(world) == [2900]
    assert await world.balance("acme") == 50
    await audit(world)


async def test_what_was_booked_is_called_off_before_it_begins(world: World) -> None:
    await world.turn("2026-01-10")
    await a_market(world)
    await world.assign("acme", "starter", "team", subscription_at="2026-02-01T00:00:00Z")
    answer = await world.call("DELETE", "/core/api/v1/subscriptions/team?status=pending")
    called_off = answer.json["subscription"]
    assert (called_off["status"], called_off["canceled_at"]) == ("canceled", "2026-01-10T00:00:00Z")
    await world.turn("2026-04-01")
    assert await world.invoices("acme") == []
    assert await world.reason("acme") == (False, "no_subscription")
    await audit(world)


@pytest.mark.parametrize(
    ("moved_to", "begins"),
    [("2026-01-20T12:00:00Z", "2026-01-20T12:00:00Z"), ("2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z")],
)
async def test_a_beginning_is_moved(world: World, moved_to: str, begins: str) -> None:
    """Core PUT of `subscription_at`: to another day to come, or to one that has been, which begins it at once."""
    await world.turn("2026-01-10")
    await a_market(world)
    await world.assign("acme", "payg", "team", subscription_at="2026-03-01T00:00:00Z")
    body = {"subscription": {"subscription_at": moved_to}}
    assert (await world.call("PUT", "/core/api/v1/subscriptions/team", body)).status == 200
    await world.turn("2026-01-20T12:00:00Z")
    assert (await core(world, "team"))["started_at"] == begins
    await world.turn("2026-03-02")
    assert len(await world.invoices("acme")) == 2  # January and February, calendar
    await audit(world)


async def test_a_backdated_start_bills_from_the_period_that_runs(world: World) -> None:
    """Periods count from the start in the past; those that were over are not billed, and the one that runs is in full."""
    await world.turn("2026-03-20")
    await a_market(world)
    made = await world.assign(
        "acme", "payg", "team", subscription_at="2026-01-15T10:00:00Z", billing_time="anniversary"
    )
    assert (made["status"], made["started_at"]) == ("active", "2026-01-15T10:00:00Z")
    assert made["current_billing_period_started_at"] == "2026-03-15T00:00:00Z"
    assert await world.invoices("acme") == []
    await world.turn("2026-04-15")
    assert await world.lines("acme") == [("Payg, monthly fee", 3100)]
    await audit(world)


async def test_a_backdated_plan_in_advance_is_first_billed_when_its_period_ends(world: World) -> None:
    """As Lago: no invoice when it is made, unless it began on the very day."""
    await world.turn("2026-03-20T18:00:00Z")
    await a_market(world)
    await world.assign("acme", "starter", "old", subscription_at="2026-03-10T00:00:00Z")
    assert await world.invoices("acme") == []
    await world.a_customer("other")
    await world.assign("other", "starter", "today", subscription_at="2026-03-20T00:00:00Z")
    assert await totals(world, "other") == [1123]  # 12 of 31 days, the 20th and the 31st among them
    await world.turn("2026-04-01")
    assert await world.lines("acme") == [("Starter, monthly fee", 2900)]
    await audit(world)


async def test_events_of_a_backdated_past_are_stored_late(world: World) -> None:
    """Nothing is dropped: they are matched, and say why they are on no invoice."""
    await world.turn("2026-03-20")
    await a_market(world)
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
    await world.a_plan(code="metered", charges=[charge])
    await world.assign("acme", "metered", "team", subscription_at="2026-01-01T00:00:00Z")
    late = await world.use("acme", 5, timestamp="2026-02-10T00:00:00Z")
    assert late["billing_status"] == "late"
    counted = await world.use("acme", 7, timestamp="2026-03-01T00:00:00Z", external_subscription_id="team")
    assert counted["billing_status"] == "counted"
    await audit(world)


async def test_an_end_in_the_midst_of_a_paid_period_gives_the_rest_back(world: World) -> None:
    """`ending_at`: access up to it, and a credit for the days of the fee that are not used."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "starter", "team", ending_at="2026-01-11T00:00:00Z")
    assert await totals(world) == [2900]
    await world.turn("2026-01-11")
    assert await world.reason("acme") == (False, "subscription_expired")
    [note] = await world.fetch("select credit_amount_cents from credit_notes where org_id = $1")
    assert note["credit_amount_cents"] == 1871  # 20 of 31 days of 29.00: the day of the end is paid
    await audit(world)


async def test_a_customer_has_several_subscriptions(world: World) -> None:
    """Only through Core; each with its own periods, billed together where they end together."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "payg", "one")
    await world.assign("acme", "payg", "two")
    await world.turn("2026-01-16")
    await world.assign("acme", "payg", "three", billing_time="anniversary")
    listed = await world.get("/core/api/v1/customers/acme/subscriptions")
    assert [one["external_id"] for one in listed["subscriptions"]] == ["three", "two", "one"]
    await world.turn("2026-02-01")
    assert await totals(world) == [6200]
    await world.turn("2026-02-16")
    assert await totals(world) == [6200, 3100]
    await audit(world)


async def test_an_external_id_belongs_to_one_customer_while_it_is_in_use(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "payg", "team")
    body = {"subscription": {"external_customer_id": "rival", "plan_code": "payg", "external_id": "team"}}
    answer = await world.call("POST", "/core/api/v1/subscriptions", body)
    assert (answer.status, answer.json["error_details"]) == (422, {"external_id": ["value_already_exist"]})
    assert (await world.call("DELETE", "/core/api/v1/subscriptions/team")).status == 200
    made = await world.post("/core/api/v1/subscriptions", body)
    assert made["subscription"]["external_customer_id"] == "rival"
    assert made["subscription"]["previous_plan_code"] is None
    await audit(world)


async def test_core_makes_the_customer_it_does_not_know(world: World) -> None:
    """As Lago: the first assignment of a plan may name a new customer."""
    await world.turn("2026-01-01")
    await a_market(world)
    made = await world.assign("newcomer", "payg", "team", name="Team")
    assert (made["external_customer_id"], made["name"], made["billing_time"]) == (
        "newcomer",
        "Team",
        "calendar",
    )
    assert made["plan"]["code"] == "payg"


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"external_id": ""}, "external_id", "value_is_mandatory"),
        ({"subscription_at": "soon"}, "subscription_at", "invalid_date"),
        ({"ending_at": "2025-01-01T00:00:00Z"}, "ending_at", "invalid_date"),
        (
            {"subscription_at": "2026-05-01T00:00:00Z", "ending_at": "2026-04-01T00:00:00Z"},
            "ending_at",
            "invalid_date",
        ),
        ({"billing_time": "weekly"}, "billing_time", "value_is_invalid"),
        ({"progressive_billing_disabled": True}, "progressive_billing_disabled", "not_supported"),
    ],
)
async def test_what_core_cannot_assign_is_refused_by_field(
    world: World, change: dict[str, Any], field: str, code: str
) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    wanted = {"external_customer_id": "acme", "plan_code": "payg", "external_id": "team", **change}
    answer = await world.call("POST", "/core/api/v1/subscriptions", {"subscription": wanted})
    assert (answer.status, answer.json["error_details"]) == (422, {field: [code]})
    assert (await world.get("/core/api/v1/subscriptions"))["subscriptions"] == []


@pytest.mark.parametrize(
    ("zone", "hour"),
    [
        ("America/Los_Angeles", "2026-03-08T10:00:00Z"),
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Asia/Kathmandu", "2026-03-31T18:15:00Z"),
        ("Pacific/Kiritimati", "2026-03-30T10:00:00Z"),
    ],
)
async def test_a_start_in_the_hour_that_clocks_change_renews_once_a_month(
    world: World, zone: str, hour: str
) -> None:
    """T01, T04: one invoice a period, days counted in the customer's zone."""
    await world.turn(hour)
    await a_market(world)
    await world.a_customer("abroad", timezone=zone)
    await world.subscribe("abroad", "starter")
    await world.turn("2027-04-30")
    found = await world.invoices("abroad")
    assert [one["total_amount_cents"] for one in found] == [2900] * len(found)
    assert len(found) in (13, 14)
    periods = await world.fetch(
        """select period_start, period_end from invoice_subscriptions where org_id = $1 order by period_start"""
    )
    assert all(one["period_end"] == two["period_start"] for one, two in itertools.pairwise(periods))
    await audit(world)


async def test_a_trial_is_free_and_ends_with_the_first_fee(world: World) -> None:
    """The fee begins when the trial ends; meanwhile access is full and the status says so."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_plan(code="tried", amount_cents=3100, pay_in_advance=True, trial_period=10)
    await world.post("/core/api/v1/plans/tried/entitlements", {"entitlements": {"chat": {}}})
    await world.subscribe("acme", "tried", billing_time="calendar")
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (status["status"], status["trial_ends_at"]) == ("trialing", "2026-01-11T00:00:00Z")
    assert (await world.can("acme"))["allowed"] is True
    assert sum(await totals(world)) == 0
    await world.turn("2026-01-11")
    assert (await world.get("/api/v1/billing/status", customer_id="acme"))["status"] == "active"
    assert (await totals(world))[-1] == 2100  # 11th to 31st
    await world.turn("2026-02-01")
    assert (await totals(world))[-1] == 3100
    assert (await core(world, status["id"]))["trial_ended_at"] == "2026-01-11T00:00:00Z"
    await audit(world)
