"""What expires by time alone is told to live sockets, without anybody changing anything (C02, C06)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from nozle_server.bootstrap import Services
from nozle_server.identity.model import Mode
from nozle_server.realtime import freshness
from world import World, open_world

from .test_server import Talk, channel_of, talking, token_for

pytestmark = pytest.mark.database

SOON = "now() + interval '1.5 seconds'"


class _RunningClock:
    """Real time's pace, from another instant on."""

    def __init__(self, at: datetime) -> None:
        self.set(at)

    def set(self, at: datetime) -> None:
        self._ahead = at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


@pytest.fixture
async def shop(world: World) -> World:
    return await a_shop(world)


async def a_shop(world: World) -> World:
    """An organization on real time, whose customer has ten of `chat`, four of them used."""
    shop = await open_world(world.client, world.services, Mode.LIVE)
    await shop.a_metric()
    await shop.a_feature()
    await shop.a_plan(code="pro", entitlements={"chat": {"limit": 10}})
    await shop.a_customer()
    await shop.subscribe("acme", "pro")
    await shop.use("acme", 4)
    return shop


async def change(world: World, what: str) -> None:
    """Behind everybody's back: nothing is announced and no job will come, so that only time can tell."""
    async with world.database.transaction() as tx:
        await tx.execute(f"update subscriptions set {what} where org_id = $1", world.org_id)
        await tx.execute("delete from due_items where org_id = $1", world.org_id)


async def until(talk: Talk, **wanted: object) -> Any:
    while True:
        data = (await talk.hear())["push"]["pub"]["data"]
        if all(data[name] == value for name, value in wanted.items()):
            return data


async def test_the_end_of_a_subscription_is_told(shop: World, url: str) -> None:
    """C06: nobody ends it; its time is over."""
    await change(shop, f"ending_at = {SOON}")
    async with talking(url) as talk:
        await talk.join(await token_for(shop), channel_of(shop))
        told = await until(talk, feature="chat", allowed=False)
        assert told["reason"] == "subscription_expired"


async def test_a_period_that_begins_anew_is_told_before_its_billing_run(
    world: World, serving: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds before midnight, and no worker: the period that is over is followed by the next at once."""
    clock = _RunningClock(at=datetime(2026, 1, 10, 12, tzinfo=UTC))
    monkeypatch.setattr(type(serving.clock), "now", lambda _: clock.now())
    shop = await a_shop(world)
    clock.set(datetime(2026, 2, 9, 23, 59, 58, tzinfo=UTC))
    async with talking(url) as talk:
        await talk.join(await token_for(shop), channel_of(shop))
        assert (await until(talk, feature="chat", used=0))["remaining"] == 10


async def test_the_organizations_channel_hears_of_it_too(
    shop: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens to the customer's own channel, and nothing has ever been looked at."""
    await change(shop, f"ending_at = {SOON}")
    async with talking(url) as talk:
        await talk.join(await token_for(shop, None), f"workspace:{shop.org_id}:entitlements")
        await until(talk, feature="chat", customer_id="acme", allowed=False)


async def test_what_ends_later_than_a_look_ahead_is_found_by_the_next(
    shop: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "LOOK_AHEAD_S", 0.3)
    await change(shop, f"ending_at = {SOON}")
    async with talking(url) as talk:
        await talk.join(await token_for(shop, None), f"workspace:{shop.org_id}:entitlements")
        await until(talk, feature="chat", customer_id="acme", allowed=False)


async def test_a_long_wait_is_several(shop: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MAX_TIMER_S", 0.2)
    await change(shop, f"ending_at = {SOON}")
    async with talking(url) as talk:
        await talk.join(await token_for(shop), channel_of(shop))
        await until(talk, feature="chat", allowed=False)


async def test_an_average_that_moved_by_the_use_of_others_is_told(
    world: World, serving: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a customer who has not been heard of since: a margin policy denies what now costs too much, and allows it again."""
    monkeypatch.setattr(freshness, "FIGURES_AGAIN_S", 0.2)
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "0.02"},
    }
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(code="pro", charges=[charge], entitlements={"chat": {"limit": 1000}})
    for customer in ("acme", "beta"):
        await world.a_customer(customer)
        await world.subscribe(customer, "pro")
    await world.a_cost_model(cost_type="per_model", model_rates={"big": {"input": 1_000_000, "output": 0}})
    await world.a_margin_policy("feature/chat", min_margin_percent=30, mode="deny")
    await world.use("beta", 1, properties={"model": "big", "input_tokens": 1})
    async with listening(world, url) as talk:
        await world.use("beta", 1, properties={"model": "big", "input_tokens": 9})
        serving.economics.forget_all()
        told = await until(talk, feature="chat", allowed=False)
        assert (told["customer_id"], told["reason"]) == ("acme", "margin_below_minimum")
        await world.use("beta", 1000, properties={"model": "big", "input_tokens": 1})
        serving.economics.forget_all()
        assert (await until(talk, feature="chat", allowed=True))["reason"] == "within_limit"


@asynccontextmanager
async def listening(world: World, url: str) -> AsyncIterator[Talk]:
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        yield talk


async def test_turning_the_clock_tells_what_began_and_what_ended(world: World, url: str) -> None:
    """An organization in test mode: a period's usage, then the end of a cancelled subscription."""
    await world.turn("2026-01-10")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(code="pro", entitlements={"chat": {"limit": 10}})
    await world.a_customer()
    subscription = await world.subscribe("acme", "pro")
    await world.use("acme", 4)
    async with listening(world, url) as talk:
        await world.turn("2026-02-11")
        assert (await until(talk, feature="chat", used=0))["remaining"] == 10
        await world.cancel(subscription)
        await world.turn("2026-04-11")
        told = await until(talk, feature="chat", allowed=False)
        assert told["reason"] == "subscription_cancelled"


async def test_turning_the_clock_starts_what_is_pending(world: World, url: str) -> None:
    await world.turn("2026-01-10")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(code="pro", entitlements={"chat": {"limit": 10}})
    await world.a_customer()
    await world.assign("acme", "pro", "later", subscription_at="2026-02-01T00:00:00Z")
    async with listening(world, url) as talk:
        await world.turn("2026-02-02")
        assert (await until(talk, feature="chat", allowed=True))["limit"] == 10
