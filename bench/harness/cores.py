"""One core for the server that is measured, another for the load: what a server does on one core is then the figure.

Where there is only one core, or the system does not let us choose, nothing is pinned.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
CAN_PIN = hasattr(os, "sched_setaffinity") and os.sched_getaffinity(0) >= {SERVER_CORE, LOAD_CORE}
"""As things stood at the start."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process, and what it starts meanwhile, on one core; afterwards it is where it was."""
    if not CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def pinned(pid: int, core: int) -> Iterator[None]:
    """All threads of a process that runs already; not its children."""
    if not CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(pid)
    _set(pid, {core})
    try:
        yield
    finally:
        _set(pid, before)


def _set(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


class Busy:
    """How busy a core is between two looks, whoever uses it; None where the system does not tell."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._before = self._look()

    def share(self) -> float | None:
        """Since the last look."""
        before, self._before = self._before, self._look()
        if before is None or self._before is None:
            return None
        busy, idle = (now - then for now, then in zip(self._before, before, strict=True))
        return busy / (busy + idle) if busy + idle else None

    def _look(self) -> tuple[int, int] | None:
        try:
            lines = Path("/proc/stat").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            name, *ticks = line.split()
            if name == f"cpu{self._core}":
                user, nice, system, idle, waiting, *rest = map(int, ticks)
                return user + nice + system + sum(rest[:2]), idle + waiting
        return None
