"""Figures that are read again of their own accord, while they are in use: always those that are wanted now."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from api.test_recalled_keys import Asking, asked_of
from nozle_server.api.app import build_app
from nozle_server.bootstrap import Services, build_services
from nozle_server.core.clock import FixedClock
from nozle_server.core.standing import FOR_NOW
from nozle_server.entitlements.economics import Economics, Wanted
from nozle_server.identity.model import Mode
from nozle_server.infra.database import Database
from nozle_server.infra.estimates import Estimate
from nozle_server.infra.settings import Settings
from world import Client, World, client, open_world, services, world

__all__ = ["asked_of", "client", "services", "world"]

pytestmark = pytest.mark.database

KEPT_S = 1.0
SOON_S = 2.5 * KEPT_S
PER_MODEL: dict[str, Any] = {
    "cost_type": "per_model",
    "model_rates": {"big": {"input": 1_000_000, "output": 0}},
}
TIERED: dict[str, Any] = {
    "cost_type": "tiered",
    "tiers": [{"up_to": 10, "unit_amount_cents": "1.5"}, {"unit_amount_cents": "0.5"}],
}


@asynccontextmanager
async def _keeping(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Figures are read again of their own accord, and kept for less long than usual."""
    monkeypatch.setattr(services.economics._estimates, "_kept_s", KEPT_S)
    keeping = asyncio.create_task(services.economics.keep_fresh())
    yield
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@pytest.fixture
async def kept(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async with _keeping(services, monkeypatch):
        yield


async def _until(world: World, name: str, value: object) -> bool:
    """Whether what can() shows under a name becomes that, soon; it is asked for all the time."""
    ends = monotonic() + SOON_S
    while monotonic() < ends:
        if (await world.can("acme"))[name] == value:
            return True
        await asyncio.sleep(0.05)
    return False


async def _ask_for(world: World, seconds: float) -> None:
    ends = monotonic() + seconds
    while monotonic() < ends:
        await world.can("acme")
        await asyncio.sleep(0.05)


async def _a_subscriber(world: World, **plan: object) -> None:
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(entitlements={"chat": {"limit": 1000}}, **plan)
    await world.a_customer("acme")
    await world.subscribe("acme", "pro")


async def test_a_tier_is_that_of_the_month_that_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The period of the subscription goes on over the month's end, and nothing else happens then."""
    clock = FixedClock(datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC))
    services = build_services(database, Settings(), clock)
    services.bus.lease.until = FOR_NOW
    world = await open_world(Client(build_app(services)), services, Mode.TEST)
    await _a_subscriber(world, interval="yearly")
    await world.a_cost_model(**TIERED)
    async with database.transaction() as tx:
        await tx.execute(
            "insert into cost_tier_usage (org_id, cost_model_id, month_start, quantity)"
            " select org_id, id, date '2026-12-01', 100 from cost_models where org_id = $1",
            world.org_id,
        )
    asking = Asking(world, world.secret)
    async with _keeping(services, monkeypatch):
        assert {*await _costs(asking, SOON_S)} == {b"0.5"}
        clock.move_to(datetime(2027, 1, 1, tzinfo=UTC))
        assert b'"cost_per_use_cents":1.5,' in (await asking.ask())[1]


async def test_what_was_asked_in_a_deaf_moment_is_not_real_time_for_a_test_clock(
    world: World, services: Services, kept: None
) -> None:
    """What is read while no news are heard is told of nothing afterwards."""
    await _a_subscriber(world)
    await world.a_cost_model(**PER_MODEL)
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 2})
    services.bus.lease.until = 0.0
    await _ask_for(world, 0.2)
    services.bus.lease.until = FOR_NOW
    await world.turn((datetime.now(UTC) + timedelta(days=60)).strftime("%Y-%m-%dT00:00:00Z"))
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 8})
    assert await _until(world, "cost_per_use_cents", 8)


async def test_averages_at_a_test_clock_s_time_are_not_read_ahead(
    world: World, services: Services, kept: None
) -> None:
    """It is read at the time that the clock shows, by who asks."""
    await world.turn((datetime.now(UTC) + timedelta(days=60)).strftime("%Y-%m-%dT00:00:00Z"))
    await _a_subscriber(world)
    await world.a_cost_model(**PER_MODEL)
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 8})
    await _ask_for(world, SOON_S)
    assert (await world.can("acme"))["cost_per_use_cents"] == 8
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 2})
    assert await _until(world, "cost_per_use_cents", 5)


async def test_an_average_in_use_is_read_again_while_answers_are_given_from_memory(
    world: World, kept: None, asked_of: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks waits for it once, the first time. When it has moved, so do the answers."""
    await world.a_cost_model(**PER_MODEL)
    waited_for: list[Wanted] = []
    get = Economics.get

    async def spy(self: Economics, wanted: Wanted, max_age_s: float | None, now: datetime) -> Estimate:
        waited_for.append(wanted)
        return await get(self, wanted, max_age_s, now)

    monkeypatch.setattr(Economics, "get", spy)
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 2})
    asking = Asking(world, world.secret)
    before = await _costs(asking, 3 * KEPT_S)
    assert {*before} == {b"2"}
    assert len(before) > 100
    assert len(waited_for) == 1
    assert len(asked_of) < 5, "the others were answered from memory"
    await world.use("acme", 1, properties={"model": "big", "input_tokens": 4})
    assert (await _costs(asking, 2 * KEPT_S))[-1] == b"3"


async def _costs(asking: Asking, seconds: float) -> list[bytes]:
    ends, costs = monotonic() + seconds, []
    while monotonic() < ends:
        found = re.search(rb'"cost_per_use_cents":([^,]+)', (await asking.ask())[1])
        assert found is not None
        costs.append(found[1])
        await asyncio.sleep(0.001)
    return costs


GRADUATED = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.20", "flat_amount": "0"},
    {"from_value": 101, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"},
]
FREE = [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}]


async def test_a_price_moves_with_usage_after_an_end_that_was_taken_back(
    world: World, services: Services, kept: None
) -> None:
    """How far a price has been used is read of the period as it is now."""
    filters = [{"key": "paid_by", "values": ["credits"]}]
    metric = {
        "code": "tokens",
        "name": "Tokens",
        "aggregation_type": "sum_agg",
        "field_name": "n",
        "filters": filters,
    }
    await world.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
    free = {"values": {"paid_by": ["credits"]}, "properties": {"graduated_ranges": FREE}}
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "graduated",
        "properties": {"graduated_ranges": GRADUATED},
        "filters": [free],
    }
    plan = {
        "code": "pro",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "charges": [charge],
    }
    await world.post("/core/api/v1/plans", {"plan": plan})
    await world.a_customer("acme")
    end = datetime.now(UTC) + timedelta(seconds=2)
    await world.assign("acme", "pro", "sub1", ending_at=end.isoformat())

    async def revenue() -> object:
        return (await world.get("/api/v1/can", customer_id="acme", feature="tokens"))["revenue_per_use_cents"]

    assert await revenue() == 20
    changed = await world.call(
        "PUT", "/core/api/v1/subscriptions/sub1", {"subscription": {"ending_at": None}}
    )
    assert changed.status == 200
    while datetime.now(UTC) < end + timedelta(seconds=0.2):
        assert await revenue() == 20
        await asyncio.sleep(0.05)
    await world.use("acme", 500)
    ends = monotonic() + SOON_S
    while await revenue() != 5:
        assert monotonic() < ends
        await asyncio.sleep(0.05)
