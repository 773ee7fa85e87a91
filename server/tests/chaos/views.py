"""What `can()` answered in several processes, held against what had been committed: how late an answer was.

    book = Book((before,))                        # what is true before the first deed
    async with watching(book, client, urls, look):
        async with book.deed(at=url) as deed:     # the call that changes something, to one of the servers
            ...
            deed.makes(after)
    book.lags(urls)

An answer is late when, at the moment it was asked for, somebody had been told of a deed that it does not know. It is late by
the time since then. While a deed is under way, what was true before it and what is true after it are both right.

What is true may have several parts, that a process hears of apart: then an answer may know the latest of one and not yet of
another.
"""

import asyncio
import bisect
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chaos.clients import Client, Lost

POLL_S = 0.005
REMEMBERED = 40
"""How many values of a part an answer is looked for in."""
OTHER_PROCESS_S = 1.0
"""How late another process may be at most, as the product promises."""
DEAF_PROCESS_S = 5.0
"""And one to which notifications do not come."""
UNDER_LOAD = 5
"""`make test` runs where other things run too: what is promised, times this, tells a late answer from one that stays wrong."""


Truth = tuple[object, ...]
"""In its parts."""


@dataclass
class Deed:
    """Something that changes what is true. `done`: when it was acknowledged."""

    at: str
    truth: Truth
    begun: float
    done: float = float("inf")

    def makes(self, *truth: object) -> None:
        """What is true after it, part by part."""
        self.truth = truth


@dataclass(frozen=True, slots=True)
class View:
    """One answer of the server `at`, asked for and received at these instants."""

    at: str
    seen: object
    asked: float
    received: float


def _only_part(truth: Truth) -> object:
    [part] = truth
    return part


@dataclass
class Book:
    """All that was done, in order, and all that was seen. `shows`: what is seen when something is true."""

    before: Truth
    shows: Callable[[Truth], object] = _only_part
    deeds: list[Deed] = field(default_factory=list)
    views: list[View] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deeds.append(Deed("", self.before, 0.0, 0.0))

    @property
    def now(self) -> object:
        """What is seen by whoever knows everything."""
        return self.shows(self.deeds[-1].truth)

    @asynccontextmanager
    async def deed(self, *, at: str) -> AsyncIterator[Deed]:
        """One deed at a time: it has been acknowledged when the block ends."""
        deed = Deed(at, self.deeds[-1].truth, time.monotonic())
        yield deed
        deed.done = time.monotonic()
        self.deeds.append(deed)

    def missed(self, view: View) -> Sequence[Deed]:
        """The deeds that were acknowledged before a view was asked for, and that it does not know; AssertionError for
        what has never been true. Where several pasts look alike, the one that misses the fewest is meant."""
        begun = bisect.bisect_right(self.deeds, view.received, key=lambda deed: deed.begun)
        acknowledged = bisect.bisect_left(self.deeds, view.asked, key=lambda deed: deed.done)
        histories = [self._history(part, begun) for part in range(len(self.before))]
        lates = [list(itertools.accumulate((n < acknowledged for n in one), initial=0)) for one in histories]

        def lateness(known: tuple[int, ...]) -> tuple[int, int]:
            return sum(late[age] for late, age in zip(lates, known, strict=True)), max(known)

        for known in sorted(itertools.product(*(range(len(one)) for one in histories)), key=lateness):
            truth = tuple(
                self.deeds[history[age]].truth[part]
                for part, (history, age) in enumerate(zip(histories, known, strict=True))
            )
            if self.shows(truth) == view.seen:
                missed = {n for history, age in zip(histories, known, strict=True) for n in history[:age]}
                return [self.deeds[n] for n in sorted(missed) if n < acknowledged]
        raise AssertionError(f"{view.at} answered what has never been true: {view.seen}")

    def _history(self, part: int, begun: int) -> Sequence[int]:
        """The deeds that gave a part its latest values, the last one first."""
        changes = (
            n
            for n in range(begun - 1, -1, -1)
            if n == 0 or self.deeds[n].truth[part] != self.deeds[n - 1].truth[part]
        )
        return list(itertools.islice(changes, REMEMBERED))

    def lags(self, servers: Sequence[str], *, of: Callable[[Deed], bool] = lambda _: True) -> "Lags":
        """How long each server took to know each of those deeds, by its own views."""
        own: list[str] = []
        others = {
            (id(deed), at): 0.0 for deed in self.deeds[1:] for at in servers if at != deed.at and of(deed)
        }
        for view in self.views:
            for deed in filter(of, self.missed(view)):
                if deed.at == view.at:
                    own.append(f"{view.seen} when it was {deed.truth} for {view.asked - deed.done:.4f} s")
                else:
                    key = id(deed), view.at
                    others[key] = max(others[key], view.asked - deed.done)
        return Lags(own, list(others.values()), len(self.views))


@dataclass(frozen=True)
class Lags:
    """`own`: late answers of the process that did the deed. `others`: how late each other process was about each deed, in
    seconds."""

    own: Sequence[str]
    others: Sequence[float]
    views: int

    def __add__(self, more: "Lags") -> "Lags":
        return Lags([*self.own, *more.own], [*self.others, *more.others], self.views + more.views)

    @property
    def p99_s(self) -> float:
        return sorted(self.others)[len(self.others) * 99 // 100] if self.others else 0.0

    @property
    def max_s(self) -> float:
        return max(self.others, default=0.0)

    def __str__(self) -> str:
        return (
            f"{self.views} answers, {len(self.own)} late ones of the own process; other processes were late by"
            f" p99 {1000 * self.p99_s:.0f} ms, at most {1000 * self.max_s:.0f} ms"
        )


Look = Callable[[Mapping[str, object]], object]
"""What a test takes from an answer of `can()`."""


async def look_once(
    book: Book,
    client: Client,
    url: str,
    look: Look,
    target: str = "/api/v1/can?customer_id=acme&feature=chat",
) -> View | None:
    """Ask one server, and note what it answered; None when it could not tell."""
    asked = time.monotonic()
    try:
        answer = await client.send("GET", target, at=url)
    except Lost:
        return None
    if answer.status == 503:
        return None
    assert answer.status == 200, answer.body
    view = View(url, look(answer.json), asked, time.monotonic())
    book.views.append(view)
    return view


@asynccontextmanager
async def watching(
    book: Book, client: Client, urls: Sequence[str], look: Look, *, poll_s: float = POLL_S, **more: str
) -> AsyncIterator[None]:
    """Ask every server again and again; what each answered is in the book when the block has ended."""
    stop = asyncio.Event()

    async def watch(url: str) -> None:
        while not stop.is_set():
            await look_once(book, client, url, look, **more)
            await asyncio.sleep(poll_s)

    watchers = [asyncio.create_task(watch(url)) for url in urls]
    try:
        yield
        await asyncio.sleep(0.05)
    finally:
        stop.set()
        await asyncio.gather(*watchers)


async def until_all_know(
    book: Book, client: Client, urls: Sequence[str], look: Look, *, within_s: float
) -> None:
    """Ask each server until it knows what is true."""
    for url in urls:
        began = time.monotonic()
        while (view := await look_once(book, client, url, look)) is None or view.seen != book.now:
            assert time.monotonic() - began < within_s, f"{url} does not know {book.now}"
            await asyncio.sleep(POLL_S)
