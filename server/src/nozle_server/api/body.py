"""Read a request's body: bounded in size and time, of the one media type we speak."""

import asyncio
from collections.abc import Mapping

from nozle_server.api.errors import HttpError, Unreadable
from nozle_server.api.incoming import Incoming, Receive

# One second under the server's own deadline for a whole request (`api/server.py`), so that a caller whose
# body trickles in is told why before the connection goes.
DEADLINE_S = 14.0

_JSON_TYPES = frozenset(
    ("", "application/json", "application/json;charset=utf-8", 'application/json;charset="utf-8"')
)


async def read_body(incoming: Incoming, limit: int) -> bytes:
    """The whole body, empty when there is none; HttpError 413, 415 or 408."""
    headers = incoming.headers
    length = headers.get("content-length")
    if length == "0" or (length is None and "transfer-encoding" not in headers):
        return b""
    if length is not None and int(length) > limit:
        raise _too_large(limit)
    _check_encoding(headers)
    body = incoming.body
    if body is None:
        body = await _receive_in_time(incoming, limit)
    if body:
        _check_media_type(headers)
    return body


async def _receive_in_time(incoming: Incoming, limit: int) -> bytes:
    assert incoming.receive is not None, "either the body is there or somebody brings it"
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await _collect(incoming.receive, limit)
    except TimeoutError:
        raise HttpError(
            408, "the body took too long", code="request_timeout", headers={"connection": "close"}
        ) from None


async def _collect(receive: Receive, limit: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
        body = b"".join(chunks)
    if message["type"] == "http.disconnect":
        raise Unreadable("the caller left before the body was complete", code="incomplete_body")
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _check_encoding(headers: Mapping[str, str]) -> None:
    # No compressed bodies: a small one can unpack into any size.
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HttpError(415, "the body must not be compressed", code="unsupported_content_encoding")


def _check_media_type(headers: Mapping[str, str]) -> None:
    if headers.get("content-type", "").replace(" ", "").lower() not in _JSON_TYPES:
        raise HttpError(415, "the body must be application/json in UTF-8", code="unsupported_media_type")


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes", code="body_too_large")
