"""Stories of how subscriptions end: with the period, on a date, at once; and of ends that are taken back."""

from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

TOKENS = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.10"}}


async def a_market(world: World) -> None:
    await world.a_metric()
    await world.a_feature(metric=None)
    await world.a_plan(code="starter", amount_cents=2900, pay_in_advance=True, charges=[TOKENS])
    await world.a_plan(code="pro", amount_cents=9900, pay_in_advance=True, charges=[TOKENS])
    await world.a_plan(code="payg", amount_cents=3100, charges=[TOKENS])
    for plan in ("starter", "pro", "payg"):
        await world.post(f"/core/api/v1/plans/{plan}/entitlements", {"entitlements": {"chat": {}}})
    await world.a_customer()


async def notes(world: World) -> list[tuple[int, int, int]]:
    """(credited, refunded, offset) of each credit note."""
    rows = await world.fetch(
        """select credit_amount_cents as credit, refund_amount_cents as refund, offset_amount_cents as offset_
           from credit_notes where org_id = $1"""
    )
    return [(int(row["credit"]), int(row["refund"]), int(row["offset_"])) for row in rows]


async def totals(world: World) -> list[int]:
    return [one["total_amount_cents"] for one in await world.invoices("acme")]


async def put(world: World, external_id: str, **changes: object) -> dict[str, Any]:
    answer = await world.call("PUT", f"/core/api/v1/subscriptions/{external_id}", {"subscription": changes})
    assert answer.status == 200, answer.body
    found = answer.json["subscription"]
    assert isinstance(found, dict)
    return found


async def test_a_cancelled_subscription_runs_to_the_end_of_its_period(world: World) -> None:
    """Contract 1.15: access until then, no further bill, and the reason is kept."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    await world.turn("2026-01-10")
    answer = await world.call("DELETE", f"/api/v1/subscriptions/{subscription}", {"reason": "too dear"})
    ended = answer.json
    assert (ended["status"], ended["ends_at"]) == ("canceled", "2026-02-01T00:00:00Z")
    assert (ended["cancel_at_period_end"], ended["reason"]) == (True, "too dear")
    assert ended["subscription"]["status"] == "active"
    assert ended["subscription"]["ending_at"] == "2026-02-01T00:00:00Z"
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (status["status"], status["cancel_at_period_end"]) == ("active", True)
    await world.turn("2026-01-31T23:59:59Z")
    assert await world.reason("acme") == (True, "feature_enabled")
    await world.use("acme", 3)
    await world.turn("2026-02-01")
    assert await world.reason("acme") == (False, "subscription_cancelled")
    assert await world.lines("acme") == [("tokens", 30)]
    await world.turn("2026-06-01")
    assert await totals(world) == [2900, 30]
    assert await notes(world) == []
    await audit(world)


async def test_cancelling_again_moves_nothing(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    first = await world.cancel(subscription)
    assert await world.at("2026-01-20").cancel(subscription) == first
    await world.turn("2026-02-10")
    later = await world.cancel(subscription)
    assert (later["status"], later["ends_at"]) == ("canceled", first["ends_at"])
    assert later["subscription"]["terminated_at"] == first["ends_at"]
    await audit(world)


async def test_a_cancellation_is_taken_back(world: World) -> None:
    """Core PUT `ending_at` null before the end: as though nothing had been said."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    await world.at("2026-01-10").cancel(subscription)
    assert (await put(world, subscription, ending_at=None))["ending_at"] is None
    await world.turn("2026-02-02")
    assert await totals(world) == [2900, 2900]
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (status["status"], status["cancel_at_period_end"]) == ("active", False)
    await audit(world)


async def test_an_immediate_cancellation_credits_what_is_not_used(world: World) -> None:
    """The day of the end is used; the last invoice has the usage, which the credit pays first."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    await world.use("acme", 5)
    ended = await world.at("2026-01-16T12:00:00Z").cancel(subscription, cancellation_policy="immediate")
    assert ended["subscription"]["status"] == "terminated"
    assert ended["ends_at"] == ended["subscription"]["terminated_at"] == "2026-01-16T12:00:00Z"
    assert await world.reason("acme") == (False, "subscription_cancelled")
    assert await notes(world) == [(1403, 0, 0)]  # 15 of 31 days of 29.00
    assert await world.lines("acme") == [("tokens", 50)]
    assert (await totals(world))[-1] == 0
    await world.turn("2026-06-01")
    assert len(await totals(world)) == 2
    await audit(world)


@pytest.mark.parametrize(
    ("query", "noted", "invoices"),
    [
        ("", [(1403, 0, 0)], 2),
        ("?on_termination_credit_note=credit", [(1403, 0, 0)], 2),
        ("?on_termination_credit_note=skip", [], 2),
        ("?on_termination_credit_note=offset", [(0, 0, 1403)], 2),
        ("?on_termination_invoice=skip", [(1403, 0, 0)], 1),
        ("?on_termination_credit_note=skip&on_termination_invoice=skip", [], 1),
    ],
)
async def test_core_says_what_becomes_of_the_rest(
    world: World, query: str, noted: list[tuple[int, int, int]], invoices: int
) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "starter", "team")
    await world.turn("2026-01-16T12:00:00Z")
    answer = await world.call("DELETE", f"/core/api/v1/subscriptions/team{query}")
    assert answer.json["subscription"]["status"] == "terminated"
    assert await notes(world) == noted
    assert len(await totals(world)) == invoices
    again = await world.call("DELETE", "/core/api/v1/subscriptions/team")
    assert (again.status, again.code) == (404, "subscription_not_found")
    await audit(world)


async def test_what_the_subscription_says_counts_when_it_ends_by_itself(world: World) -> None:
    """`on_termination_*` are kept and used at `ending_at`."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "starter", "team", ending_at="2026-01-16T00:00:00Z")
    shown = await put(world, "team", on_termination_credit_note="skip", on_termination_invoice="skip")
    assert (shown["on_termination_credit_note"], shown["on_termination_invoice"]) == ("skip", "skip")
    await world.turn("2026-03-01")
    assert await notes(world) == []
    assert await totals(world) == [2900]
    await audit(world)


async def test_in_arrears_the_days_until_the_end_are_billed(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "payg")
    await world.at("2026-01-10T08:00:00Z").cancel(subscription, cancellation_policy="immediate")
    assert await totals(world) == [1000]
    assert await notes(world) == []
    await audit(world)


async def test_cancelling_takes_back_a_downgrade_that_waits(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "pro")
    await world.change_plan("acme", "starter")
    await world.cancel(subscription)
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (status["pending_plan"], status["ends_at"]) == (None, "2026-02-01T00:00:00Z")
    answer = await world.call(
        "POST", "/api/v1/billing/upgrade", {"customer_id": "acme", "plan_code": "starter"}
    )
    assert (answer.status, answer.code) == (409, "subscription_is_ending")
    await world.turn("2026-03-01")
    assert len(await totals(world)) == 2
    await audit(world)


async def test_an_upgrade_keeps_the_end_that_was_set(world: World) -> None:
    """As Lago: the new plan ends when the old one would have."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    await world.cancel(subscription)
    changed = await world.at("2026-01-16").change_plan("acme", "pro")
    assert (changed["plan"], changed["ends_at"]) == ("pro", "2026-02-01T00:00:00Z")
    await world.turn("2026-02-01")
    assert await world.reason("acme") == (False, "subscription_cancelled")
    await audit(world)


async def test_only_a_secret_key_ends_a_subscription_at_once(world: World, other_world: World) -> None:
    """Decision 7; and nobody ends another's."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    path = f"/api/v1/subscriptions/{subscription}"
    answer = await world.call("DELETE", f"{path}?cancellation_policy=immediate", key=world.publishable)
    assert (answer.status, answer.code) == (403, "secret_key_required")
    assert (await world.call("DELETE", f"{path}?customer_id=rival")).status == 404
    assert (await other_world.call("DELETE", path)).status == 404
    assert (await world.call("DELETE", "/api/v1/subscriptions/none")).status == 404
    assert (await world.call("DELETE", f"{path}?cancellation_policy=soon")).status == 400
    assert (await world.call("DELETE", f"{path}?credit_action=refund")).status == 400
    allowed = await world.call("DELETE", f"{path}?customer_id=acme", key=world.publishable)
    assert allowed.status == 200
    await audit(world)


async def test_an_end_is_moved(world: World) -> None:
    """Core PUT `ending_at`: sooner, later, never; the period that runs is cut where the subscription ends, on a day that is
    paid."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.assign("acme", "payg", "team", ending_at="2026-01-11T00:00:00Z")
    await put(world, "team", ending_at="2026-01-21T00:00:00Z")
    await world.turn("2026-01-12")
    assert await world.invoices("acme") == []
    answer = await world.call(
        "PUT", "/core/api/v1/subscriptions/team", {"subscription": {"ending_at": "2026-01-05T00:00:00Z"}}
    )
    assert (answer.status, answer.json["error_details"]) == (422, {"ending_at": ["invalid_date"]})
    await world.turn("2026-01-21")
    assert await totals(world) == [2100]
    await audit(world)


async def test_plan_overrides_are_one_subscriptions_own(world: World) -> None:
    """Other terms of the same plan, for one subscription; the list tells them apart."""
    await world.turn("2026-01-01")
    await a_market(world)
    made = await world.assign("acme", "payg", "ours", plan_overrides={"amount_cents": 1550})
    assert (made["plan_amount_cents"], made["plan_code"]) == (1550, "payg")
    await world.assign("acme", "payg", "plain")
    for overridden, name in (("true", "ours"), ("false", "plain")):
        listed = await world.get("/core/api/v1/subscriptions", overridden=overridden)
        assert [one["external_id"] for one in listed["subscriptions"]] == [name]
    await put(world, "plain", plan_overrides={"amount_cents": 100}, name="Plain")
    await world.turn("2026-02-01")
    assert await totals(world) == [1650]
    await audit(world)


async def test_a_draft_that_becomes_final_credits_what_ended_meanwhile(world: World) -> None:
    """With a grace period the fee in advance is on a draft when the subscription ends: it is credited when that is final."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.post(
        "/core/api/v1/customers",
        {"customer": {"external_id": "acme", "billing_configuration": {"invoice_grace_period": 20}}},
    )
    await world.assign("acme", "starter", "team")
    await world.turn("2026-01-16T12:00:00Z")
    await world.call("DELETE", "/core/api/v1/subscriptions/team")
    assert await notes(world) == []
    await world.turn("2026-03-01")
    assert await notes(world) == [(1403, 0, 0)]
    await audit(world)
