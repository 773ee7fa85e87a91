"""The processes of a server: who descends from whom, and what each is called."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def family(pid: int) -> dict[int, str]:
    """All that descend from a process and live, by their names."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # pid (name) state ppid ...; the name may hold anything.
            head, _, rest = (entry / "stat").read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append((int(entry.name), head.partition("(")[2]))
    found: dict[int, str] = {}
    left = [pid]
    while left:
        for child, name in children.get(left.pop(), []):
            found[child] = name
            left.append(child)
    return found


def named(pid: int, beginning: str) -> dict[str, int]:
    """Those of the family whose name begins so."""
    return {name: child for child, name in family(pid).items() if name.startswith(beginning)}


async def until(truth: Callable[[], object], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not truth():  # noqa: ASYNC110 - the truth is about other processes
            await asyncio.sleep(0.01)
