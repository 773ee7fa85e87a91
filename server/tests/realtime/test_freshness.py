"""Who comes at once shares a look that has not begun, and never one that has: it may have read what was before."""

# ruff: noqa: ARG002 - a stand-in has the interface's arguments

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from nozle_server.core.clock import SystemClock
from nozle_server.core.errors import Unavailable
from nozle_server.realtime import freshness as module
from nozle_server.realtime.broker import Looked
from nozle_server.realtime.freshness import AT_ONCE, Freshness
from nozle_server.realtime.model import Channel


class Looking:
    """A broker whose looks take until they are let go; all channels are heard."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self.fail = 0
        self.by_figures = False

    async def opened(self, channels: Sequence[Channel], until: datetime) -> None: ...

    def organizations(self) -> Collection[UUID]:
        return ()

    def channels(self, org_id: UUID) -> Collection[Channel]:
        return ()

    def hears(self, channel: Channel) -> bool:
        return True

    async def look(self, org_id: UUID, customer: str) -> Looked:
        self.begun.append(customer)
        await self.go.wait()
        if self.fail:
            self.fail -= 1
            raise Unavailable("away", code="away")
        return Looked(False, None, by_figures=self.by_figures)

    async def begin_anew(self, org_id: UUID) -> bool:
        return True

    async def run(self) -> None: ...


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_those_who_come_before_a_look_begins_share_it() -> None:
    broker, org_id = Looking(), uuid4()
    freshness = Freshness(None, SystemClock(), broker)  # type: ignore[arg-type]

    async def come() -> None:
        await freshness.look(org_id, "acme", lambda: broker.look(org_id, "acme"))

    first = asyncio.create_task(come())
    await _settle()
    later = [asyncio.create_task(come()) for _ in range(50)]
    gone = later.pop()
    await _settle()
    gone.cancel()
    broker.go.set()
    await asyncio.gather(first, *later)
    assert broker.begun == ["acme", "acme"], "one for the first, one for all who came while it went on"


async def test_a_look_that_fails_fails_for_those_who_shared_it_and_nobody_after() -> None:
    broker, org_id = Looking(), uuid4()
    freshness = Freshness(None, SystemClock(), broker)  # type: ignore[arg-type]
    broker.fail = 1
    broker.go.set()

    async def come() -> bool:
        try:
            await freshness.look(org_id, "acme", lambda: broker.look(org_id, "acme"))
        except Unavailable:
            return False
        return True

    assert await asyncio.gather(come(), come()) == [False, False]
    assert await come()


async def test_so_many_are_looked_at_at_a_time() -> None:
    broker, org_id = Looking(), uuid4()
    freshness = Freshness(None, SystemClock(), broker)  # type: ignore[arg-type]
    for n in range(3 * AT_ONCE):
        freshness.mark(org_id, f"c{n}")
    await _settle()
    assert len(broker.begun) == AT_ONCE
    broker.go.set()
    async with asyncio.timeout(5):
        while len(broker.begun) < 3 * AT_ONCE:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    freshness.stop()


async def test_those_decided_by_figures_are_looked_at_in_turn_again_and_no_more_than_so_many_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The more there are, the longer each waits."""
    broker, org_id = Looking(), uuid4()
    freshness = Freshness(None, SystemClock(), broker)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "FIGURES_AGAIN_S", 0.05)
    broker.go.set()
    freshness.mark(org_id, "not by figures")
    await _settle()
    broker.by_figures = True
    freshness.mark(org_id, "acme")
    async with asyncio.timeout(5):
        while broker.begun.count("acme") < 3:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    assert broker.begun.count("not by figures") == 1
    many = [f"c{n}" for n in range(100)]
    for customer in many:
        freshness.look_again(org_id, customer, Looked(False, None, by_figures=True))
    loop = asyncio.get_running_loop()
    delays = [freshness._timers[org_id, customer].when() - loop.time() for customer in many]
    assert delays == sorted(delays)
    assert 1.5 < delays[-1] <= 0.02 * (len(many) + 2)
    freshness.stop()
