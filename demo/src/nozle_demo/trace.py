"""A trace of LLM traffic: `TIMESTAMP,ContextTokens,GeneratedTokens`, one request a row.

The form is that of the Azure LLM inference traces (UTC, up to nine fractional digits, CRLF or LF, the last
line with or without its end). Instants are cut to microseconds, which is what the API keeps.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from nozle_demo.errors import UsageError

HEADER = ("timestamp", "contexttokens", "generatedtokens")
# The demonstration bills one monthly period, of which the shortest has 28 days.
LONGEST = timedelta(days=27)

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?", re.ASCII)
_TOKENS = re.compile(r"\d{1,12}", re.ASCII)
_ROWS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `row` counts data rows from 1 (its line in the file is row + 1)."""

    row: int
    occurred_at: datetime
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def second(self) -> datetime:
        return self.occurred_at.replace(microsecond=0)


@dataclass(frozen=True)
class Trace:
    """All requests in order of time (rows of one instant in the order of the file); no path: built in."""

    name: str
    path: Path | None
    sha256: str
    requests: tuple[Request, ...]

    @property
    def key(self) -> str:
        """What names the journal and starts every transaction id."""
        return self.sha256[:12]

    @property
    def first_second(self) -> datetime:
        return self.requests[0].second

    @property
    def last_second(self) -> datetime:
        return self.requests[-1].second

    def seconds(self) -> Iterator[tuple[datetime, list[Request]]]:
        """Each second that has requests, with its requests in order."""
        for second, requests in groupby(self.requests, key=lambda request: request.second):
            yield second, list(requests)

    def transaction_id(self, request: Request) -> str:
        return f"demo-{self.key}-{request.row}"


def read_trace(path: Path) -> Trace:
    """Read a trace file; UsageError names what is wrong with it, bad rows by their line number."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror or error}") from None
    return parse_trace(str(path), data, path.resolve())


def parse_trace(name: str, data: bytes, path: Path | None = None) -> Trace:
    """Turn the bytes of a trace into requests; every bad row is counted, the first few are named."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"the trace {name} is not UTF-8 text (byte {error.start})") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines or tuple(field.strip().lower() for field in lines[0].split(",")) != HEADER:
        raise UsageError(f"the trace {name} does not begin with TIMESTAMP,ContextTokens,GeneratedTokens")
    requests: list[Request] = []
    wrong: list[str] = []
    for row, line in enumerate(lines[1:], start=1):
        try:
            requests.append(_parse_row(row, line))
        except ValueError as error:
            wrong.append(f"line {row + 1}: {error}")
    if wrong:
        more = f" (and {len(wrong) - _ROWS_NAMED} more)" if len(wrong) > _ROWS_NAMED else ""
        raise UsageError(f"the trace {name} has bad rows: " + "; ".join(wrong[:_ROWS_NAMED]) + more)
    if not requests:
        raise UsageError(f"the trace {name} holds no requests")
    requests.sort(key=lambda request: (request.occurred_at, request.row))
    span = requests[-1].occurred_at - requests[0].occurred_at
    if span > LONGEST:
        raise UsageError(
            f"the trace {name} spans {span.days} days; the demonstration bills one period of a month, "
            f"so {LONGEST.days} days at most"
        )
    return Trace(name, path, hashlib.sha256(data).hexdigest(), tuple(requests))


def _parse_row(row: int, line: str) -> Request:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(HEADER):
        raise ValueError(f"{len(fields)} fields instead of {len(HEADER)}")
    timestamp, input_tokens, output_tokens = fields
    return Request(
        row,
        _parse_timestamp(timestamp),
        _parse_tokens("ContextTokens", input_tokens),
        _parse_tokens("GeneratedTokens", output_tokens),
    )


def _parse_timestamp(text: str) -> datetime:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"TIMESTAMP {text[:40]!r} is not of the form 2023-11-16 18:15:46.6805900")
    date, time, fraction = match.groups()
    try:
        instant = datetime.fromisoformat(f"{date}T{time}")
    except ValueError:
        raise ValueError(f"TIMESTAMP {text[:40]!r} is not an instant") from None
    return instant.replace(microsecond=int((fraction or "").ljust(6, "0")[:6]), tzinfo=UTC)


def _parse_tokens(column: str, text: str) -> int:
    if not _TOKENS.fullmatch(text):
        raise ValueError(f"{column} {text[:40]!r} is not a whole number")
    return int(text)
