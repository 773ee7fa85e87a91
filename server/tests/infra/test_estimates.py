"""Figures kept for a few seconds: how long, how often they are read, and for whom they are too old."""

import asyncio
from decimal import Decimal

import pytest

from nozle_server.infra import estimates
from nozle_server.infra.estimates import Estimate, Estimates

D = Decimal
ONE = D(1)


class Source:
    """A figure that somebody counts the readings of, and a clock that stands until it is moved."""

    def __init__(self, value: Decimal | None = ONE) -> None:
        self.value, self.now, self.readings = value, 100.0, 0
        self.away = False
        self.estimates = Estimates(kept_s=5, kept_empty_s=1, monotonic=lambda: self.now)

    async def read(self) -> Decimal | None:
        self.readings += 1
        found = self.value
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError("away")
        return found

    async def get_renewed(self) -> Estimate:
        return await self.estimates.get("figure", self.read, ahead=self.read)

    async def get_used(self) -> Estimate:
        """As `get_renewed`, and answered with once more."""
        await self.get_renewed()
        return await self.get_renewed()

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
    source.value = D(2)
    await source.pass_time(5)
    assert standing.until == 0, "what was relied on is not so any more"
    assert (await source.get_renewed()).value == 2


@pytest.mark.parametrize("value", [ONE, None])
async def test_what_was_asked_for_once_is_read_once(value: Decimal | None) -> None:
    source = Source(value)
    await source.get_renewed()
    await source.pass_time(6)
    assert source.readings == 1
    assert source.estimates.peek("figure") is None
    assert not source.estimates._wanted.is_set()
    await source.get_used()
    assert source.readings == 2
    assert source.estimates._wanted.is_set(), "and looked after again"
    await source.pass_time(4)
    assert source.readings > 2


async def test_what_is_another_each_time_is_not_read_for_ever() -> None:
    source = Source()
    await source.get_used()
    for value in range(2, 12):
        source.value = D(value)
        await source.pass_time(5)
    assert source.readings == 2, "read ahead once for the answer that was given by it"


async def test_only_who_is_answered_with_it_uses_it() -> None:
    """Who finds it too old does not, and what he reads is not to be read again so soon."""
    source = Source()
    await source.get_renewed()
    source.now += 2
    assert source.estimates.peek("figure", 1) is None
    await source.pass_time(2.5)
    assert source.readings == 1
    await source.get_used()
    source.now += 3
    await source.get(0)
    read = source.readings
    await source.pass_time(3)
    assert source.readings == read, "planned by the first reading, looked at, and put off"
    source.estimates.peek("figure")
    await source.pass_time(1)
    assert source.readings == read + 1
    assert len(source.estimates._due) == 1


async def test_what_cannot_be_read_in_time_lapses_and_is_read_by_who_asks() -> None:
    source = Source()
    standing = (await source.get_used()).standing
    source.away = True
    await source.pass_time(5)
    assert standing.until == 105
    assert source.readings == 2
    source.away = False
    assert (await source.get_used()).standing is standing
    await source.pass_time(4)
    assert standing.until > 110, "and is looked after again"


async def test_what_has_lapsed_is_not_read_for_nobody() -> None:
    source = Source()
    await source.get_used()
    source.now += 5
    await source.estimates.renew()
    assert source.readings == 1


async def test_one_that_fails_or_takes_long_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is left to who asks from then on."""
    monkeypatch.setattr(estimates, "SLOW_S", 0.01)
    source, gate = Source(), asyncio.Event()

    async def fail() -> Decimal | None:
        raise ConnectionError("away")

    async def slowly() -> Decimal | None:
        await gate.wait()
        source.now += 1
        return ONE

    for key, ahead in (("failing", fail), ("slow", slowly), ("quick", source.read)):
        for _ in range(2):
            await source.estimates.get(key, source.read, ahead=ahead)
    source.now += 4
    await source.estimates.renew()
    assert source.readings == 3 + 1
    gate.set()
    assert await source.estimates._reading["slow"]
    assert source.estimates._known["slow"].ahead is None
    for _ in range(2):
        source.now += 1
        assert source.estimates.peek("slow")
        await source.estimates.renew()
    assert source.readings == 3 + 1


async def test_who_asks_during_a_renewal_reads_nothing_of_his_own() -> None:
    source, gate = Source(), asyncio.Event()

    async def slowly() -> Decimal | None:
        await gate.wait()
        return await source.read()

    for _ in range(2):
        await source.estimates.get("figure", source.read, ahead=slowly)
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
    for n in (*range(5), *range(5)):
        await source.estimates.get(n, source.read, ahead=source.read)
    source.now += 4
    await source.estimates.renew()
    assert source.readings == 5 + 3
    await source.estimates.renew()
    assert source.readings == 5 + 5


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes of the readings, and however often one thing is read."""
    monkeypatch.setattr(estimates, "KEPT_AT_MOST", 10)
    source = Source()
    for n in range(50):
        source.away = n % 2 == 1
        try:
            await source.estimates.get(n, source.read, ahead=source.read)
        except ConnectionError:
            continue
        for _ in range(5):
            await source.estimates.get(n, source.read, 0, ahead=source.read)
    kept = source.estimates
    assert len(kept._known) == 10
    assert (len(kept._due), len(kept._planned)) == (25, 25)
    source.now += 4
    await kept.renew()
    assert (len(kept._due), len(kept._planned)) == (0, 0)


async def test_forgetting_forgets_what_was_to_be_read_again() -> None:
    source = Source()
    await source.get_used()
    source.estimates.forget_all()
    await source.get()
    await source.get()
    await source.pass_time(4.5)
    assert source.readings == 2, "by who asks"


async def test_keeping_fresh_outlives_faults_and_ends_what_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "LOOKED_EVERY_S", 0.01)
    source, hangs = Source(), asyncio.Event()
    source.away = True
    kept = source.estimates
    keeping = asyncio.create_task(kept.keep_fresh())
    with pytest.raises(ConnectionError):
        await source.get_renewed()
    source.away = False
    await source.get_used()
    source.away = True
    source.now += 4
    while source.readings < 3:  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(0.01)
    source.away = False
    source.now += 1
    await source.get_used()
    source.now += 4
    while source.readings < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)

    async def hang() -> Decimal | None:
        await hangs.wait()
        return ONE

    asking = asyncio.create_task(kept.get("hanging", hang, ahead=hang))
    await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.gather(keeping, asking, return_exceptions=True)
    assert asking.cancelled()
