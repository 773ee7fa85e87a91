"""uvicorn's httptools protocol with the bounds it lacks: on the time and on the size of a request's head.

Without them one client that sends a byte a second holds a connection for as long as it likes, and a header
that never ends fills the memory. h11 is never used: with Content-Length and Transfer-Encoding together it
answers two requests where there was one (reliability.md, section 2); httptools answers 400 and closes.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nozle_server.api.errors import HttpError, render
from nozle_server.api.one_write import OneWriteTransport

# From a request's first byte (or a connection's beginning) to the last of its body, whatever trickles in
# between.
REQUEST_DEADLINE_S = 15.0
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100

_MALFORMED = HttpError(400, "this is not an HTTP request we can read", code="malformed_http")
_HEAD_TOO_LARGE = HttpError(431, "the request's head is too large", code="headers_too_large")


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Refusals made here look like those of the API: JSON with a request id."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._unfinished = True
        self._head_bytes = 0
        self._refusal = _MALFORMED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport, self.loop))  # type: ignore[arg-type]
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refusal = _HEAD_TOO_LARGE
                self.send_400_response("")
                return
        # Most requests begin and end within one read and never need the timer.
        if self._unfinished:
            self._start_deadline()
        else:
            self._stop_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._unfinished = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("not HTTP/1")  # httptools hands it to data_received as a parser error
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("head too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unfinished = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own sentence
        """Answer what never became a request, and close."""
        body = render(self._refusal, core=False)
        status = HTTPStatus(self._refusal.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: req_{secrets.token_hex(12)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_DEADLINE_S, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
