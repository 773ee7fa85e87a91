"""HTTP requests in the form that both generators send: text, with marks where a fresh id goes.

Ids have a fixed width, so that the whole request can be written beforehand, Content-Length included.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FRESH_ID = "\x1f"
"""In a body: replaced by an id that no other request of this run carries."""
ID_DIGITS = 15
_IDS_PER_RUN = 10**9

_runs = itertools.count(1)


def get(path: str, key: str) -> str:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\n{_headers(key)}\r\n"


def post(path: str, key: str, body: str) -> str:
    """A POST request with a JSON body, which may hold `FRESH_ID`."""
    length = len(body.replace(FRESH_ID, "0" * ID_DIGITS))
    content = f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"POST {path} HTTP/1.1\r\n{_headers(key)}{content}\r\n{body}"


def _headers(key: str) -> str:
    return f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests to draw from at random, as often as one likes."""

    requests: Sequence[str]


def first_id() -> int:
    """Where the ids of the next run begin; no earlier run reaches it."""
    return next(_runs) * _IDS_PER_RUN


def fill(request: str) -> str:
    """The request with fresh ids."""
    return drawing(Traffic([request]))().decode()


def drawing(traffic: Traffic) -> Callable[[], bytes]:
    """A function that draws the next request."""
    prepared = [request.encode().split(FRESH_ID.encode()) for request in traffic.requests]
    ids: Iterator[int] = itertools.count(first_id())
    choose = random.Random(1).choice

    def draw() -> bytes:
        pieces = choose(prepared)
        if len(pieces) == 1:
            return pieces[0]
        filled = [pieces[0]]
        for piece in pieces[1:]:
            filled += (b"%0*d" % (ID_DIGITS, next(ids)), piece)
        return b"".join(filled)

    return draw
