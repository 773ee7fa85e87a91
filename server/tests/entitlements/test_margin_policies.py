"""Margin policies through the API: each is in force with the very next `can()`, and every version stays readable."""

import asyncio
import json
import time
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from nozle_server.core.standing import all_stand
from nozle_server.entitlements.queries import Question, can
from world import JsonObject, World

pytestmark = pytest.mark.database

POLICIES = "/api/v1/margin/policies"
VERSIONS = "/api/v1/margin/policy-versions"
STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.02"}}
BELOW = (False, "margin_below_minimum")


async def _subscribers(
    world: World, *customers: str, charges: Any = (STANDARD,), **privileges: object
) -> None:
    """On the plan `pro`, with `chat`: two cents a token, unless `charges` say otherwise."""
    await world.turn("2026-01-01")
    await world.a_metric(filters=[{"key": "model", "values": ["big"]}])
    await world.a_feature()
    entitlements = {"chat": {"limit": None, **privileges}}
    await world.a_plan(charges=list(charges), entitlements=entitlements)
    for customer in customers or ("acme",):
        await world.a_customer(customer)
        await world.subscribe(customer, "pro")


async def _for_model(world: World, model: str) -> JsonObject:
    return await world.can("acme", metadata=json.dumps({"model": model}))


@pytest.mark.parametrize(
    ("whose", "scope", "target"),
    [
        ("organization", "organization", None),
        ("plan/pro", "plan", "pro"),
        ("feature/chat", "feature", "chat"),
        ("customer/acme", "customer", "acme"),
    ],
)
async def test_the_life_of_a_policy(world: World, whose: str, scope: str, target: str | None) -> None:
    """Each kind denies with the next question after it was set, and no more with the next after it was removed."""
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    assert (await world.reason("acme"))[0]
    made = await world.a_margin_policy(whose, min_margin_percent=51, mode="deny")
    assert (made["scope"], made["target"], made["version"]) == (scope, target, 1)
    assert made["minimum_margin_percent"] == made["min_margin_percent"] == 51
    answer = await world.can("acme")
    assert (answer["allowed"], answer["reason"]) == BELOW
    assert answer["policy"]["version_id"] == made["version_id"]
    assert await world.get(f"{POLICIES}/{whose}") == made
    assert (await world.get(POLICIES))["margin_policies"] == [made]

    changed = await world.a_margin_policy(whose, minimum_margin_percent="50", mode="deny")
    assert (changed["version"], changed["version_id"] != made["version_id"]) == (2, True)
    assert await world.reason("acme") == (True, "unlimited")
    assert await world.a_margin_policy(whose, min_margin_percent=50, mode="deny") == changed

    removed = (await world.call("DELETE", f"{POLICIES}/{whose}")).json
    assert removed == {**changed, "in_force": False}
    assert "policy" not in await world.can("acme")
    for method in ("GET", "DELETE"):
        answer = await world.call(method, f"{POLICIES}/{whose}")
        assert (answer.status, answer.code) == (404, "margin_policy_not_found")
    assert (await world.get(POLICIES))["margin_policies"] == []
    again = await world.a_margin_policy(whose, min_margin_percent=50)
    assert again["version"] == 4


async def test_every_version_stays_readable(world: World) -> None:
    """What a decision was judged by can be read later, also after the policy was changed and removed."""
    await _subscribers(world)
    await world.a_margin_policy("customer/acme", min_margin_percent=10)
    judged_by = (await world.can("acme"))["policy"]["version_id"]
    await world.turn("2026-01-05")
    await world.a_margin_policy("customer/acme", maximum_estimated_cost="0.5", on_unavailable="deny")
    await world.call("DELETE", f"{POLICIES}/customer/acme")
    first = await world.get(f"{VERSIONS}/{judged_by}")
    assert (first["version"], first["min_margin_percent"], first["in_force"]) == (1, 10, False)
    assert first["created_at"] == "2026-01-01T00:00:00Z"
    versions = (await world.get(VERSIONS, scope="customer", target_="acme"))["margin_policy_versions"]
    assert [(one["version"], one["removed"], one["created_at"][:10]) for one in versions] == [
        (3, True, "2026-01-05"),
        (2, False, "2026-01-05"),
        (1, False, "2026-01-01"),
    ]
    assert len({one["created_by"] for one in versions}) == 1
    assert versions[0]["created_by"] is not None
    page = await world.get(VERSIONS, per_page=1, page=2)
    assert (page["margin_policy_versions"], page["meta"]["total_count"]) == ([versions[1]], 3)
    assert (await world.get(VERSIONS, scope="plan"))["meta"]["total_count"] == 0


async def test_the_database_refuses_to_rewrite_a_version(world: World) -> None:
    await world.a_margin_policy(min_margin_percent=10)
    for statement in (
        "update margin_policy_versions set minimum_margin_percent = 0 where org_id = $1",
        "delete from margin_policy_versions where org_id = $1",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await world.fetch(statement)


async def test_the_most_specific_policy_decides(world: World) -> None:
    """Customer, then the plan's entitlement, then feature, plan, organization, setting; each whole."""
    await _subscribers(world, "acme", "beta")
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.settings(min_margin_percent=Decimal(60), margin_enforcement="deny")
    assert await world.reason("acme") == BELOW
    for whose, floor, expected in (
        ("organization", 10, True),
        ("plan/pro", 60, False),
        ("feature/chat", 10, True),
    ):
        await world.a_margin_policy(whose, min_margin_percent=floor)
        assert (await world.reason("acme"))[0] is expected
    await world.post(
        "/core/api/v1/plans/pro/entitlements", {"entitlements": {"chat": {"min_margin_percent": 60}}}
    )
    assert await world.reason("acme") == BELOW
    await world.a_margin_policy("customer/acme", maximum_estimated_cost=1)
    assert await world.reason("acme") == (True, "unlimited")
    assert await world.reason("beta") == BELOW
    answer = await world.can("acme")
    assert (answer["min_margin_percent"], answer["margin_percent"]) == (None, 50)


async def test_the_organizations_policy_says_how_the_others_are_enforced(world: World) -> None:
    """Those without a mode of their own, the privilege among them."""
    await _subscribers(world, min_margin_percent=60)
    await world.a_cost_model(cost_per_unit_cents=1)
    assert (await world.can("acme"))["margin_enforcement_mode"] == "observe"
    await world.a_margin_policy(min_margin_percent=0, mode="deny")
    assert await world.reason("acme") == BELOW
    await world.a_margin_policy("customer/acme", min_margin_percent=60, mode="warn")
    answer = await world.can("acme")
    assert (answer["allowed"], answer["warning"]) == (True, "margin_below_minimum")


@pytest.mark.parametrize(("terms", "again"), [({}, True), ({"maximum_snapshot_age_seconds": 0}, False)])
async def test_an_answer_is_given_again_no_longer_than_its_figures_may_be_old(
    world: World, terms: JsonObject, again: bool
) -> None:
    """What the lane goes by: an answer stands while all that it was made from does."""
    await _subscribers(world)
    await world.a_cost_model(cost_type="per_model", model_rates={"big": {"input": 1, "output": 1}})
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 1})
    await world.a_margin_policy(min_margin_percent=10, **terms)
    decided = await can(
        world.services.snapshots,
        world.services.economics,
        org_id=world.org_id,
        question=Question("acme", "chat", {"model": "big"}),
        with_costs=True,
        real_now=world.services.clock.now(),
    )
    figures = [one for one in decided.standings if one.until < time.monotonic() + 60]
    assert all_stand(figures, time.monotonic()) is again


async def test_a_metric_asked_for_by_its_code_has_no_features_policy(world: World) -> None:
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_margin_policy("feature/chat", min_margin_percent=60, mode="deny")
    assert await world.reason("acme") == BELOW
    assert await world.reason("acme", "tokens") == (True, "unlimited")
    await world.a_margin_policy("plan/pro", min_margin_percent=60, mode="deny")
    assert await world.reason("acme", "tokens") == BELOW


async def test_what_the_answer_says(world: World) -> None:
    """Contract 4.7: what the next use is estimated to cost and earn, by which rules, and what the policy makes of it."""
    await _subscribers(world)
    cost_model = await world.a_cost_model(cost_per_unit_cents=Decimal("0.12"))
    policy = await world.a_margin_policy(
        min_margin_percent="94.5", minimum_margin_amount=1, mode="warn", maximum_snapshot_age_seconds=5
    )
    answer = await world.can("acme")
    economics = answer.pop("economics")
    assert economics.pop("rule_version_ids")[0] == cost_model
    assert economics.pop("includes") == ["marginal_price", "unit_cost"]
    assert "subscription_fees" in economics.pop("excludes")
    assert economics == {
        "status": "estimated",
        "currency": "USD",
        "estimated_incremental_cost": "0.12",
        "estimated_incremental_revenue": "2",
        "estimated_incremental_margin": "1.88",
        "estimated_margin_percent": "94",
        "reason": None,
        "calculated_at": "2026-01-01T00:00:00Z",
    }
    assert answer["policy"] == {
        "version_id": policy["version_id"],
        "mode": "warn",
        "on_unavailable": "allow",
        "minimum_margin_amount": 1,
        "minimum_margin_percent": Decimal("94.5"),
        "maximum_estimated_cost": None,
        "maximum_snapshot_age_seconds": 5,
        "decision": "warn",
        "reason": "margin_percent_below_minimum",
    }
    flat = (
        "allowed",
        "min_margin_percent",
        "margin_percent",
        "margin_level",
        "margin_enforcement_mode",
        "warning",
    )
    assert [answer[name] for name in flat] == [
        True,
        Decimal("94.5"),
        94,
        "below_minimum",
        "warn",
        "margin_below_minimum",
    ]


async def test_a_dear_model_is_denied_while_a_cheap_one_is_allowed(world: World) -> None:
    """Costs and prices are the model's own that `metadata` names."""
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=Decimal("0.5"))
    await world.a_cost_model(name="big", cost_per_unit_cents=Decimal("1.9"), model="big")
    await world.a_margin_policy(min_margin_percent=20, mode="deny")
    assert (await _for_model(world, "small"))["allowed"] is True
    dear = await _for_model(world, "big")
    assert (dear["allowed"], dear["reason"]) == BELOW
    assert dear["economics"]["estimated_margin_percent"] == "5"


async def test_a_dear_model_with_a_price_of_its_own_is_allowed(world: World) -> None:
    own_price = {"values": {"model": ["big"]}, "properties": {"amount": "0.03"}}
    await _subscribers(world, charges=[{**STANDARD, "filters": [own_price]}])
    await world.a_cost_model(name="big", cost_per_unit_cents=Decimal("1.9"), model="big")
    await world.a_margin_policy(min_margin_percent=20, mode="deny")
    assert (await _for_model(world, "big"))["economics"]["estimated_incremental_revenue"] == "3"
    assert (await _for_model(world, "big"))["allowed"] is True


async def test_the_marginal_price_moves_the_decision_at_the_boundary_of_a_tier(world: World) -> None:
    """The hundredth unit still earns 20 cents, the next one 5."""
    tiers = [
        {"from_value": 0, "to_value": 100, "per_unit_amount": "0.20", "flat_amount": "0"},
        {"from_value": 101, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"},
    ]
    charge = {**STANDARD, "charge_model": "graduated", "properties": {"graduated_ranges": tiers}}
    await _subscribers(world, charges=[charge])
    await world.a_cost_model(cost_per_unit_cents=4)
    await world.a_margin_policy(min_margin_percent=30, mode="deny")
    seen = []
    for n in (99, 1, 1):
        await world.use("acme", n)
        answer = await world.can("acme")
        seen.append((answer["used"], answer["economics"]["estimated_incremental_revenue"], answer["allowed"]))
    assert seen == [(99, "20", True), (100, "5", False), (101, "5", False)]


async def test_free_units_that_cost_something_are_below_any_floor(world: World) -> None:
    """No percentage says how much nothing is: a use without revenue and with a cost is a loss."""
    charge = {
        **STANDARD,
        "charge_model": "package",
        "properties": {"amount": "1", "free_units": 10, "package_size": 100},
    }
    await _subscribers(world, charges=[charge])
    await world.a_margin_policy(min_margin_percent=-500, mode="deny")
    await world.a_cost_model(cost_per_unit_cents=Decimal("0.5"))
    free = await world.can("acme")
    assert (free["allowed"], free["reason"]) == BELOW
    assert (free["margin_percent"], free["margin_level"]) == (None, "negative")
    assert free["economics"]["estimated_incremental_margin"] == "-0.5"
    await world.use("acme", 10)
    paid = await world.can("acme")
    assert (paid["allowed"], paid["margin_percent"]) == (True, 50)


async def test_tiers_of_costs_move_the_decision(world: World) -> None:
    """A supplier's price over the month's quantity, as of the next unit."""
    await _subscribers(world)
    await world.a_cost_model(
        cost_type="tiered",
        tiers=[{"up_to": 10, "unit_amount_cents": "1.5"}, {"unit_amount_cents": "0.5"}],
    )
    await world.a_margin_policy(min_margin_percent=50, mode="deny", maximum_snapshot_age_seconds=0)
    await world.use("acme", 9)
    assert await world.reason("acme") == BELOW
    await world.use("acme", 1)
    assert await world.reason("acme") == (True, "unlimited")


async def test_averages_are_as_young_as_the_policy_asks(world: World) -> None:
    """Rates by token are averaged over what was used; without `maximum_snapshot_age_seconds` for a few seconds."""
    await _subscribers(world)
    await world.a_cost_model(cost_type="per_model", model_rates={"big": {"input": 1_000_000, "output": 0}})
    await world.a_margin_policy(
        "feature/chat",
        min_margin_percent=30,
        mode="deny",
        on_unavailable="deny",
        maximum_snapshot_age_seconds=0,
    )
    nothing_used = await _for_model(world, "big")
    assert (nothing_used["allowed"], nothing_used["reason"]) == BELOW
    assert nothing_used["economics"]["status"] == "unavailable"
    assert nothing_used["economics"]["reason"] == "no_usage_to_average"
    tokens = {"model": "big", "input_tokens": 1}
    await world.use("acme", 1, properties=tokens)
    assert (await _for_model(world, "big"))["economics"]["estimated_incremental_cost"] == "1"
    await world.use("acme", 1, properties={**tokens, "input_tokens": 2})
    dearer = await _for_model(world, "big")
    assert dearer["economics"]["estimated_incremental_cost"] == "1.5"
    assert (dearer["allowed"], dearer["reason"]) == BELOW


@pytest.mark.parametrize(("on_unavailable", "answered"), [("allow", (True, "unlimited")), ("deny", BELOW)])
async def test_what_is_not_configured_counts_as_the_policy_says(
    world: World, on_unavailable: str, answered: tuple[bool, str]
) -> None:
    await _subscribers(world)
    await world.a_margin_policy(min_margin_percent=10, mode="deny", on_unavailable=on_unavailable)
    assert await world.reason("acme") == answered
    answer = await world.can("acme")
    economics = answer["economics"]
    assert (economics["status"], economics["reason"]) == ("not_configured", "no_cost_model")
    assert (economics["estimated_incremental_cost"], economics["estimated_margin_percent"]) == (None, None)
    assert economics["estimated_incremental_revenue"] == "2"
    assert answer["margin_level"] == "unknown"


async def test_without_a_price_only_a_ceiling_on_the_cost_is_judged(world: World) -> None:
    """Fees pay for what is not priced by use, and no single use can be held against them."""
    await _subscribers(world, charges=())
    await world.a_cost_model(cost_per_unit_cents=3)
    await world.a_margin_policy(min_margin_percent=99, mode="deny")
    answer = await world.can("acme")
    assert (answer["allowed"], answer["economics"]["reason"]) == (True, "no_price")
    await world.a_margin_policy(maximum_estimated_cost=2, mode="deny")
    assert await world.reason("acme") == BELOW


async def test_a_limit_that_is_used_up_stays_the_reason(world: World) -> None:
    await _subscribers(world, limit=0)
    await world.a_cost_model(cost_per_unit_cents=5)
    await world.a_margin_policy(min_margin_percent=10, mode="deny")
    answer = await world.can("acme")
    assert (answer["allowed"], answer["reason"]) == (False, "limit_exceeded")
    assert answer["policy"]["decision"] == "deny"


async def test_a_feature_without_a_meter_is_not_judged(world: World) -> None:
    """Nothing is used of it, so nothing costs; a policy for it would be without effect, and is refused."""
    await _subscribers(world)
    await world.a_feature(code="sso", metric=None)
    await world.call("PATCH", "/core/api/v1/plans/pro/entitlements", {"entitlements": {"sso": True}})
    await world.a_margin_policy(min_margin_percent=10, mode="deny", on_unavailable="deny")
    answer = await world.can("acme", "sso")
    assert (answer["allowed"], answer["reason"], "policy" in answer) == (True, "feature_enabled", False)
    refused = await world.call("PUT", f"{POLICIES}/feature/sso", {"min_margin_percent": 10})
    assert (refused.status, refused.code) == (422, "feature_not_metered")


@pytest.mark.parametrize("whose", ["organization", "customer/acme"])
async def test_a_publishable_key_is_denied_and_told_no_figures(world: World, whose: str) -> None:
    """Decision 7: the denial holds for whoever asks; the figures are the merchant's."""
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=Decimal("1.5"))
    await world.a_margin_policy(whose, min_margin_percent=50, mode="deny")
    target = "/api/v1/can?customer_id=acme&feature=chat"
    told = (await world.call("GET", target, key=world.publishable)).json
    assert (told["allowed"], told["reason"]) == BELOW
    hidden = ("margin_percent", "margin_level", "margin_enforcement_mode", "warning", "economics", "policy")
    assert [told[name] for name in hidden] == [None] * len(hidden)
    assert told.keys() == (await world.can("acme")).keys()
    for method, path in (("PUT", whose), ("GET", whose), ("DELETE", whose)):
        answer = await world.call(
            method,
            f"{POLICIES}/{path}",
            {"min_margin_percent": 1} if method == "PUT" else None,
            key=world.publishable,
        )
        assert answer.status == 403


async def test_a_customers_session_is_told_no_figures_even_where_the_organization_shows_them(
    world: World,
) -> None:
    """Decision 7: never for customer sessions."""
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_margin_policy(min_margin_percent=10)
    await world.settings(show_margin_to_publishable_keys=True)
    session = await world.post(
        "/api/v1/customer-sessions", {"customer_id": "acme", "scopes": ["entitlements:read"]}
    )
    headers = {"X-Nozle-Customer-Session": session["customer_session"]["token"]}
    target = "/api/v1/can?customer_id=acme&feature=chat"
    open_to_keys = (await world.call("GET", target, key=world.publishable)).json
    assert open_to_keys["economics"]["estimated_incremental_cost"] == "1"
    told = (await world.call("GET", target, key=world.publishable, headers=headers)).json
    assert told["economics"] is told["policy"] is told["margin_percent"] is None


async def test_all_entitlements_follow_the_policy(world: World) -> None:
    """The overview decides as `can()` does, and its ETag changes only when something does."""
    await _subscribers(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_margin_policy("customer/acme", min_margin_percent=60, mode="deny")
    target = "/api/v1/entitlements?customer_id=acme"
    first, second = [await world.call("GET", target) for _ in range(2)]
    entitlement = first.json["entitlements"][0]
    assert (entitlement["allowed"], entitlement["reason"]) == BELOW
    assert entitlement["policy"]["decision"] == "deny"
    assert "calculated_at" not in entitlement["economics"]
    assert first.headers["etag"] == second.headers["etag"]
    await world.a_margin_policy("customer/acme", min_margin_percent=50, mode="deny")
    third = await world.call("GET", target)
    assert third.json["entitlements"][0]["allowed"] is True
    assert third.headers["etag"] != first.headers["etag"]


NEW = {"min_margin_percent": 10}


@pytest.mark.parametrize(
    ("whose", "body", "status", "code"),
    [
        ("plan/none", NEW, 404, "plan_not_found"),
        ("feature/none", NEW, 404, "feature_not_found"),
        ("customer/none", NEW, 404, "customer_not_found"),
        ("metric/tokens", NEW, 400, None),
        ("organization/x", NEW, 400, None),
        ("organization", {}, 400, None),
        ("organization", {"mode": "deny"}, 400, None),
        ("organization", {"min_margin_percent": "100.000000000001"}, 400, None),
        ("organization", {"min_margin_percent": "much"}, 400, None),
        ("organization", {"min_margin_percent": True}, 400, None),
        ("organization", {"maximum_estimated_cost": -1}, 400, None),
        ("organization", {**NEW, "mode": "shout"}, 400, None),
        ("organization", {**NEW, "on_unavailable": "warn"}, 400, None),
        ("organization", {**NEW, "maximum_snapshot_age_seconds": -1}, 400, None),
        ("organization", {**NEW, "maximum_snapshot_age_seconds": 86_401}, 400, None),
        ("organization", {**NEW, "maximum_snapshot_age_seconds": "5s"}, 400, None),
    ],
)
async def test_what_is_refused_changes_nothing(
    world: World, whose: str, body: JsonObject, status: int, code: str | None
) -> None:
    answer = await world.call("PUT", f"{POLICIES}/{whose}", body)
    assert answer.status == status
    assert code is None or answer.code == code
    assert (await world.get(VERSIONS))["meta"]["total_count"] == 0


@pytest.mark.parametrize("version", ["mp_0", "mp_019a2f6e0a1b7c2d9e3f4a5b6c7d8e9f", "x"])
async def test_an_unknown_version_is_404(world: World, version: str) -> None:
    answer = await world.call("GET", f"{VERSIONS}/{version}")
    assert (answer.status, answer.code) == (404, "margin_policy_not_found")


async def test_a_repeat_under_the_same_key_makes_no_second_version(world: World) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await world.call("PUT", f"{POLICIES}/organization", NEW, headers=headers)
    await world.a_margin_policy(min_margin_percent=20)
    again = await world.call("PUT", f"{POLICIES}/organization", NEW, headers=headers)
    assert (again.json, again.replayed) == (first.json, True)
    assert (await world.get(f"{POLICIES}/organization"))["min_margin_percent"] == 20


async def test_changes_at_once_follow_each_other(world: World) -> None:
    """Ten at once: ten versions in a row, of which one is in force."""
    await asyncio.gather(*(world.a_margin_policy(min_margin_percent=n) for n in range(10)))
    versions = (await world.get(VERSIONS))["margin_policy_versions"]
    assert sorted(one["version"] for one in versions) == list(range(1, 11))
    in_force = [one for one in versions if one["in_force"]]
    assert [one["version"] for one in in_force] == [10]
    assert await world.get(f"{POLICIES}/organization") == in_force[0]


async def test_tenants_do_not_see_each_others_policies(world: World, other_world: World) -> None:
    """A04: the same codes and ids in two organizations."""
    for each in (world, other_world):
        await _subscribers(each)
        await each.a_cost_model(cost_per_unit_cents=1)
    for whose in ("organization", "plan/pro", "feature/chat", "customer/acme"):
        made = await world.a_margin_policy(whose, min_margin_percent=60, mode="deny")
    assert await world.reason("acme") == BELOW
    assert await other_world.reason("acme") == (True, "unlimited")
    assert (await other_world.call("GET", f"{VERSIONS}/{made['version_id']}")).status == 404
    assert (await other_world.get(POLICIES))["margin_policies"] == []


async def test_news_of_a_customers_policy_name_that_customer_alone(world: World) -> None:
    """Whoever keeps decisions drops that customer's, and everybody's for the other kinds."""
    await _subscribers(world)
    seen = []
    for whose in ("customer/acme", "plan/pro", "feature/chat", "organization"):
        before = len(await world.fetch("select 1 from outbox where org_id = $1"))
        await world.a_margin_policy(whose, min_margin_percent=10)
        rows = await world.fetch(
            "select kind, payload from outbox where org_id = $1 order by transaction, id"
        )
        seen += [(row["kind"], row["payload"]) for row in rows[before:]]
    one, *others = seen
    assert one == ("entitlements.changed", {"external_customer_id": "acme"})
    assert others == [("entitlements.changed", {})] * 3
