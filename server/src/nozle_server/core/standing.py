"""How long something stands that answers were derived from.

Who keeps an answer keeps with it a Standing of everything that it relied on, and gives it again only while all of them
stand. Times are of one monotonic clock of the process, in seconds.
"""

import math
from collections.abc import Iterable

FOR_NOW = math.inf
"""Until somebody hears that it has changed."""


class Standing:
    """`until` is moved on by who finds that the thing is still so, and set to 0 by who finds that it is not: for good."""

    __slots__ = ("until",)

    def __init__(self, until: float = FOR_NOW) -> None:
        self.until = until

    def fall(self) -> None:
        self.until = 0.0


def all_stand(standings: Iterable[Standing], monotonic: float) -> bool:
    for one in standings:  # noqa: SIM110  # a generator would cost the hottest path twice as much
        if monotonic >= one.until:
            return False
    return True
