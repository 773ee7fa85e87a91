"""Rights of single subscriptions beside those of their plan."""

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/subscriptions/team/entitlements"


async def a_team(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_feature(code="sso", metric=None)
    await world.a_plan()
    await world.a_plan(code="max", amount_cents=100)
    body = {"entitlements": {"chat": {"limit": 10, "overage": False}}}
    await world.post("/core/api/v1/plans/pro/entitlements", body)
    await world.a_customer()
    await world.assign("acme", "pro", "team")
    await world.a_customer("other")
    await world.assign("other", "pro", "plain")


async def test_a_subscription_has_rights_of_its_own(world: World) -> None:
    """Another limit and another feature for one subscription: `can()` follows, and nobody else has them."""
    await a_team(world)
    answer = await world.call("PATCH", PATH, {"entitlements": {"chat": {"limit": 25}, "sso": True}})
    assert answer.status == 200, answer.body
    chat, sso = answer.json["entitlements"]
    assert (chat["code"], chat["overrides"], sso["code"]) == ("chat", {"limit": 25}, "sso")
    [limit] = [one for one in chat["privileges"] if one["code"] == "limit"]
    assert (limit["value"], limit["plan_value"], limit["override_value"]) == (25, 10, 25)
    assert (await world.can("acme"))["limit"] == 25
    assert (await world.can("other"))["limit"] == 10
    assert await world.reason("acme", "sso") == (True, "feature_enabled")
    assert await world.reason("other", "sso") == (False, "feature_not_in_plan")


async def test_a_privilege_is_given_back_to_the_plan(world: World) -> None:
    await a_team(world)
    await world.call("PATCH", PATH, {"entitlements": {"chat": {"limit": 25}}})
    answer = await world.call("DELETE", f"{PATH}/chat/privileges/limit")
    assert answer.json["entitlement"]["overrides"] == {}
    assert (await world.can("acme"))["limit"] == 10
    again = await world.call("DELETE", f"{PATH}/chat/privileges/limit")
    assert (again.status, again.code) == (404, "privilege_not_found")


async def test_a_feature_is_taken_away_and_given_again(world: World) -> None:
    await a_team(world)
    assert (await world.call("DELETE", f"{PATH}/chat")).status == 200
    assert await world.reason("acme") == (False, "feature_not_in_plan")
    assert (await world.get(PATH))["entitlements"] == []
    assert (await world.call("DELETE", f"{PATH}/chat")).code == "entitlement_not_found"
    await world.call("PATCH", PATH, {"entitlements": {"chat": {"limit": 3}}})
    assert (await world.can("acme"))["limit"] == 3


async def test_what_is_unknown_is_a_404_and_changes_nothing(world: World, other_world: World) -> None:
    await a_team(world)
    for target, code in (
        (PATH.replace("team", "none"), "subscription_not_found"),
        (PATH, "feature_not_found"),
    ):
        answer = await world.call("PATCH", target, {"entitlements": {"chat": {"limit": 1}, "nothing": True}})
        assert (answer.status, answer.code) == (404, code)
    assert (await other_world.call("GET", PATH)).status == 404
    assert (await world.can("acme"))["limit"] == 10


async def test_a_change_of_plan_leaves_them_behind(world: World) -> None:
    """As Lago: they belong to the subscription that ended."""
    await a_team(world)
    await world.call("PATCH", PATH, {"entitlements": {"sso": True}})
    await world.change_plan("acme", "max")
    assert await world.reason("acme", "sso") == (False, "feature_not_in_plan")
