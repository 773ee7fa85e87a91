"""What a load yields: how many a second, and how long each took."""

from collections.abc import Sequence
from dataclasses import dataclass


class BenchError(Exception):
    """The bench cannot go on; the message is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """`n` good answers in `seconds`; `refused` were answered otherwise (HTTP status 400 and above).

    The times are those of all answers, and 0 when there were none; None where only the whole was timed. wrk counts for a
    request that took long those too that it would have sent meanwhile; `sent_p99_ms` is of those alone that were sent (None
    where that is not known).
    """

    n: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    refused: int = 0
    p999_ms: float | None = None
    sent_p99_ms: float | None = None

    @property
    def per_second(self) -> float:
        return self.n / self.seconds

    @classmethod
    def of(cls, latencies_s: Sequence[float], seconds: float, *, refused: int = 0) -> "Measurement":
        """From the time that each took; `refused` of them were no good answers."""
        ordered = sorted(latencies_s) or [0.0]
        return cls(
            n=len(latencies_s) - refused,
            seconds=seconds,
            p50_ms=1000 * ordered[len(ordered) // 2],
            p99_ms=1000 * ordered[len(ordered) * 99 // 100],
            refused=refused,
            p999_ms=1000 * ordered[len(ordered) * 999 // 1000],
            sent_p99_ms=1000 * ordered[len(ordered) * 99 // 100],
        )
