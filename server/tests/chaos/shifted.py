"""A clock that is some way off the machine's, and that a test can set while servers read it.

A server started with CHAOS_CLOCK=file takes the seconds in the file for how far its clock is off (`zygote.py`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class ShiftedClock:
    """Has `now()` as `core.clock.SystemClock` has, and so can take its place."""

    file: Path

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self.file.read_text()))

    def set(self, to: datetime) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str((to - datetime.now(UTC)).total_seconds()))
        fresh.replace(self.file)
