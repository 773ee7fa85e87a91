"""One HTTP request as it came in, before anything has judged it, and the few rules about its path."""

import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

from nozle_server.api.answer import Answer
from nozle_server.api.errors import NO_SUCH_ENDPOINT, Unreadable
from nozle_server.core.text import is_clean

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_PARAMETER_BYTES = 1024

# Where the ASGI scope carries an `Incoming` from the outer application to the code behind the router.
KEY = "nozle.incoming"

# Empty segments, dot segments, path parameters and bytes that no URI has: some server between us and the
# caller may read such a path in another way than we do, so no route has them.
_AMBIGUOUS_PATH = re.compile(r"//|;|\\|/\.{1,2}(?:/|\Z)|[^\x21-\x7e]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Incoming:
    """What the edge knows of a request: raw path and query, headers, body, id, and when it came.

    `body` is there when all of it came before anybody asked; else `receive` brings it, as ASGI says. For the log, the
    metrics and whoever sends the answer, `route`, `org_id` and `answer` are told by whoever finds out.
    """

    __slots__ = (
        *("answer", "body", "client", "headers", "method", "org_id", "path", "query", "receive"),
        *("request_id", "route", "started"),
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        client: str | None,
        receive: Receive | None = None,
        body: bytes | None = None,
    ) -> None:
        self.started = time.perf_counter()
        self.method = method
        self.path = path
        self.query = query
        self.headers = read_headers(headers)
        self.client = client
        self.receive = receive
        self.body = body
        self.request_id = self._choose_request_id()
        self.route = ""
        self.org_id: UUID | None = None
        self.answer: Answer | None = None

    def again(self, body: bytes | None, client: str | None) -> "Incoming":
        """Another request with the same head, which has come now; a head that names no id."""
        other = Incoming.__new__(Incoming)
        other.started = time.perf_counter()
        other.method, other.path, other.query, other.headers = (
            self.method,
            self.path,
            self.query,
            self.headers,
        )
        other.client, other.receive, other.body = client, None, body
        other.request_id, other.route, other.org_id, other.answer = _random_request_id(), "", None, None
        return other

    @classmethod
    def from_asgi(cls, scope: Scope, receive: Receive) -> "Incoming":
        """The request that an ASGI server hands over."""
        peer = scope.get("client")
        return cls(
            scope["method"],
            scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"],
            scope["query_string"],
            scope["headers"],
            client=peer[0] if peer else None,
            receive=receive,
        )

    def _choose_request_id(self) -> str:
        given = self.headers.get("x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return _random_request_id()


def _random_request_id() -> str:
    return f"req_{random.getrandbits(96):024x}"  # a name, no secret


def read_headers(pairs: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers by lower-case name. A header sent twice is joined with a comma: two keys are then no key."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def check_path(path: str) -> None:
    """Refuse paths that could mean two things, before any routing."""
    if _AMBIGUOUS_PATH.search(path):
        raise NO_SUCH_ENDPOINT


def decode_parameter(raw: str) -> str:
    """A path segment as text, percent-decoded after routing: `%2F` in an id is part of the id."""
    if not raw or len(raw) > 3 * MAX_PARAMETER_BYTES:
        raise NO_SUCH_ENDPOINT
    if "%" not in raw:
        text = raw
    else:
        if _BROKEN_ESCAPE.search(raw):
            raise Unreadable("the path has a broken percent escape", code="invalid_path")
        try:
            text = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise Unreadable("the path is not valid UTF-8", code="invalid_path") from None
        if not is_clean(text):
            raise Unreadable("the path holds control characters", code="invalid_path")
    if text in (".", "..") or len(text) > MAX_PARAMETER_BYTES:
        raise NO_SUCH_ENDPOINT
    return text
