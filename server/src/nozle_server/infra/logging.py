"""Structured logs: one JSON object a line on standard error, each with the id of the request it belongs to.

Bodies, keys and query values are never logged. Everything goes through one processor chain that ends in one write. Only the
lines that tell of requests, one of each, take a shorter way (`write_request`), because they are part of every request's cost.
"""

import asyncio
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import BinaryIO
from uuid import UUID

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PIPE_BUF = 4096
_encoder = msgspec.json.Encoder(enc_hook=repr, decimal_format="number")


def configure_logging(level: str, stream: BinaryIO | None = None, *, worker: str | None = None) -> None:
    """Send our log and that of the libraries to `stream`, from `level` on; each line names the worker, if it is one."""

    def add_worker(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    structlog.configure(
        processors=[
            *([add_worker] if worker else []),
            _add_request_id,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=Lines(
            stream or sys.stderr.buffer,
            requests=_LEVELS[level] <= logging.INFO,
            always={"worker": worker} if worker else {},
        ),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    # It warns about every malformed request, which anyone can send any number of.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Lines:
    """Where the lines go: structlog's logger, and the factory that always hands out this one.

    A line that tells of a request is held until the event loop has gone round, and then written together with what
    others are there, because a system call costs more than making the line. The order of lines stays. Such a line ends
    in the members of `always`; without `requests` there are none.
    """

    def __init__(self, stream: BinaryIO, *, requests: bool, always: Mapping[str, str]) -> None:
        self._stream = stream
        self._requests = requests
        self._always = always
        self._held: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, *_names: object) -> "Lines":
        return self

    def msg(self, line: bytes) -> None:
        """Write a line now."""
        with self._lock:
            self._held.append(line)
        self.flush()

    debug = info = warning = error = critical = msg

    def write_request(
        self, request_id: str, *, method: str, route: str, status: int, seconds: float, org_id: UUID | None
    ) -> None:
        """Tell of a request that was answered."""
        if not self._requests:
            return
        line = {
            "time": datetime.now(UTC),
            "level": "info",
            "msg": "request",
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "org_id": org_id,
            "request_id": request_id,
            **self._always,
        }
        with self._lock:
            self._held.append(_encoder.encode(line))
            first = len(self._held) == 1
        if first:
            asyncio.get_running_loop().call_soon(self.flush)

    def write_requests(
        self, *, route: str, status: int, count: int, seconds: float, org_id: UUID | None
    ) -> None:
        """Tell of as many requests that were answered alike within a second, and how long they took together."""
        if self._requests:
            line = {
                "time": datetime.now(UTC),
                "level": "info",
                "msg": "requests",
                "route": route,
                "status": status,
                "count": count,
                "duration_ms": round(seconds * 1000, 3),
                "org_id": org_id,
                **self._always,
            }
            self.msg(_encoder.encode(line))

    def flush(self) -> None:
        """Write what is held. A log that cannot be written to is no reason to stop answering."""
        with self._lock:
            lines, self._held = self._held, []
            with suppress(OSError):
                for text in _in_one_write_each(lines):
                    self._stream.write(text)
                    self._stream.flush()


def _in_one_write_each(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, as many together as a pipe takes without mixing them with those of another process."""
    together: list[bytes] = []
    size = 0
    for line in lines:
        if together and size + len(line) >= _PIPE_BUF:
            yield b"".join(together)
            together, size = [], 0
        together += (line, b"\n")
        size += len(line) + 1
    if together:
        yield b"".join(together)


def request_lines() -> Lines | None:
    """Where lines about requests go as the log is configured now; None when it is not."""
    factory = structlog.get_config()["logger_factory"]
    return factory if isinstance(factory, Lines) else None


class _LibraryHandler(logging.Handler):
    """Takes what libraries log through the standard library into our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    current = request_id.get()
    if current:
        event["request_id"] = current
    return event


def _render(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    line = {"time": datetime.now(UTC), "level": method, "msg": event.pop("event", "")}
    line.update(event)
    return _encoder.encode(line)
