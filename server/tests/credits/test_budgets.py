"""Nested budgets: one deduction is checked against every level, and is told which of them refused."""

import asyncio
from typing import Any

import pytest

from deductions import take
from nozle_server.credits.group_commit import GroupCommit
from world import Answer, World, audit

from .ledger_api import hold, release, settle

pytestmark = pytest.mark.database

CUSTOMER = "/api/v1/customers/acme"


async def put(world: World, target: str, limit: object, **more: object) -> Any:
    answer = await world.call("PUT", f"{CUSTOMER}{target}", {"limit": limit, **more})
    assert answer.status == 200, answer.body
    return answer.json


async def spend(world: World, amount: object, entity: str | None = None) -> Any:
    body = {"customer_id": "acme", "feature": "chat", "credits": amount, "entity_id": entity}
    return await world.post("/api/v1/check-and-deduct", {k: v for k, v in body.items() if v is not None})


async def a_team(world: World) -> None:
    """acme > team > agent > run, with 1,000 credits; on the clock of Kathmandu, which is 5 h 45 min ahead."""
    await world.turn("2026-01-10T12:30:00Z")
    await world.a_customer("acme", timezone="Asia/Kathmandu")
    await world.grant("acme", 1000)
    await world.an_entity("team")
    await world.an_entity("agent", parent_entity_id="team")
    await world.an_entity("run", parent_entity_id="agent")


async def test_every_level_is_checked_and_the_one_that_refused_is_named(world: World) -> None:
    await a_team(world)
    await put(world, "/budgets/month", 100)
    await put(world, "/entities/team/budgets/day", 50)
    await put(world, "/entities/agent/budgets/hour", 20)
    await put(world, "/entities/run/budgets/run", 5)
    refused = await spend(world, 6, "run")
    assert (refused["allowed"], refused["reason"], refused["remaining"]) == (False, "budget_exceeded", 1000)
    assert refused["budget"] == {
        "entity_id": "run",
        "interval": "run",
        "limit": 5,
        "used": 0,
        "resets_at": None,
    }
    assert (await spend(world, 5, "run"))["allowed"] is True
    assert (await spend(world, 16, "agent"))["budget"]["entity_id"] == "agent"
    assert (await spend(world, 15, "agent"))["allowed"] is True
    assert (await spend(world, 31, "team"))["budget"]["interval"] == "day"
    assert (await spend(world, 30, "team"))["allowed"] is True
    assert (await spend(world, 51))["budget"]["entity_id"] is None
    assert (await spend(world, 50))["allowed"] is True
    listed = [
        (await world.get(f"{CUSTOMER}{level}/budgets"))["budgets"][0]["used"]
        for level in ("", "/entities/team", "/entities/agent", "/entities/run")
    ]
    assert listed == [100, 50, 20, 5]
    assert await world.balance("acme") == 900
    await audit(world)


@pytest.mark.parametrize(
    ("interval", "last", "first"),
    [
        ("hour", "2026-01-10T13:14:59.999999Z", "2026-01-10T13:15:00Z"),
        ("day", "2026-01-10T18:14:59.999999Z", "2026-01-10T18:15:00Z"),
        ("month", "2026-01-31T18:14:59.999999Z", "2026-01-31T18:15:00Z"),
        ("run", "2026-03-31T18:14:59.999999Z", None),
    ],
)
async def test_a_window_ends_on_the_customers_clock(
    world: World, interval: str, last: str, first: str | None
) -> None:
    """T08: the boundary itself belongs to the next window."""
    await a_team(world)
    await put(world, f"/budgets/{interval}", 10)
    await spend(world, 10)
    await world.turn(last)
    assert (await spend(world, 1))["reason"] == "budget_exceeded"
    if first is not None:
        await world.turn(first)
        assert (await spend(world, 10))["allowed"] is True
        assert (await spend(world, 1))["allowed"] is False
    await audit(world)


async def test_what_was_spent_in_the_window_before_counts(world: World) -> None:
    await a_team(world)
    await spend(world, 3, "run")
    await spend(world, 4, "agent")
    await spend(world, 5)
    await world.turn("2026-01-10T19:00:00Z")
    await spend(world, 2, "run")
    assert (await put(world, "/entities/agent/budgets/day", 10))["used"] == 2
    assert (await put(world, "/entities/agent/budgets/run", 100))["used"] == 9
    assert (await put(world, "/budgets/month", 100))["used"] == 14
    assert (await put(world, "/budgets/month", 20))["remaining"] == 6
    assert (await spend(world, 7))["allowed"] is False
    await audit(world)


async def test_a_hold_counts_in_the_window_that_it_was_made_in(world: World) -> None:
    """Also for a budget that is set after it was settled, released or owed, whenever that was."""
    await a_team(world)
    first, second, third = [
        (await hold(world, 10, entity_id="agent", expires_in=7200))["hold_id"] for _ in range(3)
    ]
    await world.turn("2026-01-10T13:15:00Z")
    await settle(world, first, 3)
    await release(world, second)
    await spend(world, 4, "agent")
    assert (await put(world, "/entities/agent/budgets/hour", 10))["used"] == 4
    assert (await put(world, "/entities/team/budgets/day", 100))["used"] == 3 + 0 + 10 + 4
    assert (await put(world, "/budgets/run", 100))["used"] == 17
    # It ends in the hour after: the day and the run get back what it did not take, the hour is another one.
    await settle(world, third, 1)
    listed = [
        (await world.get(f"{CUSTOMER}{level}/budgets"))["budgets"][0]["used"]
        for level in ("", "/entities/team", "/entities/agent")
    ]
    assert listed == [8, 8, 4]
    await audit(world)


async def test_what_is_owed_counts_once_when_it_is_settled(world: World) -> None:
    """Whatever the day on which a grant pays it."""
    await a_team(world)
    held = await hold(world, 1000)
    await settle(world, held["hold_id"], 1030, uncovered_limit=50)
    await world.turn("2026-01-12")
    await world.grant("acme", 100)
    assert (await put(world, "/budgets/day", 100))["used"] == 0
    assert (await put(world, "/budgets/run", 2000))["used"] == 1030
    await audit(world)


async def test_races_never_exceed_a_budget(world: World) -> None:
    """C03: three processes, one budget at each of two levels."""
    await a_team(world)
    await put(world, "/budgets/day", 40)
    await put(world, "/entities/team/budgets/day", 25)
    groups = [GroupCommit(world.database.reserve, world.services.bus) for _ in range(3)]
    answers = await asyncio.gather(
        *(take(groups[n % 3], world, 1, entity="agent" if n % 2 else None) for n in range(120))
    )
    assert sum(one["allowed"] for one in answers) == 40
    [row] = await world.fetch(
        """select -sum(amount) as spent from ledger_entries
           where org_id = $1 and type = 'deduct' and entity_id is not null"""
    )
    assert row["spent"] <= 25
    await audit(world)


async def test_a_limit_set_by_another_process_holds_at_once(world: World) -> None:
    await a_team(world)
    other = GroupCommit(world.database.reserve, world.services.bus)
    await take(other, world, 1, entity="run")
    await put(world, "/entities/team/budgets/hour", 1)
    assert (await take(other, world, 1, entity="run"))["reason"] == "budget_exceeded"
    await world.call("DELETE", f"{CUSTOMER}/entities/team/budgets/hour")
    assert (await take(other, world, 1, entity="run"))["allowed"] is True
    await audit(world)


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        ("/budgets/week", {"limit": 1}, 400, "invalid_request"),
        ("/budgets/day", {"limit": -1}, 400, "invalid_request"),
        ("/budgets/day", {}, 400, "invalid_request"),
        ("/budgets/day", {"limit": 1, "credit_system": "none"}, 404, "credit_system_not_found"),
        ("/entities/nobody/budgets/day", {"limit": 1}, 404, "entity_not_found"),
    ],
)
async def test_bad_budgets_change_nothing(
    world: World, target: str, body: object, status: int, code: str
) -> None:
    await a_team(world)
    answer: Answer = await world.call("PUT", f"{CUSTOMER}{target}", body)
    assert (answer.status, answer.code) == (status, code)
    gone = await world.call("DELETE", f"{CUSTOMER}/budgets/day")
    assert (gone.status, gone.code) == (404, "budget_not_found")
