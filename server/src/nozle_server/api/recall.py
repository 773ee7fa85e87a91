"""Answers given again: to the very bytes of an earlier request, while all stands that its answer was made from.

It judges nothing: what an answer relies on is said by whoever made it (`Answer.validity`), and a request that differs in a
single byte goes the long way. Bounded by size; what was not asked for lately goes first.
"""

from __future__ import annotations

import asyncio
from random import getrandbits
from time import monotonic
from typing import TYPE_CHECKING

from nozle_server.core.standing import all_stand

if TYPE_CHECKING:
    from uuid import UUID

    from nozle_server.api.answer import Validity
    from nozle_server.api.edge import Edge
    from nozle_server.core.clock import Clock

MAX_REQUEST_BYTES = 4096
BYTES_A_CUSTOMER = 2560
"""Of the memory there may be, for each customer there is room for: two questions, as a rule."""
OVERHEAD_BYTES = 400
TOLD_EVERY_S = 1.0


class Tally:
    """Answers given again since it was last told: of one organization, route and status."""

    __slots__ = ("count", "org_id", "route", "seconds", "status")

    def __init__(self, route: str, status: int, org_id: UUID | None) -> None:
        self.route, self.status, self.org_id = route, status, org_id
        self.count, self.seconds = 0, 0.0


class Remembered:
    """An answer in three parts, between which go the headers of the moment and a new request id."""

    __slots__ = ("after", "before", "ends_at", "size", "standings", "start", "tally")

    def __init__(self, start: bytes, before: bytes, after: bytes, validity: Validity, tally: Tally) -> None:
        self.start, self.before, self.after, self.tally = start, before, after, tally
        self.standings, self.ends_at = validity.standings, validity.ends_at
        self.size = len(after) + OVERHEAD_BYTES  # the others are shared by most answers


class Recall:
    """What one process remembers, at most `max_bytes` of requests and answers, in two halves: when the younger is full, the
    older is dropped. Metrics count every answer; the log tells of those of a second together."""

    def __init__(self, edge: Edge, clock: Clock, max_bytes: int) -> None:
        self._edge, self._clock, self._max_bytes = edge, clock, max_bytes
        self._heads: dict[bytes, bytes] = {}
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._young_bytes = 0
        self._tallies: dict[tuple[str, int, UUID | None], Tally] = {}
        self._is_telling = False
        self._headers: object = None
        self._header_bytes = b""

    def answer(self, request: bytes, default_headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """All bytes of the answer; None when it is not known, or not known to be true any more."""
        began = monotonic()
        one = self._young.get(request)
        if one is None:
            one = self._old.pop(request, None)
            if one is None:
                return None
            self.remember(request, one)
        if not all_stand(one.standings, began) or (
            one.ends_at is not None and self._clock.now() >= one.ends_at
        ):
            self._forget(request)
            return None
        if default_headers is not self._headers:
            self._headers = default_headers
            self._header_bytes = b"".join([b"%s: %s\r\n" % header for header in default_headers])
        if not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_later(TOLD_EVERY_S, self.tell)
        request_id = b"req_%024x" % getrandbits(96)  # a name, no secret
        text = b"".join((one.start, self._header_bytes, one.before, request_id, one.after))
        tally = one.tally
        tally.count += 1
        tally.seconds += monotonic() - began
        return text

    def tally(self, route: str, status: int, org_id: UUID | None) -> Tally:
        """Where answers of this kind are counted."""
        key = (route, status, org_id)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(route, status, org_id)
        return tally

    def remember(self, request: bytes, one: Remembered) -> None:
        before = self._young.get(request)
        self._young_bytes += one.size - before.size if before else one.size + len(request)
        self._young[request] = one
        if self._young_bytes > self._max_bytes // 2:
            self._old, self._young, self._young_bytes = self._young, {}, 0
            self._heads = {}

    def shared(self, head: bytes) -> bytes:
        """The same bytes once, of those that many answers begin with."""
        return self._heads.setdefault(head, head)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _forget(self, request: bytes) -> None:
        self._old.pop(request, None)
        one = self._young.pop(request, None)
        if one is not None:
            self._young_bytes -= one.size + len(request)

    def tell(self) -> None:
        """Count and log what was given again since the last time."""
        self._is_telling = False
        for tally in self._tallies.values():
            if tally.count:
                self._edge.finish_again(tally.route, tally.status, tally.count, tally.seconds, tally.org_id)
                tally.count, tally.seconds = 0, 0.0
