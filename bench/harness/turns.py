"""Two servers measured by turns, a second each: what the machine does at one moment decides over that second and no other,
and their medians compare what single loads, minutes apart, do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from statistics import median

from harness.load import Load
from harness.measurement import Measurement
from harness.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Turns:
    """Of one server."""

    each: Sequence[Measurement]

    @property
    def n(self) -> int:
        return sum(one.n for one in self.each)

    @property
    def per_second(self) -> float:
        """The median."""
        return median(one.per_second for one in self.each)

    @property
    def p99_ms(self) -> float:
        """The median of the turns' 99th percentiles."""
        return median(self._p99s())

    @property
    def sent_p99_ms(self) -> float | None:
        """The same of the requests that were sent (`Measurement`). A turn in which that is not known, as something took too
        long, counts as the longest; None where that is so of half."""
        found = median(self._sent_p99s())
        return None if found == inf else found

    def say(self, under_ms: float | None) -> str:
        said = [f"p99 {_listed(self._p99s(), under_ms)}"]
        if self.sent_p99_ms is not None:
            said.append(f"of the requests sent {_listed(self._sent_p99s(), under_ms)}")
        return "; ".join(said)

    def _p99s(self) -> list[float]:
        return [one.p99_ms or 0.0 for one in self.each]

    def _sent_p99s(self) -> list[float]:
        return [inf if one.sent_p99_ms is None else one.sent_p99_ms for one in self.each]


def _listed(times: Sequence[float], under_ms: float | None) -> str:
    said = f"{', '.join(f'{one:.2f}' for one in sorted(times))} ms"
    if under_ms is not None:
        said += f" ({sum(one < under_ms for one in times)} of {len(times)} under {under_ms})"
    return said


async def by_turns(loads: Sequence[Load], traffic: Traffic, *, connections: int, turns: int) -> list[Turns]:
    """Of each of the loads, after a warm-up."""
    found: list[list[Measurement]] = [[] for _ in loads]
    for load in loads:
        await load.turn(traffic, connections=connections)
    # In a random order: what the machine does every so many seconds would always meet the same one.
    order, shuffle = list(zip(loads, found, strict=True)), Random(1).shuffle
    for _ in range(turns):
        shuffle(order)
        for load, measured in order:
            measured.append(await load.turn(traffic, connections=connections))
    return [Turns(one) for one in found]
