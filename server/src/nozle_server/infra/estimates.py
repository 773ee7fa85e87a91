"""Figures that are as good when they are a few seconds old: kept so long, read by one at a time, bounded in number."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from decimal import Decimal

from nozle_server.core.standing import Standing

KEPT_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure (None: there was nothing yet), and how long it may be taken for the present one: `kept_s` from when it was
    read."""

    value: Decimal | None
    standing: Standing
    kept_s: float

    @property
    def read_at(self) -> float:
        return self.standing.until - self.kept_s


class Estimates:
    """Kept for `kept_s`, or `kept_empty_s` where there was nothing yet: the first of something should soon be seen."""

    def __init__(
        self, *, kept_s: float, kept_empty_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept_s, self._kept_empty_s, self._monotonic = kept_s, kept_empty_s, monotonic
        self._known: dict[Hashable, Estimate] = {}
        self._reading: dict[Hashable, asyncio.Task[Estimate]] = {}
        self._generation = 0

    def peek(self, key: Hashable, max_age_s: float | None = None) -> Estimate | None:
        """What is known and still good, and not older than `max_age_s`."""
        known, now = self._known.get(key), self._monotonic()
        if known is None or now >= known.standing.until:
            return None
        return known if max_age_s is None or now < known.read_at + max_age_s else None

    async def get(
        self, key: Hashable, read: Callable[[], Awaitable[Decimal | None]], max_age_s: float | None = None
    ) -> Estimate:
        """What is known, else what `read` finds; None from it is nothing yet. Who sets an age reads for itself."""
        known = self.peek(key, max_age_s)
        if known is not None:
            return known
        if max_age_s is not None:
            return await self._read(key, read)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key, read))
            reading.add_done_callback(lambda task: self._done(key, task))
        # Shielded: one caller that hangs up must not take the figure from the others.
        return await asyncio.shield(reading)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[Decimal | None]]) -> Estimate:
        started, generation = self._monotonic(), self._generation
        found = await read()
        kept_s = self._kept_empty_s if found is None else self._kept_s
        if generation != self._generation:  # told to forget meanwhile
            return Estimate(found, Standing(0.0), kept_s)
        before = self._known.get(key)
        if before is not None and before.read_at > started:  # somebody began later and was quicker
            return before
        if before is not None and before.value == found:
            before.standing.until = started + kept_s
            return before
        if before is not None:
            before.standing.fall()
        elif len(self._known) >= KEPT_AT_MOST:
            self._known.pop(next(iter(self._known))).standing.fall()
        made = self._known[key] = Estimate(found, Standing(started + kept_s), kept_s)
        return made

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
