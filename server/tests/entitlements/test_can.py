"""`can()` through the API: every reason of contract 1.7, the boundary, prices and costs, and who may see them."""

import json
from decimal import Decimal
from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.02"}}


async def _a_subscriber(
    world: World, *, limit: object = 10, charges: Any = (STANDARD,), **privileges: object
) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(filters=[{"key": "model", "values": ["big"]}])
    await world.a_feature()
    await world.a_plan(charges=list(charges), entitlements={"chat": {"limit": limit, **privileges}})
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def test_within_the_limit_at_it_and_past_it(world: World) -> None:
    """At `used == limit` the next use is denied; `remaining` never goes below 0."""
    await _a_subscriber(world)
    seen = []
    for n in (0, 9, 1, 5):
        if n:
            await world.use("acme", n)
        answer = await world.can("acme")
        seen.append(
            (answer["allowed"], answer["reason"], answer["used"], answer["limit"], answer["remaining"])
        )
    assert seen == [
        (True, "within_limit", 0, 10, 10),
        (True, "within_limit", 9, 10, 1),
        (False, "limit_exceeded", 10, 10, 0),
        (False, "limit_exceeded", 15, 10, 0),
    ]


async def test_a_limit_of_zero_denies_the_first_use(world: World) -> None:
    await _a_subscriber(world, limit=0)
    assert await world.reason("acme") == (False, "limit_exceeded")


async def test_past_the_limit_with_overage(world: World) -> None:
    await _a_subscriber(world, overage=True)
    await world.use("acme", 11)
    answer = await world.can("acme")
    assert (answer["allowed"], answer["reason"], answer["overage"]) == (True, "overage", True)
    assert (answer["used"], answer["limit"], answer["remaining"]) == (11, 10, 0)


async def test_no_limit_is_unlimited(world: World) -> None:
    """Decision 22: `limit: null` means unlimited."""
    await _a_subscriber(world, limit=None)
    answer = await world.can("acme")
    assert (answer["allowed"], answer["reason"]) == (True, "unlimited")
    assert (answer["limit"], answer["remaining"]) == (None, None)


async def test_a_feature_without_a_metric_is_yes_or_no(world: World) -> None:
    await _a_subscriber(world)
    await world.a_feature(code="sso", metric=None)
    assert await world.reason("acme", "sso") == (False, "feature_not_in_plan")
    path = "/core/api/v1/plans/pro/entitlements"
    await world.call("PATCH", path, {"entitlements": {"sso": True}})
    assert await world.reason("acme", "sso") == (True, "feature_enabled")
    assert await world.reason("acme") == (True, "within_limit")
    await world.call("DELETE", f"{path}/sso")
    assert await world.reason("acme", "sso") == (False, "feature_not_in_plan")


async def test_unknown_customers_and_features_are_denied_and_not_errors(world: World) -> None:
    """Decision 3: denials are 200."""
    await _a_subscriber(world)
    await world.a_customer("beta")
    assert await world.reason("nobody") == (False, "no_subscription")
    assert await world.reason("beta") == (False, "no_subscription")
    assert await world.reason("acme", "nothing") == (False, "feature_not_in_plan")


async def test_missing_parameters_are_400(world: World) -> None:
    for query in ("", "?customer_id=acme", "?feature=chat", "?customer_id=&feature=chat"):
        answer = await world.call("GET", f"/api/v1/can{query}")
        assert answer.status == 400


async def test_a_subscription_expires_by_time_alone(world: World) -> None:
    """C02: the instant of the end denies, whether or not anything has run since."""
    await world.turn("2026-01-01")
    await world.a_feature(metric=None)
    await world.a_plan(entitlements={"chat": True})
    await world.a_customer()
    await world.subscribe("acme", "pro", ending_at="2026-01-10T12:00:00Z")
    await world.turn("2026-01-10T11:59:59.999999Z")
    assert await world.reason("acme") == (True, "feature_enabled")
    await world.turn("2026-01-10T12:00:00Z")
    assert await world.reason("acme") == (False, "subscription_expired")


async def test_usage_starts_again_with_the_period(world: World) -> None:
    await _a_subscriber(world)
    await world.use("acme", 10)
    assert await world.reason("acme") == (False, "limit_exceeded")
    await world.turn("2026-02-01")
    assert (await world.can("acme"))["used"] == 0
    assert await world.reason("acme") == (True, "within_limit")


async def test_a_metric_asked_for_by_its_code_is_decided_by_the_charge(world: World) -> None:
    """Decision 12: priced by the plan means unlimited; not priced means not in the plan."""
    await _a_subscriber(world)
    await world.a_metric(code="images")
    await world.use("acme", 50)
    answer = await world.can("acme", "tokens")
    assert (answer["allowed"], answer["reason"], answer["used"]) == (True, "unlimited", 50)
    assert await world.reason("acme", "images") == (False, "feature_not_in_plan")


async def test_a_feature_comes_before_a_metric_of_the_same_code(world: World) -> None:
    """Decision 6."""
    await _a_subscriber(world)
    await world.a_feature(code="tokens", metric=None)
    assert await world.reason("acme", "tokens") == (False, "feature_not_in_plan")


async def test_an_entitlement_changes_for_every_subscriber_at_once(world: World) -> None:
    await _a_subscriber(world)
    await world.use("acme", 10)
    path = "/core/api/v1/plans/pro/entitlements"
    for limit, expected in ((11, "within_limit"), (10, "limit_exceeded"), (None, "unlimited")):
        await world.post(path, {"entitlements": {"chat": {"limit": limit}}})
        assert (await world.reason("acme"))[1] == expected


async def test_unit_economics_of_the_next_use(world: World) -> None:
    """Revenue is the marginal price, cost the cost model's; margin is their difference."""
    await _a_subscriber(world)
    await world.a_cost_model(cost_per_unit_cents=Decimal("0.12"))
    answer = await world.can("acme")
    economics = [answer[f"{what}_per_use_cents"] for what in ("revenue", "cost", "margin")]
    assert economics == [2, Decimal("0.12"), Decimal("1.88")]


async def test_metadata_prices_by_model(world: World) -> None:
    dear = {"values": {"model": ["big"]}, "properties": {"amount": "0.5"}}
    await _a_subscriber(world, charges=[{**STANDARD, "filters": [dear]}])
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_cost_model(name="big", cost_per_unit_cents=30, model="big")
    plain = await world.can("acme")
    big = await world.can("acme", metadata=json.dumps({"model": "big"}))
    assert [plain["revenue_per_use_cents"], plain["cost_per_use_cents"]] == [2, 1]
    assert [big["revenue_per_use_cents"], big["cost_per_use_cents"]] == [50, 30]


@pytest.mark.parametrize("metadata", ["[]", "1", "{", '{"model": 1}', '{"model": NaN}', "x" * 5000])
async def test_bad_metadata_is_400(world: World, metadata: str) -> None:
    await _a_subscriber(world)
    answer = await world.call("GET", f"/api/v1/can?customer_id=acme&feature=chat&metadata={metadata}")
    assert answer.status == 400


@pytest.mark.parametrize("model", ["\\ud800", "\\u0000"])
async def test_metadata_that_is_no_text_is_400(world: World, model: str) -> None:
    """B03: a lone surrogate or NUL in the metadata never reaches the database."""
    await _a_subscriber(world)
    await world.a_cost_model(cost_type="per_model", model_rates={"big": {"input": 1, "output": 1}})
    answer = await world.call(
        "GET", f'/api/v1/can?customer_id=acme&feature=chat&metadata=%7B"model":"{model}"%7D'
    )
    assert answer.status == 400


async def test_a_publishable_key_sees_no_costs(world: World) -> None:
    """A05, Decision 7: cost, revenue and margin are there but null for a pk_, unless the organization shows them."""
    await _a_subscriber(world, min_margin_percent=20)
    await world.a_cost_model(cost_per_unit_cents=1)
    target = "/api/v1/can?customer_id=acme&feature=chat"
    mine = (await world.call("GET", target)).json
    theirs = (await world.call("GET", target, key=world.publishable)).json
    assert mine.keys() == theirs.keys()
    assert {name for name in mine if mine[name] != theirs[name]} == {
        "cost_per_use_cents",
        "revenue_per_use_cents",
        "margin_per_use_cents",
        "configuration",  # without its floor
        "min_margin_percent",
        "margin_percent",
        "margin_level",
        "margin_enforcement_mode",
        "economics",
        "policy",
    }
    assert theirs["margin_per_use_cents"] is theirs["economics"] is theirs["policy"] is None
    await world.settings(show_margin_to_publishable_keys=True)
    shown = (await world.call("GET", target, key=world.publishable)).json
    assert shown == mine
    assert shown["economics"]["estimated_margin_percent"] == "50"


@pytest.mark.parametrize(
    ("enforcement", "allowed", "reason"),
    [
        ("observe", True, "within_limit"),
        ("warn", True, "within_limit"),
        ("deny", False, "margin_below_minimum"),
    ],
)
async def test_a_margin_floor_denies_only_when_told_to(
    world: World, enforcement: str, allowed: bool, reason: str
) -> None:
    """Decision 20: `min_margin_percent` never denies unless enforcement is switched to deny."""
    await _a_subscriber(world, min_margin_percent=50)
    await world.a_cost_model(cost_per_unit_cents=Decimal("1.5"))
    await world.settings(margin_enforcement=enforcement)
    answer = await world.can("acme")
    assert (answer["allowed"], answer["reason"]) == (allowed, reason)
    assert answer["min_margin_percent"] == 50
    assert answer.get("warning") == ("margin_below_minimum" if enforcement == "warn" else None)
    pk = await world.call("GET", "/api/v1/can?customer_id=acme&feature=chat", key=world.publishable)
    assert (pk.json["allowed"], pk.json["reason"]) == (allowed, reason)


async def test_another_tenants_equal_ids_stay_apart(world: World, other_world: World) -> None:
    """A04, C10: the same customer, feature and plan codes in two organizations never meet."""
    for each in (world, other_world):
        await _a_subscriber(each)
    await world.use("acme", 10)
    assert await world.reason("acme") == (False, "limit_exceeded")
    assert (await other_world.can("acme"))["used"] == 0


async def test_a_feature_cannot_redefine_the_limit(world: World) -> None:
    """Decision 12: `limit`, `overage` and `min_margin_percent` mean one thing; a plan's nonsense never breaks can()."""
    await world.turn("2026-01-01")
    await world.a_metric()
    privilege = {"code": "limit", "value_type": "string"}
    feature = {"code": "chat", "billable_metric_code": "tokens", "privileges": [privilege]}
    answer = await world.call("POST", "/core/api/v1/features", {"feature": feature})
    assert answer.status == 422
