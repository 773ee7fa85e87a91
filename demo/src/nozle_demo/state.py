"""The state directory of a demonstration.

begun.json      the trace that this data directory belongs to
closing.json    balances, usage and period bounds, read just before the period was made to end
finished.json   written last; report.txt and report.json lie beside it
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nozle_demo import exact
from nozle_demo.errors import UsageError
from nozle_demo.exact import Json
from nozle_demo.trace import Trace


@dataclass(frozen=True)
class Begun:
    """The trace of the demonstration in this directory; `path` is None for the built-in one."""

    sha256: str
    name: str
    path: Path | None


class StateDirectory:
    """Files of one demonstration; one process at a time holds the directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: TextIO = (path / "demo.lock").open("w")
        except OSError as error:
            raise UsageError(f"cannot write to the state directory {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another demonstration is running in {path}") from None

    def close(self) -> None:
        self._lock.close()

    def begun(self) -> Begun | None:
        fields = self._read("begun.json")
        if fields is None:
            return None
        path = fields.get("path")
        return Begun(fields["sha256"], fields["name"], Path(path) if path else None)

    def record_begun(self, trace: Trace) -> None:
        path = None if trace.path is None else str(trace.path)
        self._write("begun.json", {"sha256": trace.sha256, "name": trace.name, "path": path})

    def closing(self) -> Json | None:
        return self._read("closing.json")

    def record_closing(self, closing: Json) -> None:
        self._write("closing.json", closing)

    def finished(self) -> Json | None:
        return self._read("finished.json")

    def report_text(self) -> str:
        try:
            return (self.path / "report.txt").read_text(encoding="utf-8")
        except OSError:
            return "(the recorded report is missing)\n"

    def record_finished(self, finished: Json, report_text: str, report: Json) -> None:
        _replace(self.path / "report.txt", report_text)
        _replace(self.path / "report.json", exact.dumps(report) + "\n")
        self._write("finished.json", finished)

    def _read(self, name: str) -> Json | None:
        try:
            text = (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            fields: Json = exact.loads(text)
        except ValueError:
            raise UsageError(f"{self.path / name} is damaged; a fresh NOZLE_DATA_DIR is needed") from None
        return fields

    def _write(self, name: str, fields: Json) -> None:
        _replace(self.path / name, exact.dumps(fields) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write whole or not at all, and on the disk before returning."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
