"""centrifuge-python connects, hears, and recovers: what is committed reaches it without a poll."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from centrifuge import (
    Client,
    ClientEventHandler,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)

from world import World

pytestmark = pytest.mark.database

ARRIVES_WITHIN_S = 20
"""Of a machine that does other things too; nothing here says how fast it is."""


class Heard(SubscriptionEventHandler):
    """What a subscription told."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.subscribed: asyncio.Queue[SubscribedContext] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        await self.news.put(ctx.pub.data)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        await self.subscribed.put(ctx)

    async def until(self, feature: str, **wanted: object) -> dict[str, Any]:
        """The first news of the feature that says so."""
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            while True:
                one = await self.news.get()
                if one["feature"] == feature and all(one[name] == value for name, value in wanted.items()):
                    return one


@pytest.fixture
async def shop(world: World) -> World:
    """Plan `free` has no feature; `pro` has `sso`, and ten of `chat`."""
    await world.a_metric()
    await world.a_feature(code="sso", metric=None)
    await world.a_feature()
    await world.a_plan(code="free")
    await world.a_plan(code="pro", entitlements={"sso": {}, "chat": {"limit": 10}})
    await world.a_customer()
    await world.subscribe("acme", "free")
    return world


@pytest.fixture
async def connect(shop: World, url: str) -> AsyncIterator[Any]:
    """Connects a client that fetches its tokens as a browser does."""
    clients: list[Client] = []

    async def make(customer: str = "acme", channel: str | None = None) -> tuple[Client, Heard]:
        async def token() -> str:
            query = {"customer_id": customer} if channel is None else {}
            return str((await shop.get("/api/v1/auth/centrifugo-token", **query))["token"])

        client = Client(
            url.replace("http", "ws") + "/connection/websocket",
            events=ClientEventHandler(),
            get_token=token,
            min_reconnect_delay=0.05,
        )
        clients.append(client)
        heard = Heard()
        subscription = client.new_subscription(
            channel or f"customer:{shop.org_id}:{customer}", events=heard, recoverable=True
        )
        await client.connect()
        await subscription.subscribe()
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            await heard.subscribed.get()
        return client, heard

    yield make
    for client in clients:
        await client.disconnect()


async def test_a_plan_change_opens_the_gate_in_the_client(shop: World, connect: Any) -> None:
    _, heard = await connect()
    await shop.change_plan("acme", "pro")
    told = await heard.until("sso")
    assert (told["allowed"], told["reason"], told["plan"]) == (True, "feature_enabled", "pro")
    assert {"customerId": "acme", "featureKey": "sso", "type": "entitlement.updated"}.items() <= told.items()
    assert not [name for name in told if "cost" in name or "margin" in name or "revenue" in name]


async def test_usage_that_reaches_the_limit_closes_it(shop: World, connect: Any) -> None:
    await shop.change_plan("acme", "pro")
    _, heard = await connect()
    await shop.use("acme", 4)
    assert (await heard.until("chat"))["remaining"] == 6
    await shop.use("acme", 6)
    told = await heard.until("chat", allowed=False)
    assert (told["reason"], told["used"], told["limit"], told["remaining"]) == ("limit_exceeded", 10, 10, 0)


async def test_a_feature_taken_off_a_plan_is_told(shop: World, connect: Any) -> None:
    await shop.change_plan("acme", "pro")
    _, heard = await connect()
    assert (await shop.call("DELETE", "/core/api/v1/plans/pro/entitlements/sso")).status == 200
    told = await heard.until("sso")
    assert (told["allowed"], told["reason"]) == (False, "feature_not_in_plan")


async def test_what_was_missed_while_cut_off_is_recovered(shop: World, connect: Any) -> None:
    client, heard = await connect()
    subscription = client.get_subscription(f"customer:{shop.org_id}:acme")
    await client.disconnect()
    await shop.change_plan("acme", "pro")
    await client.connect()
    async with asyncio.timeout(ARRIVES_WITHIN_S):
        back = await heard.subscribed.get()
    assert subscription is not None
    assert (back.was_recovering, back.recovered) == (True, True)
    assert (await heard.until("sso"))["allowed"] is True


async def test_the_workspace_channel_hears_of_every_customer(shop: World, connect: Any) -> None:
    await shop.a_customer("other")
    _, heard = await connect(channel=f"workspace:{shop.org_id}:entitlements")
    await shop.subscribe("other", "pro")
    assert (await heard.until("sso"))["customer_id"] == "other"
    await shop.change_plan("acme", "pro")
    assert (await heard.until("sso"))["customer_id"] == "acme"
