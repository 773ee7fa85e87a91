"""Answers are given again for as long as their key is good; one that is looked up by itself is good no longer than any."""

import asyncio
import io
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from nozle_server.api.app import build_app
from nozle_server.identity.key_cache import TTL_S, KeyCache
from nozle_server.identity.model import Principal
from world import World, client, services, world

from .test_lane import Server

__all__ = ["client", "services", "world"]

pytestmark = pytest.mark.database

ASKED_FOR_S = 3 * TTL_S


class Asking:
    """One connection that asks the same question without pause; each answer with when it was asked for."""

    def __init__(self, world: World, key: str) -> None:
        app = build_app(world.services)
        assert app.lane is not None
        self._connection = Server(app, world.services.metrics.render, io.BytesIO()).connect()
        self._request = (
            "GET /api/v1/can?customer_id=acme&feature=chat HTTP/1.1\r\nHost: nozle\r\n"
            f"Authorization: Bearer {key}\r\n\r\n"
        ).encode()

    async def ask(self) -> tuple[float, bytes]:
        wire = self._connection.wire
        before, asked = len(wire.sent), monotonic()
        self._connection.receive(self._request)
        async with asyncio.timeout(10):
            while len(wire.sent) == before:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0)
        return asked, wire.sent[before:]


@pytest.fixture
async def asked_of(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """The keys that the long way looked at. A customer that may be asked about, in a process to which no news come; its
    keys are looked up by themselves."""
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(entitlements={"chat": {"limit": 10}})
    await world.a_customer("acme")
    await world.subscribe("acme", "pro")
    looked: list[str] = []
    find = KeyCache.find

    async def spy(self: KeyCache, key_text: str) -> Principal | None:
        looked.append(key_text)
        return await find(self, key_text)

    monkeypatch.setattr(KeyCache, "find", spy)
    keeping = asyncio.create_task(world.services.keys.keep_fresh())
    yield looked
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_revoked_key_is_refused_within_a_second_however_often_it_is_asked_with(
    world: World, asked_of: list[str]
) -> None:
    asking = Asking(world, world.secret)
    ends, revoked, good = monotonic() + ASKED_FOR_S, 0.0, []
    refused = 0
    while monotonic() < ends:
        if not revoked and monotonic() > ends - 1.7 * TTL_S:
            # By somebody else, without a word: it is not for the news that a key dies in time.
            async with world.database.transaction() as tx:
                await tx.execute(
                    "update api_keys set revoked_at = now() where org_id = $1 and kind = 'secret'",
                    world.org_id,
                )
            revoked = monotonic()
        asked, answer = await asking.ask()
        if answer.startswith(b"HTTP/1.1 200"):
            good.append(asked)
        else:
            assert answer.startswith(b"HTTP/1.1 401")
            refused += 1
        await asyncio.sleep(0.001)
    assert refused
    assert max(good) < revoked + TTL_S
    assert len(asked_of) - refused < 2 + len(good) / 10, "they were given again"


async def test_who_may_no_longer_see_margins_is_not_shown_them_again(
    world: World, asked_of: list[str]
) -> None:
    await _show(world, shows=True)
    asking = Asking(world, world.publishable)
    ends, changed, seen, hidden = monotonic() + ASKED_FOR_S, 0.0, [], 0
    while monotonic() < ends:
        if not changed and monotonic() > ends - 1.7 * TTL_S:
            await _show(world, shows=False)
            changed = monotonic()
        asked, answer = await asking.ask()
        assert answer.startswith(b"HTTP/1.1 200")
        if b'"revenue_per_use_cents":null' in answer:
            hidden += 1
        else:
            seen.append(asked)
        await asyncio.sleep(0.001)
    assert hidden
    assert max(seen) < changed + TTL_S
    assert len(asked_of) < 5 + (len(seen) + hidden) / 10


async def _show(world: World, *, shows: bool) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(
            "update organizations set show_margin_to_publishable_keys = $2 where id = $1", world.org_id, shows
        )
