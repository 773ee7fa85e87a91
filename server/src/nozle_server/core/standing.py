"""How long something stands that answers were derived from.

Who keeps an answer keeps with it a Standing of everything that it relied on, and gives it again only while all of them
stand. Times are of one monotonic clock of the process, in seconds.
"""

import math
from collections.abc import Iterable

FOR_NOW = math.inf
"""Until somebody hears that it has changed."""
TOLD_LATE_S = 1.0
"""How late it may be told that something was relied on."""


class Standing:
    """`until` is moved on by who finds that the thing is still so, and set to 0 by who finds that it is not: for good.
    `relied_on_at` is when somebody last gave an answer by it, told up to `TOLD_LATE_S` late: those who find out see by it for
    what it is worth the while."""

    __slots__ = ("relied_on_at", "until")

    def __init__(self, until: float = FOR_NOW) -> None:
        self.until, self.relied_on_at = until, -math.inf

    def fall(self) -> None:
        self.until = 0.0


def all_stand(standings: Iterable[Standing], monotonic: float) -> bool:
    for one in standings:  # noqa: SIM110  # a generator would cost the hottest path twice as much
        if monotonic >= one.until:
            return False
    return True
