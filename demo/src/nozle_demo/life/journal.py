"""The journal of a life: a line of JSON for each step that is done, with what had to be kept of its answers.

A step that a kill interrupted has no line and is done again: its calls carry the same keys and ids as before, so what had
its effect answers as it did. A torn last line is such a step too.
"""

import json
import os
from pathlib import Path

from nozle_demo import exact
from nozle_demo.errors import UsageError
from nozle_demo.exact import Json


class LifeJournal:
    """Steps done and the facts kept of each; `begun` is what the first line tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun: Json | None = None
        self.facts: dict[str, Json] = {}
        kept = self._read()
        self._file = path.open("ab")
        self._file.truncate(kept)

    def begin(self, fields: Json) -> None:
        self._append(fields)
        self.begun = fields

    def add(self, step: str, facts: Json) -> None:
        self._append({"step": step, "facts": facts})
        self.facts[step] = facts

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "LifeJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, fields: Json) -> None:
        self._file.write(f"{exact.dumps(fields)}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Load what is there; the number of bytes up to the end of the last whole line."""
        if not self.path.exists():
            return 0
        data = self.path.read_bytes()
        kept = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:kept].splitlines(), start=1):
            try:
                fields = exact.loads(line)
                if number == 1:
                    self.begun = {"start": str(fields["start"])}
                else:
                    self.facts[str(fields["step"])] = dict(fields["facts"])
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
                raise UsageError(f"the journal {self.path} is damaged at line {number}") from None
        return kept
