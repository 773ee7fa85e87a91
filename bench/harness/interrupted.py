"""How long the machine itself keeps a busy program waiting: what other programs, the kernel and the host take of a core.

No server on it answers sooner: what is measured here is a loop that does nothing but look at the clock.
"""

import time
from dataclasses import dataclass

from harness.cores import on_core

NOTED_FROM_S = 0.0003


@dataclass(frozen=True, slots=True)
class Interrupted:
    """On one core: for how many ms of each second it stood still, and for how long at once. What is shorter than 0.3 ms is
    left out."""

    core: int
    ms_a_second: float
    longest_ms: float

    def say(self) -> str:
        return f"core {self.core} for {self.ms_a_second:.1f} ms of each second ({self.longest_ms:.1f} ms at once)"


def interrupted(core: int, *, seconds: float = 2.0) -> Interrupted:
    """Look at the clock on this core for so long, and do nothing else: nothing of ours goes on meanwhile."""
    with on_core(core):
        began = before = time.perf_counter()
        lost = longest = 0.0
        while before < began + seconds:
            now = time.perf_counter()
            gap = now - before
            if gap > NOTED_FROM_S:
                lost, longest = lost + gap, max(longest, gap)
            before = now
    return Interrupted(core, 1000 * lost / seconds, 1000 * longest)
