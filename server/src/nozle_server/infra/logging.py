"""Structured logs: one JSON object a line on standard error, each with the id of the request it belongs to.

Bodies, keys and query values are never logged. Everything goes through one processor chain that ends in one
write, because an access line is part of every request's cost.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
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
        logger_factory=structlog.BytesLoggerFactory(file=stream or sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    # It warns about every malformed request, which anyone can send any number of.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


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
