"""The journal: what became of each row, one line of JSON a row, only ever appended to.

`journal-<trace>.jsonl` lies in the state directory and begins with a line that names the trace. Lines are
written when a trace second is over. What a kill takes away is the outcomes of the second that was being
played, perhaps with a torn last line; that line is cut off when the journal is opened again, and the rows
are asked for at the server (`replay.py` says how).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nozle_demo.errors import UsageError
from nozle_demo.trace import Trace

CREDITS = "credits"
# The reason kept for a row whose event was found stored after an interruption: its can() is not asked again.
FOUND_STORED = "found_stored"

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row: `reason` is can()'s; `status` the stored event's, None when denied."""

    row: int
    allowed: bool
    reason: str
    paid_by_credits: bool = False
    status: str | None = None


class Journal:
    """Outcomes of one trace, on disk and in memory. Close it, or use it as a context manager."""

    def __init__(self, directory: Path, trace: Trace) -> None:
        self.path = directory / f"journal-{trace.key}.jsonl"
        self.outcomes: dict[int, Outcome] = {}
        self._pending: list[str] = []
        kept = self._read(trace)
        self._file: BinaryIO = self.path.open("ab")
        self._file.truncate(kept)
        if not kept:
            head = {"trace": trace.sha256, "name": trace.name, "requests": len(trace.requests)}
            self._pending.append(json.dumps(head))
            self.flush()

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; it is on disk after the next flush()."""
        self.outcomes[outcome.row] = outcome
        self._pending.append(_to_line(outcome))

    def flush(self) -> None:
        if self._pending:
            self._file.write(("\n".join(self._pending) + "\n").encode())
            self._file.flush()
            self._pending.clear()

    def sync(self) -> None:
        """Bring everything to the disk itself, past a loss of power."""
        self.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.flush()
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, trace: Trace) -> int:
        """Load what is there; the number of bytes up to the end of the last whole line."""
        if not self.path.exists():
            return 0
        data = self.path.read_bytes()
        kept = data.rfind(b"\n") + 1
        lines = data[:kept].splitlines()
        rows = {request.row for request in trace.requests}
        for number, line in enumerate(lines, start=1):
            try:
                if number == 1:
                    if json.loads(line)["trace"] != trace.sha256:
                        raise ValueError("it belongs to another trace")
                    continue
                outcome = _from_line(line)
                if outcome.row not in rows:
                    raise ValueError(f"the trace has no row {outcome.row}")
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"the journal {self.path} is damaged at line {number} ({error})") from None
            self.outcomes[outcome.row] = outcome
        return kept


def _to_line(outcome: Outcome) -> str:
    fields: dict[str, object] = {"row": outcome.row, "allowed": outcome.allowed, "reason": outcome.reason}
    if outcome.allowed:
        fields["paid_by_credits"] = outcome.paid_by_credits
        fields["status"] = outcome.status
    return _ENCODER.encode(fields)


def _from_line(line: bytes) -> Outcome:
    fields = json.loads(line)
    row, allowed, reason = fields["row"], fields["allowed"], fields["reason"]
    if not isinstance(row, int) or not isinstance(allowed, bool) or not isinstance(reason, str):
        raise ValueError("a field has the wrong type")
    return Outcome(row, allowed, reason, bool(fields.get("paid_by_credits", False)), fields.get("status"))
