"""Where instants come from. Only edges (routes, jobs, the CLI) ask a clock; everything else takes `now` as an argument."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Instants are aware and in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock for tests: stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def move_to(self, at: datetime) -> None:
        self._at = at


def in_seconds(clock: Clock) -> Callable[[], float]:
    """The same clock for who asks it very often: seconds, as `datetime.timestamp()` has them."""
    return time.time if type(clock) is SystemClock else lambda: clock.now().timestamp()
