"""Progress of the replay: a bar on a terminal, about one line per tenth elsewhere."""

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_REDRAW_EVERY_S = 0.1


class Progress(Protocol):
    """Told once a trace second; draws as seldom as it likes."""

    def start(self, *, total: int, done: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def stop(self) -> None: ...


def make_progress() -> Progress:
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


class Bar:
    """A bar that is redrawn by us, at most ten times a second, and not by a thread."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("calls of the trace"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("Playing", total=None)
        self._waiting = 0
        self._drawn_at = 0.0

    def start(self, *, total: int, done: int) -> None:
        self._bar.update(self._task, total=total, completed=done)
        self._bar.start()

    def advance(self, count: int) -> None:
        self._waiting += count
        now = time.monotonic()
        if now - self._drawn_at >= _REDRAW_EVERY_S:
            self._drawn_at = now
            self._draw()

    def stop(self) -> None:
        self._draw()
        self._bar.stop()

    def _draw(self) -> None:
        self._bar.update(self._task, advance=self._waiting)
        self._waiting = 0
        self._bar.refresh()


class Lines:
    """Plain lines, one whenever another tenth is done."""

    def __init__(self) -> None:
        self._total = self._done = self._tenths = 0
        self._begun_at = 0.0

    def start(self, *, total: int, done: int) -> None:
        self._total, self._done, self._tenths = total, done, done * 10 // total
        self._begun_at = time.monotonic()
        if done:
            _say(f"Playing: {done:,} of {total:,} calls were played before")

    def advance(self, count: int) -> None:
        self._done += count
        tenths = self._done * 10 // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            took_s = time.monotonic() - self._begun_at
            _say(f"Playing: {tenths * 10:3} %  {self._done:,} of {self._total:,} calls, {took_s:.0f} s")

    def stop(self) -> None:
        """Nothing to put away."""


class Silence:
    """For tests."""

    def start(self, *, total: int, done: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def stop(self) -> None: ...


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
