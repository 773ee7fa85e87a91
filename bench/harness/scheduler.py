"""What kept a server from answering, by the kernel's own record: between one request and the next, who had its core.

The kernel traces every switch of a core and every read and write of the server, in a buffer of ours beside whatever else is
traced. It takes root and tracefs; elsewhere nothing is told. While it is traced the server is a little slower.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

INSTANCES = Path("/sys/kernel/tracing/instances")
BUFFER_KIB = 100_000
STALL_S = 0.0005
EDGE_CALLS = 200
"""Of these at both ends nothing is said: the load begins, or is over."""
IDLE = "nobody"
_SWITCH, _CALL = "events/sched/sched_switch", "events/raw_syscalls/sys_enter"
_READ_OR_WRITE = "id == 0 || id == 1 || id == 20 || id == 44 || id == 45"  # x86-64
_LINE = re.compile(r"-(\d+)\s+\[(\d+)\] \S+\s+([\d.]+): (\w+): (.*)$")
_NEXT = re.compile(r"next_comm=(.+?) next_pid=(\d+)")


@dataclass(frozen=True, slots=True)
class Stall:
    """A time between two calls of a server that was longer than half a millisecond, and who had its core for how much of it."""

    seconds: float
    had: Mapping[str, float]


class Stalls:
    """All of them, and what they come to in each of so many seconds."""

    def __init__(self, stalls: Sequence[Stall], own: str) -> None:
        self._stalls, self._own = stalls, own

    def say(self, seconds: float) -> str:
        had = Counter[str]()
        for one in self._stalls:
            had.update(one.had)
        own = had.pop(self._own, 0.0)
        lost = sum(one.seconds for one in self._stalls)
        longest = max((one.seconds for one in self._stalls), default=0.0)
        others = ", ".join(f"{name} {1000 * took / seconds:.1f}" for name, took in had.most_common(4))
        return (
            f"for {1000 * lost / seconds:.1f} ms of each second ({1000 * longest:.1f} at once),"
            f" itself at work for {1000 * own / seconds:.1f}; else its core had: {others or IDLE}"
        )


class Recording:
    """Begins when it is made; `stalls` are known after its block."""

    def __init__(self) -> None:
        self.stalls = Stalls((), "")


@contextmanager
def recording(pid: int, core: int) -> Iterator[Recording | None]:
    """Record a server whose first thread does all its work on one core; None where that cannot be done."""
    made = Recording()
    place = INSTANCES / f"nozle-bench-{pid}"
    try:
        place.mkdir()
        (place / "buffer_size_kb").write_text(str(BUFFER_KIB))
        (place / _CALL / "filter").write_text(f"common_pid == {pid} && ({_READ_OR_WRITE})")
        for event in (_CALL, _SWITCH):
            (place / event / "enable").write_text("1")
    except OSError:
        with suppress(OSError):
            place.rmdir()
        yield None
        return
    try:
        yield made
        (place / "tracing_on").write_text("0")
        with (place / "trace").open() as lines:
            made.stalls = _read(lines, str(pid), core)
    finally:
        for event in (_CALL, _SWITCH):
            (place / event / "enable").write_text("0")
        place.rmdir()


def _read(lines: Iterable[str], pid: str, core: int) -> Stalls:
    own = f"[{pid}]"
    found: list[tuple[int, Stall]] = []
    calls, called, on, since = 0, 0.0, own, 0.0
    had = Counter[str]()
    for line in lines:
        match = _LINE.search(line)
        if match is None:
            continue
        at = float(match[3])
        if match[4] == "sched_switch":
            following = _NEXT.search(match[5])
            if int(match[2]) != core or following is None:
                continue
            had[on] += at - since
            on = own if following[2] == pid else IDLE if following[2] == "0" else following[1]
            since = at
        else:
            if calls and at - called > STALL_S:
                had[on] += at - since
                found.append((calls, Stall(at - called, dict(had))))
            calls, called, on, since = calls + 1, at, own, at
            had.clear()
    return Stalls([one for n, one in found if EDGE_CALLS < n <= calls - EDGE_CALLS], own)
