"""Facts about this machine, without which a figure says nothing."""

import os
import platform
import re
import resource
import tempfile
import time
from pathlib import Path

SYNCS = 200
_BLOCK = b"\0" * 8192


def describe(postgres: str) -> list[str]:
    """One fact a line. `postgres` is its own version string."""
    version = re.match(r"PostgreSQL \S+", postgres)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"processor:  {_processor()}, {os.cpu_count()} cores; load average before: {load}",
        f"system:     {platform.platform()}",
        f"python:     {platform.python_version()}",
        f"database:   {version[0] if version else postgres}, embedded, default durability",
        f"disk:       write and fdatasync of 8 kB takes {_sync_ms():.2f} ms (median of {SYNCS})",
    ]


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _sync_ms() -> float:
    """How long a small durable write takes where the database lies."""
    times = []
    with tempfile.NamedTemporaryFile(prefix="nozle-bench-", buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            os.pwrite(file.fileno(), _BLOCK, 0)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return 1000 * sorted(times)[SYNCS // 2]


class Bystanders:
    """How much of the machine other programs took since this was made: figures want that to be little."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._all, self._ours = _busy_s(), _ours_s()

    def share(self) -> float | None:
        """From 0 to 1; None where the system does not tell. Our own processes count once they have ended."""
        busy = _busy_s()
        if busy is None or self._all is None:
            return None
        others = busy - self._all - (_ours_s() - self._ours)
        return max(0.0, others / ((time.perf_counter() - self._started) * (os.cpu_count() or 1)))


def _busy_s() -> float | None:
    """Seconds that all processors have worked since the start of the machine."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, fields[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def _ours_s() -> float:
    """Seconds that this process and its ended children, and theirs, have worked."""
    ours = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in ours)
