"""Answers given again: to the very bytes of an earlier request, while all stands that its answer was made from.

It judges nothing: what an answer relies on is said by whoever made it (`Answer.validity`), and a request that differs in a
single byte goes the long way. Bounded by size; what was not asked for lately goes first.
"""

from __future__ import annotations

import asyncio
from itertools import count
from random import getrandbits
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from nozle_server.core.standing import TOLD_LATE_S, all_stand

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nozle_server.api.answer import Validity
    from nozle_server.api.edge import Edge
    from nozle_server.core.clock import Clock
    from nozle_server.core.standing import Standing

MAX_REQUEST_BYTES = 4096
BYTES_A_CUSTOMER = 2560
"""Of the memory there may be, for each customer there is room for: two questions, as a rule."""
OVERHEAD_BYTES = 400
TOLD_EVERY_S = 1.0
MAX_SHARED = 1_000
"""Of each kind of what answers share, how many are known at once. What is not known any more is shared by those who had it."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Tally:
    """Answers given again since it was last told: of one organization, route and status."""

    __slots__ = ("count", "org_id", "route", "seconds", "status")

    def __init__(self, route: str, status: int, org_id: UUID | None) -> None:
        self.route, self.status, self.org_id = route, status, org_id
        self.count, self.seconds = 0, 0.0


class Form:
    """What many answers have in common: all that goes out before their request ids, and where they are counted. The headers
    of the moment are in `head` as they were when it was last used."""

    __slots__ = ("before", "head", "headers", "start", "tally")

    def __init__(self, start: bytes, before: bytes, tally: Tally) -> None:
        self.start, self.before, self.tally = start, before, tally
        self.headers: object = None
        self.head = b""

    def put_in(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.head = b"".join(
            (self.start, *[b"%s: %s\r\n" % header for header in headers], self.before, b"req_")
        )


class Terms:
    """What many answers rely on, and until when."""

    __slots__ = ("ends_at", "standings", "tell_at")

    def __init__(self, standings: tuple[Standing, ...], ends_at: datetime | None) -> None:
        self.standings, self.ends_at = standings, ends_at
        self.tell_at = 0.0

    def tell_of_use(self, monotonic: float) -> None:
        """That an answer relies on them now; not to be told again for a moment."""
        self.tell_at = monotonic + TOLD_LATE_S
        for one in self.standings:
            one.relied_on_at = monotonic


class Remembered:
    """An answer: its form, what comes behind the request id, the terms, and the one thing besides that it relies on.

    There may be very many, each of them somewhere else in memory: what can be shared is, so that little has to be fetched.
    """

    __slots__ = ("after", "form", "own", "terms")

    def __init__(self, form: Form, after: bytes, own: Standing, terms: Terms) -> None:
        self.form, self.after, self.own, self.terms = form, after, own, terms


class Recall:
    """What one process remembers, at most `max_bytes` of requests and answers, in two halves: when the younger is full, the
    older is dropped. Metrics count every answer; the log tells of those of a second together."""

    def __init__(self, edge: Edge, clock: Clock, max_bytes: int) -> None:
        self._edge, self._clock, self._max_bytes = edge, clock, max_bytes
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._young_bytes = 0
        self._forms: dict[tuple[bytes, bytes, Tally], Form] = {}
        self._terms: dict[tuple[Standing | datetime | None, ...], Terms] = {}
        self._afters: dict[bytes, bytes] = {}
        self._tallies: dict[tuple[str, int, UUID | None], Tally] = {}
        self._is_telling = False
        self.answered_at = 0.0
        """By `monotonic`, the last of these."""
        self._name_ids()

    def answer(self, request: bytes, default_headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """All bytes of the answer; None when it is not known, or not known to be true any more."""
        began = monotonic()
        one = self._young.get(request)
        if one is None:
            one = self._old.pop(request, None)
            if one is None:
                return None
            self._put(request, one)
        terms = one.terms
        if (
            began >= one.own.until
            or not all_stand(terms.standings, began)
            or (terms.ends_at is not None and self._clock.now() >= terms.ends_at)
        ):
            self._forget(request)
            return None
        if began >= terms.tell_at:
            terms.tell_of_use(began)
        form = one.form
        if default_headers is not form.headers:
            form.put_in(default_headers)
        if not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_later(TOLD_EVERY_S, self.tell)
        tally = form.tally
        text = b"%b%b%08x%b" % (form.head, self._id_start, next(self._id_numbers), one.after)
        self.answered_at = ended = monotonic()
        tally.count += 1
        tally.seconds += ended - began
        return text

    def remember(
        self,
        request: bytes,
        start: bytes,
        before: bytes,
        after: bytes,
        validity: Validity,
        kind: tuple[str, int, UUID | None],
    ) -> None:
        """Give an answer again to this request. It goes out as `start`, the headers of the moment, `before`, a request id and
        `after`; `kind` is route, status and organization, by which it is counted."""
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = Tally(*kind)
        own, *others = validity.standings
        form = _shared(self._forms, (start, before, tally), Form(start, before, tally))
        terms = _shared(self._terms, (*others, validity.ends_at), Terms(tuple(others), validity.ends_at))
        self._put(request, Remembered(form, _shared(self._afters, after, after), own, terms))

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def tell(self) -> None:
        """Count and log what was given again since the last time."""
        self._is_telling = False
        self._name_ids()
        for tally in self._tallies.values():
            if tally.count:
                self._edge.finish_again(tally.route, tally.status, tally.count, tally.seconds, tally.org_id)
                tally.count, tally.seconds = 0, 0.0

    def _name_ids(self) -> None:
        """Request ids are names and no secrets: what is random in them lasts for a second."""
        self._id_start = b"%016x" % getrandbits(64)
        self._id_numbers = count(getrandbits(31))

    def _put(self, request: bytes, one: Remembered) -> None:
        before = self._young.get(request)
        self._young_bytes += _size(one) - _size(before) if before else _size(one) + len(request)
        self._young[request] = one
        if self._young_bytes > self._max_bytes // 2:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def _forget(self, request: bytes) -> None:
        self._old.pop(request, None)
        one = self._young.pop(request, None)
        if one is not None:
            self._young_bytes -= _size(one) + len(request)


def _shared(known: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    """What is equal, once."""
    if len(known) >= MAX_SHARED:
        known.clear()
    return known.setdefault(key, value)


def _size(one: Remembered) -> int:
    """As if nothing were shared."""
    return len(one.after) + OVERHEAD_BYTES
