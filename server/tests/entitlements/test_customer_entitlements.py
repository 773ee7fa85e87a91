"""`GET /entitlements`: all of a customer's features in one answer, which says the same as `can`, and its tag."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.settings import Settings
from world import Answer, Client, World

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.02"}}
RANGE = {"from_value": 0, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"}
TARGET = "/api/v1/entitlements?customer_id=acme"
OF_A_DECISION = (
    *("allowed", "reason", "used", "limit", "remaining", "overage"),
    *("cost_per_use_cents", "revenue_per_use_cents", "margin_per_use_cents"),
)


async def _a_subscriber(world: World, **more: object) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_feature(code="sso", metric=None)
    await world.a_feature(code="seats", metric=None, privileges=[{"code": "max", "value_type": "integer"}])
    rights = {"chat": {"limit": 10, "min_margin_percent": 5}, "seats": {"max": 5}}
    await world.a_plan(charges=[STANDARD], entitlements=rights)
    await world.a_customer(**more)
    await world.subscribe("acme", "pro")


async def _all(world: World, customer: str = "acme", **query: object) -> dict[str, Any]:
    answer = await world.get("/api/v1/entitlements", customer_id=customer, **query)
    return {one["feature"]: one for one in answer["entitlements"]}


async def _tag(world: World, **headers: str) -> Answer:
    return await world.call("GET", TARGET, headers={name.replace("_", "-"): v for name, v in headers.items()})


async def test_each_feature_is_decided_as_can_decides_it(world: World) -> None:
    """What the plan gives, what the subscription has of its own, and the metric the plan prices; nothing else."""
    await _a_subscriber(world)
    await world.use("acme", 4)
    found = await _all(world)
    assert {code: one["type"] for code, one in found.items()} == {
        "chat": "metered",
        "seats": "boolean",
        "tokens": "metric",
    }
    assert list(found) == sorted(found)
    for code, one in found.items():
        decided = await world.can("acme", code)
        assert {name: one[name] for name in OF_A_DECISION} == {name: decided[name] for name in OF_A_DECISION}
    assert found["chat"]["remaining"] == 6
    assert found["seats"]["privileges"] == {"max": 5}
    assert (found["chat"]["plan_code"], found["chat"]["subscription_status"]) == ("pro", "active")


async def test_overrides_add_change_and_take_away(world: World) -> None:
    await _a_subscriber(world)
    [subscription] = (await world.get("/api/v1/entitlements", customer_id="acme"))["subscriptions"]
    path = f"/core/api/v1/subscriptions/{subscription['subscription_id']}/entitlements"
    await world.call("PATCH", path, {"entitlements": {"sso": True, "chat": {"limit": 3}, "seats": False}})
    found = await _all(world)
    assert set(found) == {"chat", "sso", "tokens"}
    assert (found["chat"]["limit"], found["chat"]["privileges"]["limit"]) == (3, 3)


async def test_who_has_nothing_is_told_why(world: World) -> None:
    """An unknown customer is denied, not an error, as by `can`; so is one whose subscription is over."""
    await _a_subscriber(world)
    nobody = await world.get("/api/v1/entitlements", customer_id="nobody")
    assert (nobody["subscriptions"], nobody["entitlements"], nobody["valid_until"]) == ([], [], None)
    assert nobody["unlisted"] == {"allowed": False, "reason": "no_subscription"}
    mine = await world.get("/api/v1/entitlements", customer_id="acme")
    assert mine["unlisted"] == {"allowed": False, "reason": "feature_not_in_plan"}
    await world.cancel(mine["subscriptions"][0]["subscription_id"])
    await world.turn("2026-02-01")
    over = await world.get("/api/v1/entitlements", customer_id="acme")
    assert (over["entitlements"], over["unlisted"]["reason"]) == ([], "subscription_cancelled")


async def test_it_says_until_when_time_leaves_it_alone(world: World) -> None:
    """A period ends in the customer's zone; a yes or no only ends with the subscription."""
    await _a_subscriber(world, timezone="America/New_York")
    found = await _all(world)
    assert found["chat"]["valid_until"] == "2026-01-31T05:00:00Z"
    assert found["seats"]["valid_until"] is None
    [subscription] = (await world.get("/api/v1/entitlements", customer_id="acme"))["subscriptions"]
    await world.call(
        "PUT",
        f"/core/api/v1/subscriptions/{subscription['subscription_id']}",
        {"subscription": {"ending_at": "2026-01-20T12:00:00Z"}},
    )
    found = await _all(world)
    assert {one["valid_until"] for one in found.values()} == {"2026-01-20T12:00:00Z"}
    before = await world.at("2026-01-20T11:59:59Z").reason("acme", "seats")
    after = await world.at("2026-01-20T12:00:00Z").reason("acme", "seats")
    assert (before[0], after[0]) == (True, False)


async def test_a_subscription_to_come_bounds_it(world: World) -> None:
    await _a_subscriber(world)
    await world.a_plan(code="max", entitlements={"sso": True})
    await world.assign("acme", "max", "later", subscription_at="2026-01-10T00:00:00Z")
    answer = await world.get("/api/v1/entitlements", customer_id="acme")
    assert answer["valid_until"] == "2026-01-10T00:00:00Z"
    assert "sso" not in {one["feature"] for one in answer["entitlements"]}


async def test_of_several_subscriptions_the_one_that_decides_is_named(world: World) -> None:
    await _a_subscriber(world)
    await world.a_plan(code="max", entitlements={"chat": {"limit": 1000}, "seats": {"max": 50}})
    await world.assign("acme", "max", "second")
    await world.use("acme", 10, external_subscription_id="second")
    found = await _all(world)
    decided = await world.can("acme")
    assert found["chat"]["limit"] == decided["limit"] == found["chat"]["privileges"]["limit"]
    narrowed = await _all(world, subscription_id="second")
    assert {one["subscription_id"] for one in narrowed.values()} == {"second"}
    assert narrowed["chat"]["limit"] == 1000


async def test_the_merchants_amounts_are_for_who_may_see_them(world: World) -> None:
    await _a_subscriber(world)
    shown = (await _all(world))["chat"]
    assert (shown["revenue_per_use_cents"], shown["privileges"]["min_margin_percent"]) == (2, 5)
    answer = await world.call("GET", TARGET, key=world.publishable)
    for one in answer.json["entitlements"]:
        assert (
            one["revenue_per_use_cents"] is one["cost_per_use_cents"] is one["margin_per_use_cents"] is None
        )
        assert one.get("min_margin_percent") is None
        assert "min_margin_percent" not in one["privileges"]


async def test_more_who_ask_at_once_than_there_are_connections_all_get_an_answer(world: World) -> None:
    """Each needs figures that only the database has; none waits for a second connection with one in its hand."""
    await world.turn("2026-01-01")
    await world.a_metric(filters=[{"key": "model", "values": ["big"]}])
    await world.a_feature()
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "graduated",
        "properties": {"graduated_ranges": [RANGE]},
        "filters": [{"values": {"model": ["big"]}, "properties": {"graduated_ranges": [RANGE]}}],
    }
    await world.a_plan(charges=[charge], entitlements={"chat": {"limit": 10}})
    customers = [f"c{n}" for n in range(30)]
    for one in customers:
        await world.a_customer(one)
        await world.subscribe(one, "pro")
    await world.a_margin_policy(min_margin_percent=5, mode="deny")
    world.services.forget_all()
    listed = await asyncio.gather(*(_all(world, one) for one in customers))
    assert {one["chat"]["allowed"] for one in listed} == {True}
    world.services.forget_all()
    body = {"replica_id": "web-1"}
    made = await asyncio.gather(
        *(
            world.post("/api/v1/entitlements/snapshots", {**body, "customer_id": one}, Idempotency_Key=one)
            for one in customers
        )
    )
    assert len(made) == 30


async def test_a_tag_stands_for_the_content(world: World) -> None:
    """304 while nothing has changed, however the clock is turned within a period; another tag when something has."""
    await _a_subscriber(world)
    first = await _tag(world)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["cache-control"] == "private, no-cache"
    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await _tag(world, if_none_match=named)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    await world.turn("2026-01-03")
    assert (await _tag(world, if_none_match=tag)).status == 304
    assert (await _tag(world, if_none_match='"other"')).status == 200
    await world.use("acme", 1)
    changed = await _tag(world, if_none_match=tag)
    assert changed.status == 200
    assert changed.headers["etag"] != tag
    assert changed.json["entitlements"][0]["used"] == Decimal(1)


async def test_the_tag_is_the_same_in_every_process(world: World) -> None:
    await _a_subscriber(world)
    await world.use("acme", 4)
    first = await _tag(world)
    other = Client(build_app(build_services(world.database, Settings(), SystemClock())))
    second = await other.send("GET", TARGET, key=world.secret)
    assert (second.body, second.headers["etag"]) == (first.body, first.headers["etag"])
    named = {"if-none-match": first.headers["etag"]}
    again = await other.send("GET", TARGET, key=world.secret, headers=named)
    assert again.status == 304


async def test_another_tenants_customer_is_nobody_here(world: World, other_world: World) -> None:
    await _a_subscriber(world)
    await other_world.a_customer()
    assert await _all(other_world) == {}


async def test_the_customer_is_required(world: World) -> None:
    answer = await world.call("GET", "/api/v1/entitlements")
    assert (answer.status, answer.code) == (400, "invalid_request")
