"""Low credits are told once a fall, and a top-up is wished for once, in however many processes (M03 for what answers)."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from deductions import take
from nozle_server.credits.group_commit import GroupCommit
from world import World, audit

pytestmark = pytest.mark.database

RULE = "/api/v1/credits/acme/top-up-rule"


async def put(world: World, target: str, body: object) -> Any:
    answer = await world.call("PUT", target, body)
    assert answer.status == 200, answer.body
    return answer.json


async def facts(world: World, kind: str) -> list[dict[str, Any]]:
    rows = await world.fetch(
        "select payload from outbox where org_id = $1 and kind = $2 order by id", f"credits.{kind}"
    )
    return [row["payload"] for row in rows]


async def an_account(world: World, amount: object = 100) -> None:
    await world.turn("2026-01-10")
    await world.a_customer("acme", timezone="America/Los_Angeles")
    await world.grant("acme", amount)


async def test_an_alert_is_told_once_a_fall(world: World) -> None:
    await an_account(world)
    await put(world, "/api/v1/credits/acme/alerts/low", {"threshold": 20, "name": "Low"})
    await put(world, "/api/v1/credits/acme/alerts/half", {"threshold": 50})
    for amount in (30, 20, 1):
        await world.deduct("acme", amount)
    assert [one["alert"] for one in await facts(world, "balance_low")] == ["half"]
    await world.deduct("acme", 30)
    await world.deduct("acme", 1)
    told = await facts(world, "balance_low")
    assert [(one["alert"], one["balance"]) for one in told] == [("half", 49), ("low", 19)]
    await world.grant("acme", 1000)
    await world.deduct("acme", 1010)
    assert [one["alert"] for one in (await facts(world, "balance_low"))[2:]] == ["half", "low"]
    await audit(world)


async def test_a_fall_seen_by_several_processes_is_told_once(world: World) -> None:
    await an_account(world)
    await put(world, "/api/v1/credits/acme/alerts/low", {"threshold": 50})
    groups = [GroupCommit(world.database.reserve, world.services.bus) for _ in range(3)]
    await asyncio.gather(*(take(groups[n % 3], world, 1) for n in range(80)))
    assert len(await facts(world, "balance_low")) == 1
    await audit(world)


async def test_expiry_and_holds_make_credits_fall_too(world: World) -> None:
    await an_account(world, 10)
    await world.grant("acme", 90, expires_at="2026-01-20T00:00:00Z")
    await put(world, "/api/v1/credits/acme/alerts/low", {"threshold": 20})
    await world.turn("2026-01-20")
    assert [one["balance"] for one in await facts(world, "balance_low")] == [10]
    await audit(world)


async def test_a_removed_alert_is_silent(world: World) -> None:
    await an_account(world)
    await put(world, "/api/v1/credits/acme/alerts/low", {"threshold": 50})
    assert (await world.get("/api/v1/credits/acme/alerts"))["alerts"] == [
        {"code": "low", "name": None, "threshold": 50}
    ]
    assert (await world.call("DELETE", "/api/v1/credits/acme/alerts/low")).status == 200
    again = await world.call("DELETE", "/api/v1/credits/acme/alerts/low")
    assert (again.status, again.code) == (404, "alert_not_found")
    await world.deduct("acme", 90)
    assert await facts(world, "balance_low") == []


async def test_a_top_up_is_wished_for_once_until_it_is_answered(world: World) -> None:
    await an_account(world)
    await put(world, RULE, {"amount": 40, "threshold": 50})
    groups = [GroupCommit(world.database.reserve, world.services.bus) for _ in range(2)]
    await asyncio.gather(*(take(groups[n % 2], world, 1) for n in range(60)))
    [wish] = await facts(world, "top_up_wanted")
    assert (wish["amount"], wish["threshold"]) == (40, 50)
    waiting = (await world.get(RULE))["waiting_top_up_id"]
    assert waiting == f"topup_{wish['top_up_id'].replace('-', '')}"
    path = f"/api/v1/credits/acme/top-ups/{waiting}/grant"
    answers = await asyncio.gather(*(world.call("POST", path, {}) for _ in range(5)))
    assert sorted(one.status for one in answers) == [200, 409, 409, 409, 409]
    assert {one.code for one in answers if one.status == 409} == {"top_up_answered"}
    assert await world.balance("acme") == 80
    await world.deduct("acme", 31)
    assert len(await facts(world, "top_up_wanted")) == 2
    await audit(world)


async def test_wishes_stay_within_the_months_cap(world: World) -> None:
    """The month is the customer's: in Los Angeles January ends eight hours after it does in UTC."""
    await an_account(world, 0.5)
    rule = await put(world, RULE, {"amount": 40, "threshold": 50, "monthly_cap": 100})
    assert rule["wished_in_month"] == 40  # low already, so it is wished for at once
    for _ in range(5):
        waiting = (await world.get(RULE))["waiting_top_up_id"]
        if waiting is not None:
            await world.post(f"/api/v1/credits/acme/top-ups/{waiting}/grant", {})
        if (left := await world.balance("acme")) > 0:
            await world.deduct("acme", left)
    assert len(await facts(world, "top_up_wanted")) == 2
    assert (await world.get(RULE))["capped"] is True
    await world.grant("acme", 10)
    await world.turn("2026-02-01T07:59:59Z")
    await world.deduct("acme", 1)
    assert len(await facts(world, "top_up_wanted")) == 2
    await world.turn("2026-02-01T08:00:00Z")
    await world.deduct("acme", 1)
    assert len(await facts(world, "top_up_wanted")) == 3
    await audit(world)


async def test_a_declined_top_up_pauses_the_rule(world: World) -> None:
    await an_account(world, 1)
    waiting = (await put(world, RULE, {"amount": 40, "threshold": 50, "monthly_cap": 40}))[
        "waiting_top_up_id"
    ]
    declined = await world.post(f"/api/v1/credits/acme/top-ups/{waiting}/decline", None)
    assert (declined["status"], declined["wished_in_month"]) == ("paused", 0)
    await world.deduct("acme", 1)
    assert len(await facts(world, "top_up_wanted")) == 1
    late = await world.call("POST", f"/api/v1/credits/acme/top-ups/{waiting}/grant", {})
    assert (late.status, late.code) == (409, "top_up_answered")
    await put(world, RULE, {"amount": 40, "threshold": 50, "monthly_cap": 40})
    assert len(await facts(world, "top_up_wanted")) == 2
    await audit(world)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": 0, "threshold": 1},
        {"amount": 1, "threshold": 0},
        {"amount": 10, "threshold": 1, "monthly_cap": 9},
        {"amount": "NaN", "threshold": 1},
        {"amount": 1, "threshold": True},
    ],
)
async def test_bad_rules_change_nothing(world: World, body: object) -> None:
    await an_account(world)
    answer = await world.call("PUT", RULE, body)
    assert answer.status == 400
    assert (await world.call("GET", RULE)).code == "top_up_rule_not_found"
    assert (
        await world.call("PUT", RULE.replace("acme", "nobody"), {"amount": 1, "threshold": 1})
    ).status == 404
    assert Decimal(await world.balance("acme")) == 100
