"""The official JavaScript client, as browsers run it: the gate opens without a poll, and what was missed is recovered.

`make test` installs it from its lock. Without node, or where it is not installed, these are skipped.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from world import World

CLIENT = Path(__file__).parent / "client"

pytestmark = [
    pytest.mark.database,
    pytest.mark.skipif(
        shutil.which("node") is None or not (CLIENT / "node_modules" / "centrifuge").exists(),
        reason="needs node and `npm ci` in server/tests/realtime/client",
    ),
]

ARRIVES_WITHIN_S = 20


class Browser:
    """A program that listens to one channel."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, event: str, **wanted: object) -> dict[str, Any]:
        """The first event that says so."""
        assert self._process.stdout is not None
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            while line := await self._process.stdout.readline():
                told = json.loads(line)
                data = told.get("data", {})
                if told["event"] == event and all(data.get(name) == one for name, one in wanted.items()):
                    return told
        raise AssertionError("the client ended")

    def say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())


@asynccontextmanager
async def browser(world: World, url: str, *, token_for: str, channel: str) -> AsyncIterator[Browser]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(CLIENT / "listen.js"),
        f"{url.replace('http', 'ws')}/connection/websocket",
        f"{url}/api/v1/auth/centrifugo-token?customer_id={token_for}",
        world.publishable,
        channel,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Browser(process)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def shop(world: World) -> World:
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(code="free")
    await world.a_plan(code="pro", entitlements={"sso": {}})
    await world.a_customer("acme inc")
    await world.subscribe("acme inc", "free")
    return world


def channel_of(world: World, customer: str = "acme%20inc") -> str:
    return f"customer:{world.org_id}:{customer}"


async def test_a_plan_change_opens_the_gate_without_a_poll(shop: World, url: str) -> None:
    async with browser(shop, url, token_for="acme%20inc", channel=channel_of(shop)) as acme:
        await acme.until("subscribed")
        await shop.change_plan("acme inc", "pro")
        told = await acme.until("publication", feature="sso")
        assert told["data"]["allowed"] is True


async def test_who_was_cut_off_learns_of_the_change_on_reconnecting(shop: World, url: str) -> None:
    async with browser(shop, url, token_for="acme%20inc", channel=channel_of(shop)) as acme:
        await acme.until("subscribed")
        acme.say("cut")
        await acme.until("disconnected")
        await shop.change_plan("acme inc", "pro")
        acme.say("back")
        back = await acme.until("subscribed")
        assert (back["wasRecovering"], back["recovered"]) == (True, True)
        told = await acme.until("publication", feature="sso")
        assert told["data"]["allowed"] is True


async def test_another_customers_channel_is_refused(shop: World, url: str) -> None:
    async with browser(shop, url, token_for="somebody", channel=channel_of(shop)) as somebody:
        refused = await somebody.until("unsubscribed")
        assert refused["code"] == 103
