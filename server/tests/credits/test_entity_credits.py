"""Entities that spend: whose credits, what they have, what is given to them, and what becomes of it when they end (4.1-4.3)."""

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from credits.ledger_api import hold
from credits.product import a_rate, a_system, balance, check, give, operations, track, transfer
from nozle_server.credits.model import GrantSource
from world import World, audit

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """A token costs a credit; the customer bought 100, and has 50 of its plan that are not spent before those."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await a_system(world)
    await a_rate(world, credits="1", per="1")
    await world.a_customer()
    await world.an_entity("agent")
    await give(world, 100)
    await give(world, 50, GrantSource.PLAN, priority=90, expires="2026-02-01")
    return world


async def spend(world: World, n: object, entity: str | None = "agent") -> dict[str, Any]:
    who = {} if entity is None else {"entity_id": entity}
    answer = await track(world, properties={"n": n}, **who)
    assert answer.status == 200, answer.body
    tracked = answer.json
    assert isinstance(tracked, dict)
    return tracked


async def status(world: World, status: str, entity: str = "agent", **more: object) -> None:
    await world.an_entity(entity, status=status, **more)


async def available(world: World, entity: str = "agent") -> tuple[str, str, str]:
    """(entity's, customer's, what it may spend)."""
    shown = await balance(world, entity=entity)
    return shown["entity_available"], shown["shared_available"], shown["effective_available"]


async def test_an_allocation_moves_top_ups_only(acme: World) -> None:
    answer = await transfer(acme, "40", key="give")
    assert answer.status == 200
    moved = answer.json
    [parent], [own] = moved["parent_sources"], moved["entity_sources"]
    assert {
        name: moved[name] for name in ("transferred", "direction", "amount", "available", "replayed")
    } == {
        "transferred": True,
        "direction": "allocation",
        "amount": "40",
        "available": "60",
        "replayed": False,
    }
    assert (parent["source_type"], parent["scope"]) == ("top_up", "customer")
    assert (parent["amount"], parent["before"], parent["after"], parent["created"]) == (
        "40",
        "100",
        "60",
        False,
    )
    assert (own["source_type"], own["scope"]) == ("allocated_top_up", "entity")
    assert (own["amount"], own["before"], own["after"], own["created"]) == ("40", "0", "40", True)
    assert own["parent_source_id"] == parent["source_id"]
    assert await available(acme) == ("40", "110", "150")
    again = await transfer(acme, "40", key="give")
    assert again.json == {**moved, "replayed": True}
    assert (await transfer(acme, "41", key="give")).status == 409
    assert (await transfer(acme, "40", back=True, key="give")).json["direction"] == "deallocation"
    assert await available(acme) == ("0", "150", "150")

    too_much = (await transfer(acme, "100.000000000001")).json
    assert (too_much["transferred"], too_much["reason"]) == (False, "insufficient_credits")
    assert (too_much["available"], too_much["parent_sources"], too_much["entity_sources"]) == ("100", [], [])
    assert await available(acme) == ("0", "150", "150")
    await audit(acme)


@pytest.mark.parametrize("how", ["returned", "suspended"])
async def test_what_an_ended_hold_gave_back_within_the_second_returns_to_where_it_came_from(
    acme: World, how: str
) -> None:
    """All of the allocation was held, and nobody has written down yet that the hold is over."""
    await acme.turn("2026-01-01T00:00:00.4Z")
    assert (await transfer(acme, "100", key="give")).json["transferred"] is True
    held = await hold(acme, 100, entity_id="agent", credit_system="ai", expires_in=1)
    assert held["allowed"] is True
    await acme.turn("2026-01-01T00:00:01.4Z")
    if how == "returned":
        assert (await transfer(acme, "100", back=True, key="back")).json["transferred"] is True
    else:
        await status(acme, "suspended")
    assert (await available(acme))[:2] == ("0", "150")
    await acme.turn("2026-01-01T00:00:02Z")
    await audit(acme)


async def test_what_is_returned_goes_where_it_came_from(acme: World) -> None:
    """Of two top-ups, one of which expires; what was spent of them does not come back."""
    soon = await give(acme, 10, expires="2026-01-10")
    await transfer(acme, "30")
    assert (await spend(acme, 15))["deductions"][0]["remaining"] == "0"
    back = (await transfer(acme, "15.000000000001", back=True)).json
    assert (back["transferred"], back["reason"], back["available"]) == (False, "insufficient_credits", "15")
    back = (await transfer(acme, "15", back=True)).json
    [parent] = back["parent_sources"]
    assert (parent["before"], parent["after"], back["available"]) == ("80", "95", "0")
    assert parent["source_id"] != soon
    assert await available(acme) == ("0", "145", "145")
    await audit(acme)


async def test_an_allocation_expires_with_what_it_came_from(acme: World) -> None:
    await give(acme, 10, expires="2026-01-10")
    await transfer(acme, "10")
    shown = await balance(acme, entity="agent")
    assert [one["expires_at"] for one in shown["sources"] if one["scope"] == "entity"] == [
        "2026-01-10T00:00:00Z"
    ]
    await acme.turn("2026-01-10")
    assert await available(acme) == ("0", "150", "150")
    assert (await transfer(acme, "1", back=True)).json["reason"] == "insufficient_credits"
    await audit(acme)


@pytest.mark.parametrize(
    ("policy", "takes", "spends"),
    [
        ("entity_only", [("entity", "20")], ["20", "130", "20"]),
        ("entity_then_customer", [("entity", "20"), ("customer", "15")], ["20", "130", "150"]),
        ("customer_only", [("customer", "35")], ["20", "130", "130"]),
    ],
)
async def test_the_pool_policy_says_whose_credits_are_spent(
    acme: World, policy: str, takes: list[tuple[str, str]], spends: list[str]
) -> None:
    await acme.an_entity("agent", pool_policy=policy)
    await transfer(acme, "20")
    shown = await balance(acme, entity="agent")
    assert [shown[name] for name in ("entity_available", "shared_available", "effective_available")] == spends
    assert shown["pool_policy"] == policy
    total = sum(Decimal(one["remaining"]) for one in shown["sources"] if one["available"])
    assert total == Decimal(shown["effective_available"])
    tracked = await spend(acme, 20 if policy == "entity_only" else 35)
    assert tracked["pool_policy"] == policy
    assert [(one["source_scope"], one["amount"]) for one in tracked["deductions"]] == takes
    assert (await balance(acme, entity="agent"))["consumed"] == tracked["credits_consumed"]
    refused = await spend(acme, 1000)
    assert (refused["allowed"], refused["reason"]) == (False, "insufficient_credits")
    await audit(acme)


async def test_an_entity_spends_its_parents_credits_before_the_customers(acme: World) -> None:
    await acme.an_entity("team")
    await acme.an_entity("agent", parent_entity_id="team")
    await transfer(acme, "5", entity="agent")
    await transfer(acme, "7", entity="team")
    assert await available(acme) == ("12", "138", "150")
    tracked = await spend(acme, 14)
    assert [(one["source_scope"], one["amount"]) for one in tracked["deductions"]] == [
        ("entity", "5"),
        ("entity", "7"),
        ("customer", "2"),
    ]
    [operation] = [one for one in await operations(acme, "agent") if one["type"] == "consume"]
    assert [one["source_entity_id"] for one in operation["source_allocations"]].count("team") == 1
    await status(acme, "suspended", "team")
    assert (await spend(acme, 1))["reason"] == "entity_inactive"
    assert (await available(acme))[2] == "0"
    await audit(acme)


@pytest.mark.parametrize("end", ["suspended", "deleted"])
async def test_an_end_blocks_usage_returns_top_ups_and_expires_grants(acme: World, end: str) -> None:
    """Contract 4.1: suspending or deleting."""
    await transfer(acme, "40")
    await give(acme, 8, GrantSource.MANUAL, entity="agent")
    await spend(acme, 3)
    assert (await balance(acme))["available"] == "110"
    await status(acme, end)
    assert (await balance(acme))["available"] in ("147", "150")
    shown = await balance(acme, entity="agent")
    assert (shown["entity_status"], shown["entity_available"], shown["effective_available"]) == (
        end,
        "0",
        "0",
    )
    assert not any(one["available"] for one in shown["sources"])
    for answer in (
        await check(acme, entity_id="agent", properties={"n": 1}),
        await track(acme, entity_id="agent", properties={"n": 1}),
    ):
        assert (answer.status, answer.json["allowed"]) == (200, False)
        assert (answer.json["reason"], answer.json["available"]) == ("entity_inactive", "0")
    for back in (False, True):
        refused = (await transfer(acme, "1", back=back)).json
        assert (refused["transferred"], refused["reason"]) == (False, "entity_inactive")
    kinds = Counter(one["type"] for one in await operations(acme, "agent") if one["status"] == "succeeded")
    assert kinds["expire"] == 1
    assert kinds["transfer"] == 4

    await status(acme, "active")
    assert (await available(acme))[0] == "0"
    assert (await spend(acme, 1))["allowed"]
    if end == "deleted":  # another one, with no history
        assert [one["type"] for one in await operations(acme, "agent")] == ["consume"]
    await audit(acme)


async def test_suspending_many_at_once_closes_each(acme: World) -> None:
    names = [f"agent-{n}" for n in range(20)]
    for name in names:
        await acme.an_entity(name)
        await transfer(acme, "5", entity=name)
    assert (await balance(acme))["available"] == "50"
    answer = await acme.call(
        "POST",
        "/api/v1/customers/acme/entities/bulk-upsert",
        {"entities": [{"external_id": name, "status": "suspended"} for name in names]},
        headers={"Idempotency-Key": "all"},
    )
    assert answer.json["counts"]["suspended"] == 20
    assert (await balance(acme))["available"] == "150"
    await audit(acme)


async def test_a_change_of_policy_holds_with_the_next_use(acme: World) -> None:
    """Also where the server still remembers the entity as it was."""
    assert (await spend(acme, 1))["allowed"]
    deducted = {
        "customer_id": "acme",
        "feature": "x",
        "credits": 1,
        "entity_id": "agent",
        "credit_system": "ai",
    }
    assert (await acme.post("/api/v1/check-and-deduct", deducted))["allowed"]
    await acme.an_entity("agent", pool_policy="entity_only")
    assert not (await acme.post("/api/v1/check-and-deduct", deducted))["allowed"]
    assert not (await spend(acme, 1))["allowed"]
    await acme.an_entity("agent", pool_policy="customer_only")
    assert (await acme.post("/api/v1/check-and-deduct", deducted))["allowed"]
    await audit(acme)


async def test_suspended_between_check_and_track(acme: World) -> None:
    assert (await check(acme, entity_id="agent", properties={"n": 1})).json["allowed"]
    await status(acme, "suspended")
    assert (await spend(acme, 1))["reason"] == "entity_inactive"


async def test_suspending_while_it_spends_leaves_nothing_behind(acme: World) -> None:
    """Whoever comes first: after the end nothing is spent, and nothing stays with the entity."""
    for _ in range(8):
        await status(acme, "active")
        await transfer(acme, "10")
        uses = [asyncio.create_task(track(acme, entity_id="agent", properties={"n": 1})) for _ in range(6)]
        moves = [asyncio.create_task(transfer(acme, "1", back=back)) for back in (True, False)]
        await asyncio.sleep(0.005)
        await status(acme, "suspended")
        after = await track(acme, entity_id="agent", properties={"n": 1})
        assert after.json["reason"] == "entity_inactive"
        for one in (*uses, *moves):
            assert (await one).status == 200
        assert (await balance(acme, entity="agent"))["entity_available"] == "0"
    await audit(acme)


async def test_transfers_race_with_spending(acme: World) -> None:
    """Nothing is spent that was moved, and nothing moved that was spent: what is there in the end is what the answers say."""
    calls = [
        *(transfer(acme, "7") for _ in range(20)),
        *(transfer(acme, "3", back=True) for _ in range(20)),
        *(track(acme, properties={"n": 2}) for _ in range(20)),
        *(track(acme, entity_id="agent", properties={"n": 2}) for _ in range(20)),
    ]
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    spent = sum(Decimal(answer.json.get("credits_consumed", "0")) for answer in answers)
    shown = await balance(acme, entity="agent")
    have = Decimal(shown["entity_available"]) + Decimal(shown["shared_available"])
    assert have == 150 - spent
    moved = [answer.json for answer in answers if answer.json.get("transferred")]
    net = sum(Decimal(one["amount"]) * (1 if one["direction"] == "allocation" else -1) for one in moved)
    mine = [one for one in await operations(acme, "agent") if one["type"] == "consume"]
    of_own = -sum(
        Decimal(part["delta"])
        for one in mine
        for part in one["source_allocations"]
        if part["source_entity_id"] == "agent"
    )
    assert Decimal(shown["entity_available"]) == net - of_own
    await audit(acme)


async def test_another_tenants_customers_and_entities_are_nobodys(acme: World, other_world: World) -> None:
    """The same ids elsewhere are others; those that are not there are 404."""
    await other_world.a_metric()
    await a_system(other_world)
    await a_rate(other_world)
    for name, answer in {
        "track": await track(other_world, properties={"n": 1}),
        "check": await check(other_world, properties={"n": 1}),
        "transfer": await transfer(other_world, "1"),
    }.items():
        assert (answer.status, answer.code) == (404, "customer_not_found"), name
    await other_world.a_customer()
    for answer in (
        await track(other_world, entity_id="agent", properties={"n": 1}),
        await transfer(other_world, "1"),
        await other_world.call("GET", "/api/v1/customers/acme/entities/agent/credit-systems"),
        await other_world.call("GET", "/api/v1/customers/acme/entities/agent/credit-operations"),
    ):
        assert (answer.status, answer.code) == (404, "entity_not_found")
    assert await operations(other_world) == []
    assert (await balance(other_world))["available"] == "0"
    assert (await balance(acme))["available"] == "150"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"credit_system": "ai", "amount": "0"}, 400),
        ({"credit_system": "ai", "amount": "-1"}, 400),
        ({"credit_system": "ai", "amount": "1e3"}, 400),
        ({"credit_system": "ai", "amount": "0.0000000000001"}, 400),
        ({"credit_system": "ai", "amount": "1000000000000000000"}, 400),
        ({"credit_system": "ai", "amount": True}, 400),
        ({"credit_system": "ai"}, 400),
        ({"amount": "1"}, 400),
        ({"credit_system": "none", "amount": "1"}, 404),
    ],
)
async def test_bad_transfers_are_refused_and_move_nothing(acme: World, body: object, status: int) -> None:
    for name in ("credit-allocations", "credit-deallocations"):
        path = f"/api/v1/customers/acme/entities/agent/{name}"
        answer = await acme.call("POST", path, body, headers={"Idempotency-Key": "k"})
        assert answer.status == status
        assert (await acme.call("POST", path, {"credit_system": "ai", "amount": "1"})).status == 400  # no key
    assert await available(acme) == ("0", "150", "150")


async def test_budgets_are_told_as_texts(acme: World) -> None:
    await acme.fetch(
        """insert into credit_budgets (org_id, id, account_id, entity_id, interval, limit_amount, created_at, updated_at)
           select $1, gen_random_uuid(), a.id, e.id, 'day', 10, now(), now() from credit_accounts a, entities e
           where a.org_id = $1 and e.org_id = $1"""
    )
    assert (await spend(acme, 9))["allowed"]
    refused = await spend(acme, 2)
    assert (refused["allowed"], refused["reason"]) == (False, "budget_exceeded")
    assert refused["budget"] == {
        "entity_id": "agent",
        "interval": "day",
        "limit": "10",
        "used": "9",
        "resets_at": "2026-01-02T00:00:00Z",
    }
    [denied, *_] = await operations(acme, "agent")
    assert (denied["status"], denied["reason"]) == ("denied", "budget_exceeded")
    await audit(acme)
