"""Facts about this machine, without which a figure says nothing."""

import os
import platform
import re
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
