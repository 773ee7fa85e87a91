"""Cost models over the API: both dialects, which one wins, tiers over a month, what a deletion leaves."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from world import Answer, World, audit

pytestmark = pytest.mark.database

D = Decimal
TIERS = [
    {"up_to": 10, "unit_amount_cents": 2, "flat_amount_cents": 0},
    {"up_to": 100, "unit_amount_cents": 1, "flat_amount_cents": 5},
    {"up_to": None, "unit_amount_cents": D("0.5")},
]


def month_price(mode: str, n: int) -> Decimal:
    """What `n` units of a month cost by TIERS, computed another way than the server does: unit by unit."""
    if mode == "VOLUME":
        return D(2 * n if n <= 10 else n + 5 if n <= 100 else n) / (1 if n <= 100 else 2)
    return sum(
        (D(2) if unit <= 10 else D(1) if unit <= 100 else D("0.5") for unit in range(1, n + 1)), D(0)
    ) + (5 if n > 10 else 0)


async def a_subscriber(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[])
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def costs(world: World) -> list[Decimal | None]:
    """What the events cost, in the order of their time."""
    rows = await world.fetch(
        "select cost_cents from events where org_id = $1 order by occurred_at, transaction_id"
    )
    return [row["cost_cents"] for row in rows]


async def cost_of(world: World, n: object = 1, **properties: object) -> Decimal | None:
    """What one more event costs."""
    stored = await world.use("acme", n, properties=properties)
    rows = await world.fetch(
        "select cost_cents from events where org_id = $1 and transaction_id = $2", stored["transaction_id"]
    )
    return rows[0]["cost_cents"]


# Shapes.


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"cost_per_unit_cents": 0.12}, {"cost_type": "per_unit", "amount_cents": D("0.12"), "model": None}),
        (
            {"cost_per_unit_cents": "0.12", "model": "gpt-4"},
            {"model": "gpt-4", "cost_per_unit_cents": D("0.12")},
        ),
        ({"cost_type": "per_unit", "amount_cents": 3}, {"cost_per_unit_cents": 3, "amount_cents": 3}),
        ({"cost_per_unit_cents": 3, "amount_cents": 3}, {"amount_cents": 3}),
        ({"cost_per_unit_cents": 0}, {"amount_cents": 0}),
        (
            {"cost_type": "per_model", "model_rates": {"gpt-4o": {"input": 250, "output": "1000"}}},
            {"model_rates": {"gpt-4o": {"input": 250, "output": 1000}}, "amount_cents": None, "tiers": None},
        ),
        (
            {"cost_type": "tiered", "tier_mode": "SLAB", "tiers": TIERS},
            {
                "tier_mode": "SLAB",
                "tiers": [*TIERS[:2], {**TIERS[2], "flat_amount_cents": 0}],
                "amount_cents": None,
            },
        ),
        ({"cost_type": "tiered", "tiers": TIERS}, {"tier_mode": "SLAB"}),
        ({"cost_type": "tiered", "tier_mode": "volume", "tiers": TIERS}, {"tier_mode": "VOLUME"}),
    ],
)
async def test_both_dialects_are_read_and_shown(
    world: World, sent: dict[str, Any], shown: dict[str, Any]
) -> None:
    """Contract 1.19: the seed's form and the guide's; the answer, the list and a look by id are one object."""
    made = await world.post("/api/v1/cost-models", {"name": "cost", "metric_code": "not_there_yet", **sent})
    assert made["id"].startswith("cm_")
    assert {name: made[name] for name in shown} == shown
    assert (made["name"], made["metric_code"]) == ("cost", "not_there_yet")
    assert await world.get(f"/api/v1/cost-models/{made['id']}") == made
    assert await world.get("/api/v1/cost-models") == [made]
    assert await world.get("/engine/api/v1/cost-models") == [made]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"cost_per_unit_cents": -1},
        {"cost_per_unit_cents": "1e3"},
        {"cost_per_unit_cents": "0.0000000000001"},
        {"cost_per_unit_cents": True},
        {"cost_per_unit_cents": 10**18},
        {"cost_per_unit_cents": 1, "amount_cents": 2},
        {"cost_per_unit_cents": 1, "metric_code": ""},
        {"cost_per_unit_cents": 1, "metric_code": None},
        {"cost_per_unit_cents": 1, "name": ""},
        {"cost_per_unit_cents": 1, "name": "a\x00b"},
        {"cost_per_unit_cents": 1, "model": ""},
        {"cost_per_unit_cents": 1, "tiers": TIERS},
        {"cost_type": "free", "amount_cents": 1},
        {"cost_type": "per_model"},
        {"cost_type": "per_model", "model_rates": {}},
        {"cost_type": "per_model", "model_rates": {"gpt-4o": {"input": 1}}},
        {"cost_type": "per_model", "model_rates": {"gpt-4o": {"input": -1, "output": 1}}},
        {"cost_type": "per_model", "model_rates": {"": {"input": 1, "output": 1}}},
        {"cost_type": "per_model", "model_rates": {"a": {"input": 1, "output": 1}}, "amount_cents": 1},
        {"cost_type": "tiered"},
        {"cost_type": "tiered", "tiers": []},
        {"cost_type": "tiered", "tiers": TIERS, "tier_mode": "STEPS"},
        {"cost_type": "tiered", "tiers": TIERS[:2]},
        {"cost_type": "tiered", "tiers": [TIERS[1], TIERS[0], TIERS[2]]},
        {"cost_type": "tiered", "tiers": [TIERS[2], TIERS[2]]},
        {"cost_type": "tiered", "tiers": [{"up_to": 0, "unit_amount_cents": 1}, TIERS[2]]},
        {"cost_type": "tiered", "tiers": [{"up_to": None, "unit_amount_cents": -1}]},
        {"cost_type": "tiered", "tiers": [{"up_to": None}]},
    ],
)
async def test_what_is_no_cost_model_is_a_400(world: World, sent: dict[str, Any]) -> None:
    """Contract 1.19: missing, negative and contradicting fields; nothing is stored."""
    body = {"name": "cost", "metric_code": "tokens", **sent}
    answer = await world.call("POST", "/api/v1/cost-models", body)
    assert answer.status == 400, answer.body
    assert answer.json["error"]
    assert await world.get("/api/v1/cost-models") == []


async def test_costs_are_for_secret_keys_and_their_own_organization(world: World, other_world: World) -> None:
    """Contract appendix B: pk_ 403 on all four; another organization's cost model is a 404 and stays."""
    cost_model = await world.a_cost_model(cost_per_unit_cents=1)
    for method, target, body in (
        ("GET", "/api/v1/cost-models", None),
        ("POST", "/api/v1/cost-models", {"name": "x", "metric_code": "x", "cost_per_unit_cents": 1}),
        ("GET", f"/api/v1/cost-models/{cost_model}", None),
        ("DELETE", f"/api/v1/cost-models/{cost_model}", None),
    ):
        assert (await world.call(method, target, body, key=world.publishable)).status == 403
        if method != "POST" and "cm_" in target:
            answer = await other_world.call(method, target)
            assert (answer.status, answer.code) == (404, "cost_model_not_found")
    assert len(await world.get("/api/v1/cost-models")) == 1


async def test_deleting_twice_is_a_404_and_so_is_what_never_was(world: World) -> None:
    cost_model = await world.a_cost_model(cost_per_unit_cents=1)
    target = f"/api/v1/cost-models/{cost_model}"
    assert (await world.call("DELETE", target)).json == {"deleted": True, "id": cost_model}
    for method in ("GET", "DELETE"):
        answer = await world.call(method, target)
        assert (answer.status, answer.code) == (404, "cost_model_not_found")
        assert (await world.call(method, "/api/v1/cost-models/cm_nonsense")).status == 404
    assert await world.get("/api/v1/cost-models") == []


# Which one, and for which events.


async def test_which_cost_model_prices_an_event(world: World) -> None:
    """One that names the event's AI model before a general one, the newest among equals; it prices what comes later."""
    await a_subscriber(world)
    assert await cost_of(world, 10) is None
    await world.a_cost_model(name="general", cost_per_unit_cents=1)
    assert await cost_of(world, 10) == 10
    await world.a_cost_model(name="named", cost_per_unit_cents=2, model="gpt-4o")
    await world.a_cost_model(name="newer", cost_per_unit_cents=3)
    assert await cost_of(world, 10) == 30
    assert await cost_of(world, 10, model="gpt-4o") == 20
    assert await cost_of(world, 10, model="other") == 30
    rates = {"gpt-4o": {"input": 1_000_000, "output": 2_000_000}}
    await world.a_cost_model(name="rates", cost_type="per_model", model_rates=rates)
    assert await cost_of(world, 10, model="gpt-4o", input_tokens=3, output_tokens=4) == 11
    assert await cost_of(world, 10, model="gpt-4o") == 0
    assert await cost_of(world, 10, model="other", input_tokens=3) == 30
    await world.a_cost_model(metric="something_else", name="elsewhere", cost_per_unit_cents=9)
    assert await cost_of(world, 10) == 30


async def test_events_before_any_cost_model_are_told_as_uncosted(world: World) -> None:
    """Nothing is dropped in silence: margin tells how many events it knows no cost of."""
    await a_subscriber(world)
    await world.use("acme", 5)
    await world.use("acme", 5)
    await world.a_cost_model(cost_per_unit_cents=2)
    await world.use("acme", 5)
    summary = await world.get("/api/v1/margin/summary", from_="2026-01-01", to="2026-01-31")
    assert summary["events_count"] == 3
    assert summary["total_cost_cents"] == 10
    assert summary["uncosted_events_count"] == 2


async def test_a_deleted_cost_model_keeps_what_past_events_cost(world: World) -> None:
    """Contract 1.22: the past keeps its costs; later events take the next best, or none."""
    await a_subscriber(world)
    old = await world.a_cost_model(name="old", cost_per_unit_cents=1)
    new = await world.a_cost_model(name="new", cost_per_unit_cents=7)
    assert await cost_of(world) == 7
    await world.call("DELETE", f"/api/v1/cost-models/{new}")
    assert await cost_of(world) == 1
    await world.call("DELETE", f"/api/v1/cost-models/{old}")
    assert await cost_of(world) is None
    summary = await world.get("/api/v1/margin/summary", from_="2026-01-01", to="2026-01-31")
    assert summary["total_cost_cents"] == 8


async def test_per_model_rates_are_exact_for_huge_and_tiny_numbers(world: World) -> None:
    """M14: cents a million tokens, without a float on the way."""
    await a_subscriber(world)
    rates = {"m": {"input": D("0.000000000001"), "output": D("123456789.123456789012")}}
    await world.a_cost_model(cost_type="per_model", model_rates=rates)
    exact = D("370.370367370370367037")
    assert await cost_of(world, model="m", input_tokens=1, output_tokens=3) == exact


# Tiers over a calendar month.


@pytest.mark.parametrize("mode", ["SLAB", "VOLUME"])
async def test_tiers_run_over_the_calendar_month_in_any_order(world: World, mode: str) -> None:
    """I05 for costs: shuffled events of two months cost, month by month, what the month's total costs."""
    await a_subscriber(world)
    await world.turn("2026-03-01")
    await world.a_cost_model(cost_type="tiered", tier_mode=mode, tiers=TIERS)
    events = [("2026-01-31T23:59:59.999999Z", 60), ("2026-02-01T00:00:00Z", 7), ("2026-02-28T23:59:59Z", 50)]
    events += [(f"2026-01-{day:02d}T12:00:00Z", day) for day in range(1, 13)]
    random.Random(5).shuffle(events)
    for at, n in events:
        await world.use("acme", n, timestamp=at)
    rows = await world.fetch(
        """select date_trunc('month', occurred_at at time zone 'UTC') as month, sum(quantity)::int as n,
            sum(cost_cents) as cost from events where org_id = $1 group by 1 order by 1"""
    )
    assert [(row["n"], row["cost"]) for row in rows] == [
        (138, month_price(mode, 138)),
        (57, month_price(mode, 57)),
    ]


@pytest.mark.parametrize("mode", ["SLAB", "VOLUME"])
async def test_batches_at_once_each_find_their_place_in_the_tiers(world: World, mode: str) -> None:
    """M09 for costs: four batches at once with common ids, forwards and backwards; the month's costs add up."""
    await a_subscriber(world)
    await world.a_cost_model(cost_type="tiered", tier_mode=mode, tiers=TIERS)
    events = [
        {"transaction_id": f"e{n}", "customer_id": "acme", "code": "tokens", "properties": {"n": n % 9}}
        for n in range(60)
    ]

    async def send(batch: list[dict[str, Any]]) -> Answer:
        return await world.call("POST", "/api/v1/events/batch", {"events": batch})

    batches = (events[:40], events[20:], events[::-1], events[::2])
    assert {answer.status for answer in await asyncio.gather(*map(send, batches))} == {200}
    total = sum(n % 9 for n in range(60))
    stored = await costs(world)
    assert len(stored) == 60
    assert sum((cost or D(0) for cost in stored), D(0)) == month_price(mode, total)
    await audit(world)


async def test_a_replayed_event_moves_no_tier(world: World) -> None:
    """I01: the second sending costs nothing and takes no place in the month."""
    await a_subscriber(world)
    await world.a_cost_model(cost_type="tiered", tiers=TIERS)
    for _ in range(3):
        await world.use("acme", 8, id="once")
    await world.use("acme", 4, id="next")
    assert sum((cost or D(0) for cost in await costs(world)), D(0)) == month_price("SLAB", 12)


async def test_tiers_are_shared_by_an_organizations_customers_and_by_nobody_else(
    world: World, other_world: World
) -> None:
    """The provider bills the merchant, so a tier fills with all its customers' usage, and with no other merchant's."""
    for one in (world, other_world):
        await a_subscriber(one)
        await one.a_cost_model(cost_type="tiered", tiers=TIERS)
        await one.a_customer("beta")
        await one.subscribe("beta", "pro")
    await world.use("acme", 10)
    await world.use("beta", 10)
    assert sum((cost or D(0) for cost in await costs(world)), D(0)) == month_price("SLAB", 20)
    await other_world.use("acme", 10)
    assert await costs(other_world) == [D(20)]
