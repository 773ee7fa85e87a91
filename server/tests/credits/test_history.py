"""Transactions found by what they are, and statements whose parts come to the difference between two balances."""

import random
from decimal import Decimal
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

DAYS = [f"2026-01-{day:02}" for day in range(1, 16)]


async def a_life(world: World, seed: int) -> dict[str, Decimal]:
    """Fifteen days of grants and uses; the balance at the end of each day."""
    chance = random.Random(seed)
    closing = {}
    for day in DAYS:
        await world.turn(f"{day}T12:00:00Z")
        if day == DAYS[0]:
            await world.a_customer()
            await world.an_entity("bot")
        if chance.random() < 0.4:
            expires = (
                {"expires_at": f"2026-01-{chance.randint(20, 28)}T00:00:00Z"} if chance.random() < 0.5 else {}
            )
            await world.grant("acme", Decimal(chance.randint(1, 900)) / 10, **expires)
        for _ in range(chance.randint(0, 3)):
            body = {
                "customer_id": "acme",
                "feature": chance.choice(["chat", "images"]),
                "credits": Decimal(chance.randint(1, 300)) / 10,
            }
            if chance.random() < 0.4:
                body["entity_id"] = "bot"
            await world.post("/api/v1/check-and-deduct", body)
        closing[day] = await world.balance("acme")
    return closing


async def history(world: World, **query: object) -> list[Any]:
    """All pages of two."""
    found: list[Any] = []
    cursor: dict[str, object] = {}
    while True:
        page = await world.get("/api/v1/credits/acme/transactions", limit=2, **query, **cursor)
        found += page["transactions"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_statement_comes_to_the_difference_of_two_balances(world: World, seed: int) -> None:
    closing = await a_life(world, seed)
    chance = random.Random(seed)
    for _ in range(8):
        first, last = sorted(chance.sample(range(1, 15), 2))
        told = await world.get("/api/v1/credits/acme/statement", **{"from": DAYS[first], "to": DAYS[last]})
        assert told["opening_balance"] == closing[DAYS[first - 1]]
        assert told["closing_balance"] == closing[DAYS[last]]
        moved = told["closing_balance"] - told["opening_balance"]
        assert sum(one["amount"] for one in told["by_type"]) == moved
        assert sum(one["amount"] for one in told["by_source"]) == moved
        used = sum(one["amount"] for one in told["by_type"] if one["type"] == "deduct")
        assert sum(one["amount"] for one in told["by_feature"]) == used
        assert sum(one["amount"] for one in told["by_entity"]) == used
    whole = await world.get("/api/v1/credits/acme/statement")
    assert (whole["opening_balance"], whole["closing_balance"]) == (0, await world.balance("acme"))
    await audit(world)


async def test_transactions_are_found_by_what_they_are(world: World) -> None:
    await a_life(world, 3)
    everything = await history(world)
    assert [one["sequence"] for one in everything] == list(range(len(everything), 0, -1))
    for query, is_meant in (
        ({"type": "deduct"}, lambda one: one["type"] == "deduct"),
        ({"feature": "images"}, lambda one: one["feature"] == "images"),
        ({"entity_id": "bot"}, lambda one: one["entity_id"] == "bot"),
        (
            {"from": "2026-01-05", "to": "2026-01-09"},
            lambda one: "2026-01-05" <= one["created_at"] < "2026-01-10",
        ),
        ({"type": "void"}, lambda _one: False),
    ):
        assert await history(world, **query) == [one for one in everything if is_meant(one)]
    with_draws = await history(world, draws="true")
    for one in with_draws:
        signed = one["amount"] if one["direction"] == "in" else -one["amount"]
        assert sum(draw["amount"] for draw in one["draws"]) == signed


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("acme/transactions?type=nothing", 400, "invalid_request"),
        ("acme/transactions?from=2026-02-01&to=2026-01-01", 400, "invalid_request"),
        ("acme/transactions?from=yesterday", 400, "invalid_request"),
        ("acme/statement?from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", 400, "invalid_request"),
        ("acme/statement?credit_system=none", 404, "credit_system_not_found"),
        ("acme/balance?credit_system=none", 404, "credit_system_not_found"),
        ("nobody/statement", 404, "customer_not_found"),
        ("acme/transactions?hold_id=none", 404, "hold_not_found"),
    ],
)
async def test_what_cannot_be_looked_up_is_said(world: World, target: str, status: int, code: str) -> None:
    await world.a_customer()
    answer = await world.call("GET", f"/api/v1/credits/{target}")
    assert (answer.status, answer.code) == (status, code)


async def test_another_organization_sees_nothing(world: World, other_world: World) -> None:
    """A04."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.grant("acme", 5)
    await other_world.a_customer()
    assert (await other_world.get("/api/v1/credits/acme/transactions"))["transactions"] == []
    assert (await other_world.get("/api/v1/credits/acme/statement"))["closing_balance"] == 0
