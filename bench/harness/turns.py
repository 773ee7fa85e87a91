"""Two servers measured by turns, a second each: what the machine does at one moment decides over that second and no other,
and their medians compare what single loads, minutes apart, do not."""

from collections.abc import Sequence
from dataclasses import dataclass
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

    def say(self, under_ms: float | None) -> str:
        times = sorted(self._p99s())
        said = f"p99 {', '.join(f'{one:.2f}' for one in times)} ms"
        if under_ms is not None:
            said += f"; {sum(one < under_ms for one in times)} of {len(times)} under {under_ms} ms"
        return said

    def _p99s(self) -> list[float]:
        return [one.p99_ms or 0.0 for one in self.each]


async def by_turns(loads: Sequence[Load], traffic: Traffic, *, connections: int, turns: int) -> list[Turns]:
    """Of each of the loads, after a warm-up."""
    found: list[list[Measurement]] = [[] for _ in loads]
    for load in loads:
        await load.turn(traffic, connections=connections)
    for _ in range(turns):
        for load, measured in zip(loads, found, strict=True):
            measured.append(await load.turn(traffic, connections=connections))
    return [Turns(one) for one in found]
