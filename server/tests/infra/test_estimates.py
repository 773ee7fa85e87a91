"""Figures kept for a few seconds: how long, how often they are read, and for whom they are too old."""

import asyncio
from decimal import Decimal

from nozle_server.infra.estimates import Estimate, Estimates

D = Decimal
ONE = D(1)


class Source:
    """A figure that somebody counts the readings of, and a clock that stands until it is moved."""

    def __init__(self, value: Decimal | None = ONE) -> None:
        self.value, self.now, self.readings = value, 100.0, 0
        self.estimates = Estimates(kept_s=5, kept_empty_s=1, monotonic=lambda: self.now)

    async def read(self) -> Decimal | None:
        self.readings += 1
        found = self.value
        await asyncio.sleep(0)
        return found

    async def get(self, max_age_s: float | None = None) -> Estimate:
        return await self.estimates.get("figure", self.read, max_age_s)


async def test_a_figure_is_read_again_when_it_is_five_seconds_old() -> None:
    source = Source()
    assert (await source.get()).value == 1
    source.value = D(2)
    source.now += 4.9
    assert (await source.get()).value == 1
    source.now += 0.1
    assert (await source.get()).value == 2
    assert source.readings == 2


async def test_nothing_is_kept_for_a_second_only() -> None:
    source = Source(None)
    assert (await source.get()).value is None
    source.value = D(2)
    source.now += 1
    assert (await source.get()).value == 2


async def test_who_sets_an_age_gets_a_figure_no_older() -> None:
    """And those who set none profit from the younger one."""
    source = Source()
    await source.get()
    source.value = D(2)
    source.now += 2
    assert (await source.get(3)).value == 1
    assert (await source.get()).value == 1
    assert (await source.get(2)).value == 2
    assert (await source.get()).value == 2
    source.value = D(3)
    assert (await source.get(0)).value == 3


async def test_one_reads_for_all_who_ask_at_once() -> None:
    source = Source()
    found = await asyncio.gather(*(source.get() for _ in range(50)))
    assert ({one.value for one in found}, source.readings) == ({D(1)}, 1)


async def test_a_slow_reading_does_not_replace_a_later_one() -> None:
    """What was read before a change never comes back over what was read after it."""
    source, gate = Source(), asyncio.Event()

    async def slowly() -> Decimal | None:
        await gate.wait()
        return D(1)

    slow = asyncio.create_task(source.estimates.get("figure", slowly))
    for _ in range(3):  # until it reads
        await asyncio.sleep(0)
    source.value = D(2)
    source.now += 1
    assert (await source.get(0)).value == 2
    gate.set()
    assert (await slow).value == 2
    assert (await source.get()).value == 2


async def test_what_is_forgotten_stands_no_more() -> None:
    source = Source()
    known = await source.get()
    source.estimates.forget_all()
    assert source.now >= known.standing.until
    assert source.estimates.peek("figure") is None
