"""Whom to look at, and when: after news that may concern them, and at the instants at which time alone may change something.

A look that fails because something is away is tried again, for as long as somebody may be listening.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog

from nozle_server.core.clock import Clock
from nozle_server.core.errors import Unavailable
from nozle_server.entitlements.news import Customers, Organization, concerned
from nozle_server.infra.change_bus import Change, Gap
from nozle_server.infra.database import Database
from nozle_server.realtime import store
from nozle_server.realtime.broker import Broker, Looked
from nozle_server.realtime.model import Channel

T = TypeVar("T")

AT_ONCE = 4
"""Customers decided anew at a time: the pool is for requests."""
PAUSE_S = 0.05
"""Between two times for one customer: a burst of events is one look."""
USAGE_PAUSE_S = 1.0
RETRY_S = 1.0
LOOK_AHEAD_S = 60.0
"""How often an organization whose own channel is heard is searched for what time will change next."""
MAX_TOLD_EACH = 1000
"""When all customers of an organization may have changed, and it has more than so many: its channel begins a new epoch."""
MAX_TIMER_S = 3600.0
"""Longer waits are several, so that a clock that is set in between matters for so long only."""
AFTER_S = 0.01
"""How long after an instant it is looked at."""
FIGURES_AGAIN_S = 5.0
"""When to look again at who was decided by figures: they are kept for as long."""
FIGURES_EACH_S = 0.02
"""Where there are many of them, each in its turn, so many a second and no more: all of it is asked of the database."""

log = structlog.get_logger()

_Key = tuple[UUID, str]


class Freshness:
    """Has a broker look at customers. One a broker; `stop` when it ends."""

    def __init__(self, database: Database, clock: Clock, broker: Broker) -> None:
        self._database, self._clock, self._broker = database, clock, broker
        self._fresh: dict[_Key, asyncio.Event] = {}
        self._timers: dict[_Key, asyncio.TimerHandle] = {}
        self._by_figures: set[_Key] = set()
        self._following: dict[_Key, asyncio.Task[None]] = {}
        self._ahead: dict[UUID, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def stop(self) -> None:
        """Nobody is looked at any more."""
        for task in tuple(self._tasks):
            task.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # News.

    def hear(self, change: Change | Gap) -> None:
        """Look at those whom it may concern."""
        if isinstance(change, Gap):
            for org_id in tuple(self._broker.organizations()):
                self.everybody_changed(org_id)
        elif change.org_id in self._broker.organizations():
            whom = concerned(change)
            if isinstance(whom, Organization):
                self.everybody_changed(change.org_id)
            elif isinstance(whom, Customers):
                for customer in whom.external_ids:
                    self.mark(change.org_id, customer)

    def everybody_changed(self, org_id: UUID) -> None:
        """Look at every customer of the organization to whom somebody may be listening."""
        for channel in tuple(self._broker.channels(org_id)):
            if channel.customer is None:
                self.in_background(self._mark_subscribers(org_id))
            else:
                self.mark(org_id, channel.customer)

    def mark(self, org_id: UUID, customer: str) -> None:
        """This customer's decisions may have changed."""
        key = (org_id, customer)
        if not self._is_heard(key):
            return
        changed = self._fresh.get(key)
        if changed is not None:
            changed.set()
            return
        self._fresh[key] = asyncio.Event()
        self.in_background(self._keep_fresh(key))

    async def look(self, org_id: UUID, customer: str, work: Callable[[], Awaitable[Looked]]) -> None:
        """Look now, when it is this one's turn. Who asks for a look that has not begun yet shares it: when thousands come
        to one channel at once, few looks serve them all."""
        key = (org_id, customer)
        following = self._following.get(key)
        if following is None:
            following = asyncio.create_task(self._look_in_turn(key, work))
            following.add_done_callback(_hear_of_fault)
            self._following[key] = following
        # Shielded: one that hangs up must not take the look from the others.
        await asyncio.shield(following)

    async def _look_in_turn(self, key: _Key, work: Callable[[], Awaitable[Looked]]) -> None:
        try:
            async with self._turns:
                del self._following[key]
                looked = await work()
        finally:
            if self._following.get(key) is asyncio.current_task():
                del self._following[key]  # cancelled before its turn
        self.look_again(*key, looked)

    async def _mark_subscribers(self, org_id: UUID) -> None:
        customers = await self._subscribers(org_id, "", MAX_TOLD_EACH + 1)
        if len(customers) > MAX_TOLD_EACH and await self.patiently(lambda: self._broker.begin_anew(org_id)):
            return
        while customers:
            for customer in customers:
                self.mark(org_id, customer)
            while len(self._fresh) > MAX_TOLD_EACH:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(PAUSE_S)
            customers = await self._subscribers(org_id, customers[-1], MAX_TOLD_EACH)

    async def _subscribers(self, org_id: UUID, after: str, limit: int) -> list[str]:
        return await self.patiently(
            lambda: self._database.run(lambda tx: store.subscribers(tx, org_id, after, limit))
        )

    def _is_heard(self, key: _Key) -> bool:
        org_id, customer = key
        return self._broker.hears(Channel(org_id, customer)) or self._broker.hears(Channel(org_id, None))

    async def _keep_fresh(self, key: _Key) -> None:
        changed = self._fresh[key]
        try:
            while self._is_heard(key):
                changed.clear()
                try:
                    async with self._turns:
                        looked = await self._broker.look(*key)
                except Unavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                self.look_again(*key, looked)
                await asyncio.sleep(PAUSE_S)
                if changed.is_set():
                    continue
                if not looked.waiting:
                    return
                try:
                    async with asyncio.timeout(USAGE_PAUSE_S):
                        await changed.wait()
                except TimeoutError:
                    pass
        finally:
            del self._fresh[key]
            if not self._is_heard(key):
                self._by_figures.discard(key)

    # Time alone.

    def look_again(self, org_id: UUID, customer: str, looked: Looked) -> None:
        """Look when time alone may change something, if ever; and after a while where figures may, if the customer's own
        channel is heard."""
        key, at = (org_id, customer), looked.next_at
        earlier = self._timers.pop(key, None)
        if earlier is not None:
            earlier.cancel()
        if looked.by_figures and self._broker.hears(Channel(org_id, customer)):
            self._by_figures.add(key)
            after_s = max(FIGURES_AGAIN_S, FIGURES_EACH_S * len(self._by_figures))
            moved_at = self._clock.now() + timedelta(seconds=after_s)
            at = moved_at if at is None else min(at, moved_at)
        else:
            self._by_figures.discard(key)
        if at is not None and self._is_heard(key):
            self._set_timer(key, at)

    def _set_timer(self, key: _Key, at: datetime) -> None:
        wait_s = (at - self._clock.now()).total_seconds() + AFTER_S

        def wake() -> None:
            del self._timers[key]
            if not self._is_heard(key):
                self._by_figures.discard(key)
            elif self._clock.now() < at:
                self._set_timer(key, at)
            else:
                self.mark(*key)

        delay_s = min(max(0.0, wait_s), MAX_TIMER_S)
        self._timers[key] = asyncio.get_running_loop().call_later(delay_s, wake)

    def look_ahead(self, org_id: UUID) -> None:
        """While the organization's own channel is heard, know in time of whom time will change next. Those who have a
        channel of their own have their timers anyway."""
        if org_id not in self._ahead:
            self._ahead[org_id] = self.in_background(self._keep_looking_ahead(org_id))

    async def _keep_looking_ahead(self, org_id: UUID) -> None:
        seen = self._clock.now()
        try:
            while self._broker.hears(Channel(org_id, None)):
                # Twice as far as it takes until the next search, so that none falls between two of them.
                until = self._clock.now() + timedelta(seconds=2 * LOOK_AHEAD_S)
                for customer, at in await self._coming(org_id, seen, until):
                    if (org_id, customer) not in self._timers:
                        self._set_timer((org_id, customer), at)
                seen = self._clock.now()
                await asyncio.sleep(LOOK_AHEAD_S)
        finally:
            del self._ahead[org_id]

    async def _coming(self, org_id: UUID, after: datetime, until: datetime) -> list[tuple[str, datetime]]:
        return await self.patiently(
            lambda: self._database.run(lambda tx: store.coming_instants(tx, org_id, after, until))
        )

    # Running.

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until what it needs can be had."""
        while True:
            try:
                return await work()
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    def in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do it beside; what goes wrong is logged, and ends with `stop`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("realtime_failed", error=repr(error))


def _hear_of_fault(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # whoever waits for it is told
