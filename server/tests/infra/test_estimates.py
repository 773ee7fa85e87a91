"""Figures kept for a few seconds: how long, how often they are read, and for whom they are too old."""

import asyncio
from decimal import Decimal

import pytest

from nozle_server.core.standing import Standing
from nozle_server.infra import estimates
from nozle_server.infra.estimates import Estimate, Estimates, Renewal

D = Decimal
ONE = D(1)


class Source:
    """A figure that somebody counts the readings of, and a clock that stands until it is moved."""

    def __init__(self, value: Decimal | None = ONE) -> None:
        self.value, self.now, self.readings = value, 100.0, 0
        self.away = False
        self.stands = Standing()
        self.estimates = Estimates(kept_s=5, kept_empty_s=1, monotonic=lambda: self.now)

    async def read(self) -> Decimal | None:
        self.readings += 1
        found = self.value
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError("away")
        return found

    async def get_renewed(self) -> Estimate:
        return await self.estimates.get("figure", self.read, renewal=Renewal(self.read, self.stands))

    async def pass_time(self, seconds: float) -> None:
        """As `keep_fresh` would see it."""
        for _ in range(round(seconds / estimates.LOOKED_EVERY_S)):
            self.now += estimates.LOOKED_EVERY_S
            await self.estimates.renew()

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


@pytest.mark.parametrize("value", [ONE, None])
async def test_what_answers_rely_on_is_read_again_before_it_lapses(value: Decimal | None) -> None:
    """Nobody asks meanwhile: who gives answers again only says that he did."""
    source = Source(value)
    standing = (await source.get_renewed()).standing
    for _ in range(60):
        standing.relied_on_at = source.now
        await source.pass_time(0.5)
        assert source.now < standing.until
    assert source.readings >= 6
    assert source.readings <= (10 if value else 61), "not more often than it has to be"
    standing = (await source.get_renewed()).standing
    source.value = D(2)
    await source.pass_time(5)
    assert standing.until == 0, "what was relied on is not so any more"
    assert (await source.get_renewed()).value == 2


async def test_what_nobody_relies_on_is_left_to_lapse() -> None:
    """Also when it is another each time it is read."""
    source = Source()
    await source.get_renewed()
    await source.pass_time(3)
    for value in range(2, 12):
        source.value = D(value)
        await source.pass_time(5)
    assert source.readings == 2, "read again once for the answer that was given after it was read"
    assert source.estimates.peek("figure") is None
    assert not source.estimates._wanted.is_set()
    await source.get_renewed()
    assert source.readings == 3
    assert source.estimates._wanted.is_set(), "and looked after again"


async def test_nothing_is_read_again_by_what_does_not_hold_any_more() -> None:
    """Who reads does so for an organization as it was."""
    source = Source()
    standing = (await source.get_renewed()).standing
    source.stands.fall()
    await source.pass_time(4.5)
    assert source.readings == 1
    assert standing.until == 105


async def test_what_cannot_be_read_in_time_lapses_and_is_read_by_who_asks() -> None:
    source = Source()
    standing = (await source.get_renewed()).standing
    source.away = True
    with pytest.raises(ConnectionError):
        await source.pass_time(5)
    source.now = 105
    assert standing.until == 105
    source.away = False
    assert (await source.get_renewed()).standing is standing
    standing.relied_on_at = source.now
    await source.pass_time(4)
    assert standing.until > 110, "and is looked after again"


async def test_who_asks_during_a_renewal_reads_nothing_of_his_own() -> None:
    source, gate = Source(), asyncio.Event()

    async def slowly() -> Decimal | None:
        await gate.wait()
        return await source.read()

    await source.estimates.get("figure", source.read, renewal=Renewal(slowly, source.stands))
    source.now += 4
    renewing = asyncio.create_task(source.estimates.renew())
    await asyncio.sleep(0)
    source.now += 1
    asking = asyncio.create_task(source.get())
    await asyncio.sleep(0)
    gate.set()
    await renewing
    assert (await asking).value == 1
    assert source.readings == 2


async def test_not_all_are_read_again_at_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a connection that others want."""
    monkeypatch.setattr(estimates, "READ_AT_ONCE", 3)
    source = Source()
    for n in range(5):
        await source.estimates.get(n, source.read, renewal=Renewal(source.read, source.stands))
    source.now += 4
    await source.estimates.renew()
    assert source.readings == 5 + 3
    await source.estimates.renew()
    assert source.readings == 5 + 5


async def test_forgetting_forgets_what_was_to_be_read_again() -> None:
    source = Source()
    await source.get_renewed()
    source.estimates.forget_all()
    await source.pass_time(5)
    assert source.readings == 1
