"""Calls to the server, with the manners of a careful customer.

Every call of the demonstration may be repeated without harm (reads, upserts, keyed deducts, events with an
id), so a call that found the connection closed or the server busy is made again a few times. A server that
stays away raises ServerGoneError; what is neither a 200 nor an expected absence raises RefusedError.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from nozle_demo import exact
from nozle_demo.connection import ConnectionLostError, Connections, Response
from nozle_demo.errors import DemoError, RefusedError, ServerGoneError, UsageError
from nozle_demo.exact import Json

CONCURRENCY = 16
# Long enough for the call that turns the clock past a period's end and waits for forty invoices.
_TIMEOUT_S = 300
# Between attempts: when there is no connection, and when the server is busy and does not say how long.
_PAUSES_S = (0.05, 0.2, 0.75)
_BUSY_PAUSES_S = (1.0,) * 15
_LONGEST_PAUSE_S = 5.0
_BUSY = frozenset({429, 502, 503, 504})
_JSON = {"Content-Type": "application/json"}
_NO_HEADERS: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 answer; `replayed` when the server says that it had this very call before."""

    body: Any
    replayed: bool


class Api:
    """The HTTP API under one base URL and secret key. Use as `async with Api(...) as api`."""

    def __init__(self, url: str, secret_key: str, *, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self.url = url.rstrip("/")
        self.calls = 0
        self._pauses_s = pauses_s
        headers = {"Authorization": f"Bearer {secret_key}", "User-Agent": "nozle-demo"}
        if not secret_key.isascii() or not secret_key.isprintable():
            raise UsageError("the secret key holds characters that no key has")
        try:
            self._connections = Connections(self.url, headers, limit=CONCURRENCY, timeout_s=_TIMEOUT_S)
        except ValueError as error:
            raise UsageError(f"the server's address is {error}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def get(self, path: str) -> Any:
        """The body of a 200 answer."""
        return (await self._call("GET", path)).body

    async def find(self, path: str) -> Json | None:
        """The body of a 200 answer, or None when the server answers 404."""
        try:
            body: Json = (await self._call("GET", path)).body
        except RefusedError as refusal:
            if refusal.status == 404:
                return None
            raise
        return body

    async def post(self, path: str, body: Json) -> Any:
        return (await self._call("POST", path, exact.dumps(body).encode(), _JSON)).body

    async def send(self, path: str, body: bytes, *, idempotency_key: str | None = None) -> Answer:
        """Post JSON that is already text."""
        headers = _JSON if idempotency_key is None else {**_JSON, "Idempotency-Key": idempotency_key}
        return await self._call("POST", path, body, headers)

    async def delete(self, path: str, *, idempotency_key: str) -> Any:
        return (await self._call("DELETE", path, b"", {"Idempotency-Key": idempotency_key})).body

    async def download(self, path: str) -> bytes:
        """The bytes of a 200 answer that is no JSON."""
        response = await self._respond("GET", path, b"", _NO_HEADERS)
        if response.status != 200:
            raise _refusal("GET", path, response)
        return response.body

    async def _call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = _NO_HEADERS
    ) -> Answer:
        return _read(method, path, await self._respond(method, path, body, headers))

    async def _respond(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        lost_pauses_s, busy_pauses_s = iter(self._pauses_s), iter(_BUSY_PAUSES_S)
        while True:
            self.calls += 1
            try:
                response = await self._connections.call(method, path, body, headers)
            except ConnectionLostError as error:
                pause_s = next(lost_pauses_s, None)
                if pause_s is None:
                    raise ServerGoneError(f"the server at {self.url} does not answer ({error})") from None
            else:
                if response.status not in _BUSY:
                    return response
                pause_s = next(busy_pauses_s, None)
                if pause_s is None:
                    raise ServerGoneError(f"the server at {self.url} stays busy ({response.status})")
                pause_s = _retry_after_s(response, pause_s)
            await asyncio.sleep(pause_s)


def segment(text: str) -> str:
    """A value as one piece of a path or query."""
    return quote(text, safe="")


def _retry_after_s(response: Response, otherwise_s: float) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else otherwise_s


def _read(method: str, path: str, response: Response) -> Answer:
    if response.status != 200:
        raise _refusal(method, path, response)
    try:
        return Answer(exact.loads(response.body), "idempotent-replayed" in response.headers)
    except ValueError:
        raise RefusedError(
            f"{method} {path} answered 200 without JSON: {response.body[:200]!r}", 200
        ) from None


def _refusal(method: str, path: str, response: Response) -> DemoError:
    said = response.body[:300].decode("utf-8", "replace")
    if response.status in (401, 403):
        return UsageError(f"the server does not accept the key for {method} {path}: {response.status} {said}")
    return RefusedError(f"the server refused {method} {path}: {response.status} {said}", response.status)
