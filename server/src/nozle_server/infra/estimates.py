"""Figures that are as good when they are a few seconds old: kept so long, read by one at a time, bounded in number.

Those in use are read again before their time is over, so that nobody has to wait for it, let alone everybody at once. What
takes long to read, or cannot be read in time, lapses and is read by who asks.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from decimal import Decimal

import structlog

from nozle_server.core.standing import TOLD_LATE_S, Standing

KEPT_AT_MOST = 10_000
LOOKED_EVERY_S = 0.5
READ_AHEAD_S = 1.5
READ_AHEAD_SHARE = 0.6
"""Of the time that a figure is kept: the last of it, and no more than `READ_AHEAD_S`, is when it is read again."""
READ_AT_ONCE = 64
"""How many are read again at a look; the others lapse if their turn comes too late."""
SLOW_S = 0.25
"""What takes longer is not read ahead: the others would wait for it."""

log = structlog.get_logger()

Read = Callable[[], Awaitable[Decimal | None]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure (None: there was nothing yet), and how long it may be taken for the present one: `kept_s` from when it was
    read. `ahead` is how it is read again of its own accord, if it is."""

    value: Decimal | None
    standing: Standing
    kept_s: float
    ahead: Read | None = None

    @property
    def read_at(self) -> float:
        return self.standing.until - self.kept_s

    @property
    def read_again_at(self) -> float:
        return self.standing.until - min(READ_AHEAD_S, READ_AHEAD_SHARE * self.kept_s)


class Estimates:
    """Kept for `kept_s`, or `kept_empty_s` where there was nothing yet: the first of something should soon be seen."""

    def __init__(
        self, *, kept_s: float, kept_empty_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept_s, self._kept_empty_s, self._monotonic = kept_s, kept_empty_s, monotonic
        self._known: dict[Hashable, Estimate] = {}
        self._reading: dict[Hashable, asyncio.Task[Estimate]] = {}
        # When to look whether one is to be read again, once each; the number decides between equals.
        self._due: list[tuple[float, int, Hashable]] = []
        self._planned: set[Hashable] = set()
        self._numbers = itertools.count()
        self._wanted = asyncio.Event()
        self._generation = 0

    def peek(self, key: Hashable, max_age_s: float | None = None) -> Estimate | None:
        """What is known and still good, and not older than `max_age_s`."""
        known, now = self._known.get(key), self._monotonic()
        if known is None or now >= known.standing.until:
            return None
        if max_age_s is not None and now >= known.read_at + max_age_s:
            return None
        known.standing.relied_on_at = now
        return known

    async def get(
        self, key: Hashable, read: Read, max_age_s: float | None = None, *, ahead: Read | None = None
    ) -> Estimate:
        """What is known, else what `read` finds; None from it is nothing yet. Who sets an age reads for itself. By `ahead` it
        is read again while answers rely on it: whatever may change what has to be read belongs into the key."""
        known = self.peek(key, max_age_s)
        if known is not None:
            return known
        if max_age_s is not None:
            return await self._read(key, read, ahead)
        # Shielded: one caller that hangs up must not take the figure from the others.
        return await asyncio.shield(self._begin(key, read, ahead))

    async def keep_fresh(self) -> None:
        """Read what is in use again before it lapses, until cancelled. Rests while nothing is."""
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(LOOKED_EVERY_S)
                await self.renew()
        finally:
            for reading in [*self._reading.values()]:
                reading.cancel()

    async def renew(self) -> None:
        """Read again what answers have relied on since it was read and what lapses soon, one after the other."""
        now, read, faults = self._monotonic(), 0, []
        while self._due and self._due[0][0] <= now and read < READ_AT_ONCE:
            _, _, key = heapq.heappop(self._due)
            self._planned.discard(key)
            known = self._known.get(key)
            if known is None or known.ahead is None or known.standing.until <= self._monotonic():
                continue
            if known.read_again_at > now:  # read meanwhile, by somebody else
                self._plan(key, known)
            elif known.standing.relied_on_at + TOLD_LATE_S >= known.read_at:
                read += 1
                try:
                    async with asyncio.timeout(SLOW_S):
                        await asyncio.shield(self._begin(key, known.ahead, known.ahead))
                except Exception as fault:  # noqa: BLE001  # whatever it is, the figure lapses and is read by who asks
                    faults.append(repr(fault))
        if faults:
            log.warning("estimates_not_renewed", count=len(faults), error=faults[-1])
        if not self._due:
            self._wanted.clear()

    def _begin(self, key: Hashable, read: Read, ahead: Read | None) -> "asyncio.Task[Estimate]":
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key, read, ahead))
            reading.add_done_callback(lambda task: self._done(key, task))
        return reading

    async def _read(self, key: Hashable, read: Read, ahead: Read | None) -> Estimate:
        started, generation = self._monotonic(), self._generation
        found = await read()
        kept_s = self._kept_empty_s if found is None else self._kept_s
        if generation != self._generation:  # told to forget meanwhile
            return Estimate(found, Standing(0.0), kept_s)
        before = self._known.get(key)
        if before is not None and before.read_at > started:  # somebody began later and was quicker
            return before
        standing = Standing()
        if before is not None:
            ahead = ahead or before.ahead
            if before.value == found:
                standing = before.standing
            else:
                before.standing.fall()
        elif len(self._known) >= KEPT_AT_MOST:
            self._known.pop(next(iter(self._known))).standing.fall()
        if self._monotonic() - started > SLOW_S:
            ahead = None
        standing.until = started + kept_s
        made = self._known[key] = Estimate(found, standing, kept_s, ahead)
        self._plan(key, made)
        return made

    def _plan(self, key: Hashable, one: Estimate) -> None:
        """Have it read again, if it is in use by then."""
        if one.ahead is not None and key not in self._planned:
            self._planned.add(key)
            heapq.heappush(self._due, (one.read_again_at, next(self._numbers), key))
            self._wanted.set()

    def _done(self, key: Hashable, task: "asyncio.Task[Estimate]") -> None:
        if self._reading.get(key) is task:
            del self._reading[key]
        if not task.cancelled():
            task.exception()  # whoever waited has heard of it

    def forget_all(self) -> None:
        self._generation += 1
        for one in self._known.values():
            one.standing.fall()
        self._known.clear()
        self._reading.clear()
        self._due.clear()
        self._planned.clear()
