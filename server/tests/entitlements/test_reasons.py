"""Why `can()` says what it says, told as stories: which subscription, which entity, what runs out and what begins anew."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nozle_server.entitlements.queries import Decided, Question, decide_question
from world import World

pytestmark = pytest.mark.database

ENGINE = "/engine/api/v1/can"
TICK = timedelta(microseconds=1)


async def _a_catalog(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(entitlements={"chat": {"limit": 10}})
    await world.a_plan(code="team", entitlements={"chat": {"limit": 100}, "sso": True})
    await world.a_customer()


async def _reason(world: World, feature: str = "chat", path: str = "/api/v1/can", **more: object) -> Any:
    answer = await world.get(path, customer_id="acme", feature=feature, **more)
    return answer["allowed"], answer["reason"]


# Which subscription.


async def test_of_several_subscriptions_the_engine_asks_for_one_and_the_seed_decides_over_all(
    world: World,
) -> None:
    """Decision 16. The lane keeps the two apart: each is asked twice."""
    await _a_catalog(world)
    await world.assign("acme", "pro", "first")
    for _ in range(2):
        assert await _reason(world, path=ENGINE) == (True, "within_limit")
    await world.assign("acme", "team", "second")
    for _ in range(2):
        assert await _reason(world, path=ENGINE) == (False, "subscription_required")
        assert await _reason(world) == (True, "within_limit")
        assert await _reason(world, "sso") == (True, "feature_enabled")
    for path in (ENGINE, "/api/v1/can"):
        assert await _reason(world, "sso", path, subscription_id="first") == (False, "feature_not_in_plan")
        assert await _reason(world, "sso", path, subscription_id="second") == (True, "feature_enabled")
        assert await _reason(world, "sso", path, subscription_id="third") == (False, "no_subscription")
    await world.call("DELETE", "/core/api/v1/subscriptions/second")
    assert await _reason(world, path=ENGINE) == (True, "within_limit")


async def test_another_customers_subscription_is_none_of_this_one(world: World) -> None:
    await _a_catalog(world)
    await world.a_customer("beta")
    await world.assign("acme", "pro", "first")
    await world.assign("beta", "team", "second")
    assert await _reason(world, subscription_id="second") == (False, "no_subscription")


# What has ended, and how.


async def test_what_was_cancelled_and_what_ran_out_are_told_apart(world: World) -> None:
    """Access lasts until the end, whoever set it; afterwards the last that ran says how it ended."""
    await _a_catalog(world)
    assert await _reason(world) == (False, "no_subscription")
    await world.at("2026-01-01").subscribe("acme", "pro", ending_at="2026-01-10T00:00:00Z")
    await world.turn("2026-01-10")
    assert await _reason(world) == (False, "subscription_expired")
    again = await world.at("2026-01-11").subscribe("acme", "pro")
    assert await _reason(world) == (True, "within_limit")
    await world.cancel(again)
    assert await _reason(world) == (True, "within_limit")
    await world.turn("2026-02-11")
    assert await _reason(world) == (False, "subscription_cancelled")
    at_once = await world.at("2026-03-01").subscribe("acme", "team")
    await world.cancel(at_once, cancellation_policy="immediate")
    assert await _reason(world) == (False, "subscription_cancelled")
    await world.at("2026-03-02").subscribe("acme", "pro", ending_at="2026-03-03T00:00:00Z")
    await world.turn("2026-03-03")
    assert await _reason(world) == (False, "subscription_expired")


async def test_what_was_called_off_before_it_began_has_not_ended(world: World) -> None:
    """Not even when the day comes on which it would have begun; and it does not hide how another one ended."""
    await _a_catalog(world)
    await world.subscribe("acme", "pro", ending_at="2026-01-10T00:00:00Z")
    await world.assign("acme", "team", "later", subscription_at="2026-02-01T00:00:00Z")
    await world.call("DELETE", "/core/api/v1/subscriptions/later?status=pending")
    for day, subscription, reason in (
        ("2026-01-11", None, "subscription_expired"),
        ("2026-01-12", "later", "no_subscription"),
        ("2026-02-02", "later", "no_subscription"),
        ("2026-02-03", None, "subscription_expired"),
    ):
        await world.turn(day)
        more = {} if subscription is None else {"subscription_id": subscription}
        assert await _reason(world, **more) == (False, reason)


async def test_what_is_to_begin_later_allows_nothing_yet(world: World) -> None:
    await _a_catalog(world)
    await world.subscribe("acme", "pro", subscription_at="2026-02-01T00:00:00Z")
    await world.turn("2026-01-31T23:59:59.999999Z")
    assert await _reason(world) == (False, "no_subscription")
    await world.turn("2026-02-01")
    assert await _reason(world) == (True, "within_limit")


async def test_a_trial_gives_what_the_plan_gives_and_its_end_takes_nothing(world: World) -> None:
    """A trial is about the fee: usage counts on, in the same period, and is not handed out anew."""
    await _a_catalog(world)
    await world.a_plan(code="tried", amount_cents=900, trial_period=10, entitlements={"chat": {"limit": 3}})
    await world.subscribe("acme", "tried")
    await world.use("acme", 2)
    assert await _reason(world) == (True, "within_limit")
    await world.turn("2026-01-10T23:59:59Z")
    assert (await world.can("acme"))["used"] == 2
    await world.turn("2026-01-11")
    assert (await world.can("acme"))["used"] == 2
    await world.use("acme", 1)
    assert await _reason(world) == (False, "limit_exceeded")


# Which entity.


async def test_an_entity_that_is_not_active_may_use_nothing(world: World) -> None:
    """The words are those of its credits. What stands above it counts; a customer without a subscription has nothing that
    an entity could be denied."""
    await _a_catalog(world)
    await world.an_entity("team")
    await world.an_entity("agent", parent_entity_id="team")
    assert await _reason(world, entity_id="agent") == (False, "no_subscription")
    await world.subscribe("acme", "pro")
    assert await _reason(world, entity_id="nobody") == (False, "entity_not_found")
    for entity, status, said in (
        ("agent", "active", (True, "within_limit")),
        ("agent", "suspended", (False, "entity_inactive")),
        ("agent", "active", (True, "within_limit")),
        ("team", "suspended", (False, "entity_inactive")),
        ("team", "active", (True, "within_limit")),
    ):
        parent = {"parent_entity_id": "team"} if entity == "agent" else {}
        await world.an_entity(entity, status=status, **parent)
        for _ in range(2):
            assert await _reason(world, entity_id="agent") == said
    path = "/api/v1/customers/acme/entities/agent"
    assert (await world.call("DELETE", path, headers={"Idempotency-Key": "1"})).status == 200
    assert await _reason(world, entity_id="agent") == (False, "entity_inactive")
    await world.an_entity("agent")
    assert await _reason(world, entity_id="agent") == (True, "within_limit")
    assert await _reason(world) == (True, "within_limit")


async def test_an_entity_is_its_own_customers_and_its_limit_is_the_customers(world: World) -> None:
    await _a_catalog(world)
    await world.a_customer("beta")
    await world.an_entity("agent", "beta")
    await world.subscribe("acme", "pro")
    assert await _reason(world, entity_id="agent") == (False, "entity_not_found")
    await world.an_entity("agent")
    assert await _reason(world, entity_id="agent") == (True, "within_limit")
    await world.use("acme", 10)
    assert await _reason(world, entity_id="agent") == (False, "limit_exceeded")
    assert await _reason(world, "sso", entity_id="agent") == (False, "feature_not_in_plan")


async def test_a_malformed_entity_is_400(world: World) -> None:
    await _a_catalog(world)
    answer = await world.call("GET", "/api/v1/can?customer_id=acme&feature=chat&entity_id=")
    assert answer.status == 400


# What the answer says of the feature.


async def test_the_answer_says_what_kind_of_feature_it_is_and_how_it_is_configured(world: World) -> None:
    await _a_catalog(world)
    price = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
    privileges = [{"code": "seats", "value_type": "integer"}]
    await world.a_feature(code="desk", metric=None, privileges=privileges)
    await world.a_plan(
        code="desk",
        charges=[price],
        entitlements={"chat": {"limit": 10, "min_margin_percent": 20}, "desk": {"seats": 5}},
    )
    await world.assign("acme", "desk", "first")

    async def said(feature: str) -> tuple[object, object]:
        answer = await world.can("acme", feature)
        return answer["feature_type"], answer["configuration"]

    assert await said("chat") == ("metered", {"limit": 10, "min_margin_percent": 20})
    assert await said("desk") == ("boolean", {"seats": 5})
    assert await said("sso") == ("boolean", {})
    assert await said("tokens") == ("metric", {})
    assert await said("nothing") == (None, {})
    hidden = await world.call("GET", "/api/v1/can?customer_id=acme&feature=chat", key=world.publishable)
    assert hidden.json["configuration"] == {"limit": 10}
    path = "/core/api/v1/subscriptions/first/entitlements"
    await world.call("PATCH", path, {"entitlements": {"desk": {"seats": 7}}})
    assert await said("desk") == ("boolean", {"seats": 7})


async def test_a_subscription_has_a_limit_of_its_own_until_it_is_taken_back(world: World) -> None:
    """Another customer of the plan notices nothing."""
    await _a_catalog(world)
    await world.a_customer("beta")
    await world.assign("acme", "pro", "first")
    await world.assign("beta", "pro", "other")
    path = "/core/api/v1/subscriptions/first/entitlements"
    for customer in ("acme", "beta"):
        await world.use(customer, 10)
    for call, said in (
        (("PATCH", path, {"entitlements": {"chat": {"limit": 11}}}), (True, "within_limit")),
        (("PATCH", path, {"entitlements": {"chat": {"limit": 5}}}), (False, "limit_exceeded")),
        (("PATCH", path, {"entitlements": {"chat": {"overage": True}}}), (True, "overage")),
        (("DELETE", f"{path}/chat/privileges/overage", None), (False, "limit_exceeded")),
        (("DELETE", f"{path}/chat/privileges/limit", None), (False, "limit_exceeded")),
        (("PATCH", path, {"entitlements": {"chat": {"limit": None}}}), (True, "unlimited")),
        (("DELETE", f"{path}/chat", None), (False, "feature_not_in_plan")),
        (("PATCH", path, {"entitlements": {"sso": True}}), (False, "feature_not_in_plan")),
    ):
        answer = await world.call(*call)
        assert answer.status == 200
        assert await world.reason("acme") == said
        assert await world.reason("beta") == (False, "limit_exceeded")
    assert await world.reason("acme", "sso") == (True, "feature_enabled")
    assert await world.reason("beta", "sso") == (False, "feature_not_in_plan")


# Where a period ends.


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Pacific/Chatham", "Asia/Kolkata"])
async def test_a_period_ends_at_midnight_in_the_customers_zone_before_its_billing_run(
    live_world: World, zone: str
) -> None:
    """Through a year with both changes of the clocks: nobody has billed anything yet, and still each period has counters of
    its own from its first instant on."""
    world, here = live_world, ZoneInfo(zone)
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(entitlements={"chat": {"limit": 5}})
    await world.call(
        "POST", "/core/api/v1/customers", {"customer": {"external_id": "acme", "timezone": zone}}
    )
    await world.assign("acme", "pro", "first", billing_time="calendar")
    await world.use("acme", 5)
    snapshot = await world.services.snapshots.get(world.org_id, "acme")

    async def ask(at: datetime) -> Decided:
        question = Question("acme", "chat", {})
        economics = world.services.economics
        return await decide_question(snapshot, economics, question, with_costs=False, real_now=at)

    year, month = (began := datetime.now(here)).year, began.month
    for n in range(1, 14):
        years, months = divmod(month - 1 + n, 12)
        boundary = datetime(year + years, months + 1, 1, tzinfo=here).astimezone(UTC)
        before, after = await ask(boundary - TICK), await ask(boundary)
        assert before.ends_at == boundary
        assert (before.decision.used, before.decision.allowed) == ((5, False) if n == 1 else (0, True))
        assert (after.decision.used, after.decision.allowed) == (0, True)
