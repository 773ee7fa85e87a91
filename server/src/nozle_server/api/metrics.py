"""Counts and durations of requests, by route template: few labels, none of them from the request.

A scraper asks one address and takes what it gets for one program, whose counters only rise. So of several workers
(`serving/workers.py`) whichever is asked tells the sum of all, also of those that are no more.
"""

import os
from bisect import bisect_left

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """What `/metrics` shows of this server.

    Others may register collectors of their own in `registry` (each worker tells what its collectors find: ask the database,
    not the process), and instruments, such as a Counter or a Gauge with its `multiprocess_mode`, in `instruments`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.instruments: CollectorRegistry | None = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # where prometheus-client has the numbers of all workers
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
            self.instruments = None  # told by that collector already
        self._requests = Counter(
            "nozle_api_requests", "Requests answered.", ("endpoint", "status"), registry=self.instruments
        )
        self._durations = Histogram(
            "nozle_api_duration_seconds",
            "Time from a request's head to its answer.",
            ("endpoint",),
            buckets=_BUCKETS_S,
            registry=self.instruments,
        )
        # prometheus-client takes a lock to look a child up; we do so once for each.
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one answer of `endpoint`, a route template such as `GET /api/v1/can`."""
        self.observe_many(endpoint, status, 1, seconds)

    def observe_many(self, endpoint: str, status: int, count: int, seconds: float) -> None:
        """Count answers that took `seconds` together, all of them about the same time."""
        counter, histogram = self._known.get((endpoint, status)) or self._learn(endpoint, status)
        counter.inc(count)
        # prometheus-client observes one at a time, and tries one bucket after the other.
        histogram._sum.inc(seconds)
        histogram._buckets[bisect_left(_BUCKETS_S, seconds / count)].inc(count)

    def _learn(self, endpoint: str, status: int) -> tuple[Counter, Histogram]:
        children = self._requests.labels(endpoint, str(status)), self._durations.labels(endpoint)
        self._known[endpoint, status] = children
        return children

    def render(self) -> bytes:
        return generate_latest(self.registry)
