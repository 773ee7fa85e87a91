"""uvicorn's httptools protocol with the bounds it lacks: on the time and on the size of a request's head.

Without them one client that sends a byte a second holds a connection for as long as it likes, and a header
that never ends fills the memory. h11 is never used: with Content-Length and Transfer-Encoding together it
answers two requests where there was one (reliability.md, section 2); httptools answers 400 and closes.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nozle_server.api.errors import HttpError, render
from nozle_server.api.one_write import OneWriteTransport

# From a request's first byte (or a connection's beginning) to the last of its body, whatever trickles in
# between.
REQUEST_DEADLINE_S = 15.0
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_TRAILER_BYTES = 8 * 1024
# How long a server that leaves keeps idle connections: a request may be on its way that was sent before its client could
# have heard of it.
LINGER_S = 0.25
WEB_SOCKET_PATH = b"/connection/websocket"
_UPGRADE_HEADERS = (b"upgrade", b"connection", b"http2-settings")

_MALFORMED = HttpError(400, "this is not an HTTP request we can read", code="malformed_http")
_HEAD_TOO_LARGE = HttpError(431, "the request's head is too large", code="headers_too_large")


class _Parser:
    """httptools' parser, for a server that ignores `Upgrade` as RFC 9110 (7.8) lets it.

    httptools stops at the head of a request that offers an upgrade and leaves its body to be parsed as the next
    request: the body of one could be smuggled in as another. So such a request is fed again without the offer.
    """

    def __init__(self, protocol: "BoundedHttpProtocol") -> None:
        self._protocol = protocol
        self._start_afresh()

    def feed_data(self, data: bytes) -> None:
        while True:
            try:
                self._inner.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                rest = data[offered.args[0] :]
                if self._protocol.takes_upgrade:
                    self._protocol.hand_over(rest)
                    return
                head = self._protocol.head_without_upgrade()
                self._start_afresh()
                data = head + rest

    def _start_afresh(self) -> None:
        self._inner = parser = httptools.HttpRequestParser(self._protocol)
        # As uvicorn sets it: an answer may go out although the client sends on after `Connection: close`.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        # What uvicorn asks of a parser. Kept, because it asks some of it several times a request.
        self.get_method = parser.get_method
        self.get_http_version = parser.get_http_version
        self.should_keep_alive = parser.should_keep_alive
        self.should_upgrade = parser.should_upgrade


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Refusals made here look like those of the API: JSON with a request id."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._unfinished = True
        self._head_bytes = 0
        self._trailer_bytes = 0
        self._leaving = False
        self._refusal = _MALFORMED
        self.takes_upgrade = False
        self.parser = _Parser(self)  # type: ignore[assignment]  # it has all of the parser that uvicorn uses

    def head_without_upgrade(self) -> bytes:
        """The head just read as the client would have sent it without offering an upgrade."""
        lines = [
            b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def hand_over(self, rest: bytes) -> None:
        """Give the connection to the WebSocket that was asked for, with what has arrived behind the request's head."""
        self._stop_deadline()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        transport = self.transport.inner  # type: ignore[attr-defined]
        protocol = self.app.web_socket(self.connections)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        head = [b"GET %s HTTP/1.1" % self.url, *(b"%s: %s" % header for header in self.headers)]
        protocol.data_received(b"\r\n".join(head) + b"\r\n\r\n")
        if rest:
            protocol.data_received(rest)

    def _is_web_socket(self) -> bool:
        """Whether this is the one kind of upgrade that is taken: a WebSocket's request, without a body, at its path, with
        nothing before it that is still to be answered."""
        if getattr(self.app, "web_socket", None) is None or self._leaving or not self._is_idle():
            return False
        if self.parser.get_method() != b"GET" or self.parser.get_http_version() != "1.1":
            return False
        if self.url.partition(b"?")[0] != WEB_SOCKET_PATH:
            return False
        names = [name for name, _ in self.headers]
        if b"content-length" in names or b"transfer-encoding" in names:
            return False
        return [value.lower() for name, value in self.headers if name == b"upgrade"] == [b"websocket"]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport, self.loop))  # type: ignore[arg-type]
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.takes_upgrade or self.transport.is_closing():
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
            return
        self._stop_deadline()
        if self._is_idle() and self.timeout_keep_alive_task is None:
            # An empty line is no request and no silence; uvicorn has ended the timer for it.
            self._start_keep_alive(self.timeout_keep_alive)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._unfinished = True
        self._head_bytes = self._trailer_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)
            return
        # A trailer, sent after the body: nothing that it says may change what the head said.
        self._trailer_bytes += len(name) + len(value) + 4
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("trailers too large")

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("not a proxy")
            self.takes_upgrade = self._is_within_bounds() and self._is_web_socket()
            return  # handed over, or fed again by the parser
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("not HTTP/1")  # httptools hands it to data_received as a parser error
        if not self._is_within_bounds():
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("head too large")
        self.start_request()

    def _is_within_bounds(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.headers) <= MAX_HEADERS and size <= MAX_HEAD_BYTES

    def start_request(self) -> None:
        """Hand a request to the application: its head is complete, and within the bounds."""
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._unfinished = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """Answer what is under way and what still comes in a moment, each answer the connection's last; then close."""
        self._leaving = True
        if self._is_idle():
            self.loop.call_later(LINGER_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

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

    def _start_keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_DEADLINE_S, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
