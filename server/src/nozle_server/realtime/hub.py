"""Who of this process listens to which channel, and what reaches them.

The history in the database is the truth: offsets are given out there once, under the channel's lock, whichever process
publishes. Processes hear of publications by the change bus; one that comes out of turn, or a gap in the news, is answered by
reading the history from where this process's listeners stand. Where that is not kept any more, they are told to fetch anew.

Who joins has everything decided first: whatever was missed, and however, is then in the history.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog

from nozle_server.core.clock import Clock
from nozle_server.core.errors import Unavailable
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.news import Customers, Organization, concerned
from nozle_server.infra.change_bus import Change, Gap, PostgresChangeBus
from nozle_server.infra.database import Database, Tx
from nozle_server.realtime import protocol, store
from nozle_server.realtime.channels import name_of
from nozle_server.realtime.deciding import Refreshed, refresh
from nozle_server.realtime.model import REALTIME_PUBLISHED, Channel, Claims, Position, Publication
from nozle_server.realtime.tokens import TokenRefused, mint, verify

T = TypeVar("T")

SECRET_NAME = "realtime tokens"
AT_ONCE = 4
"""Customers decided anew at a time: the pool is for requests."""
PAUSE_S = 0.05
"""Between two times for one customer: a burst of events is one look."""
USAGE_PAUSE_S = 1.0
RETRY_S = 1.0
LOOK_AGAIN_S = 3600.0
MAX_TOLD_EACH = 1000
"""When all customers of an organization may have changed, and it has more than so many: its channel begins a new epoch."""

log = structlog.get_logger()


class Listener(Protocol):
    def publish(self, name: str, publications: Sequence[Publication], text: bytes) -> None:
        """News of a channel; `text` is the message that tells all of them."""

    def lose(self, name: str) -> None:
        """Not in the channel any more: what was missed cannot be recovered."""


class _Local:
    """A channel that somebody of this process listens to."""

    __slots__ = ("catching_up", "channel", "listeners", "name", "position")

    def __init__(self, channel: Channel, name: str, position: Position) -> None:
        self.channel, self.name, self.position = channel, name, position
        self.listeners: set[Listener] = set()
        self.catching_up = False


_Key = tuple[UUID, str]


class Hub:
    """One a process; `run` brings the news."""

    def __init__(
        self,
        database: Database,
        economics: Economics,
        bus: PostgresChangeBus,
        clock: Clock,
        secret: str | None = None,
    ) -> None:
        self._database, self._economics, self._bus, self._clock = database, economics, bus, clock
        self._secret = secret.encode() if secret else None
        self._locals: dict[str, _Local] = {}
        self._names: dict[UUID, set[str]] = {}
        self._fresh: dict[_Key, asyncio.Event] = {}
        self._timers: dict[_Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    # Tokens.

    async def new_token(
        self, *, org_id: UUID, key_id: UUID, scope: str, channels: Sequence[Channel]
    ) -> tuple[str, datetime]:
        """A connection token for these channels, and when it ends."""
        names = tuple(name_of(channel) for channel in channels)
        secret = await self._get_secret()
        return mint(
            secret, org_id=org_id, key_id=key_id, scope=scope, channels=names, real_now=self._clock.now()
        )

    async def check_token(self, token: str) -> Claims:
        """What it says, when its key is still good too. TokenRefused, TokenExpired."""
        claims = verify(await self._get_secret(), token, self._clock.now())
        await self.check_key(claims)
        return claims

    async def check_key(self, claims: Claims) -> None:
        """TokenRefused when the key that the token was made with has been revoked."""
        async with self._database.connection() as connection:
            if not await store.is_live_key(connection, claims.org_id, claims.key_id):
                raise TokenRefused

    async def _get_secret(self) -> bytes:
        if self._secret is None:
            self._secret = await self._database.run(lambda tx: store.signing_secret(tx, SECRET_NAME))
        return self._secret

    # Listeners.

    async def join(
        self, channel: Channel, listener: Listener, after: Position | None
    ) -> tuple[Position, list[Publication] | None]:
        """Listen from here on: where the channel stands, and what was published `after`, None when that is not known.

        The listener has everything up to that position, and is told everything beyond it.
        """
        name = name_of(channel)
        next_at = await self._bring_up_to_date(channel)
        while True:
            async with self._database.connection() as connection:
                read = await store.read_since(connection, channel.org_id, name, after or Position("", 0))
            if read is None:  # pruned this very moment
                next_at = await self._bring_up_to_date(channel)
                continue
            now, missed = read
            local = self._locals.get(name)
            if local is None:
                local = self._locals[name] = _Local(channel, name, now)
                self._names.setdefault(channel.org_id, set()).add(name)
            elif local.position.epoch != now.epoch:
                self._lose_all(local)
                continue
            elif local.position.offset > now.offset:
                continue  # told between the reading and now
            local.listeners.add(listener)
            if channel.customer is not None:
                self._look_again((channel.org_id, channel.customer), next_at)
            return now, missed if after is not None else None

    def leave(self, name: str, listener: Listener) -> None:
        """Not listening any more; again is harmless."""
        local = self._locals.get(name)
        if local is not None:
            local.listeners.discard(listener)
            if not local.listeners:
                self._forget(local)

    async def _bring_up_to_date(self, channel: Channel) -> datetime | None:
        """Publish what has not been told yet; when time alone may change something next."""
        if channel.customer is None:
            await self._database.run(lambda tx: store.lock_channel(tx, channel.org_id, name_of(channel)))
            return None
        return (await self._refresh(channel.org_id, channel.customer, joining=True)).next_at

    def _forget(self, local: _Local) -> None:
        if self._locals.get(local.name) is local:
            del self._locals[local.name]
            names = self._names[local.channel.org_id]
            names.discard(local.name)
            if not names:
                del self._names[local.channel.org_id]

    def _lose_all(self, local: _Local) -> None:
        self._forget(local)
        for listener in tuple(local.listeners):
            listener.lose(local.name)

    # News.

    async def run(self) -> None:
        """Until cancelled: publish what the news mean to those who listen here."""
        try:
            async for one in self._bus.subscribe():
                self._hear(one)
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            for timer in self._timers.values():
                timer.cancel()

    def _hear(self, change: Change | Gap) -> None:
        if isinstance(change, Gap):
            for local in tuple(self._locals.values()):
                self._catch_up(local)
            for org_id in tuple(self._names):
                self._everybody_changed(org_id)
        elif change.kind == REALTIME_PUBLISHED:
            self._published(change)
        elif change.org_id in self._names:
            whom = concerned(change)
            if isinstance(whom, Organization):
                self._everybody_changed(change.org_id)
            elif isinstance(whom, Customers):
                for customer in whom.external_ids:
                    self._mark((change.org_id, customer))

    def _published(self, change: Change) -> None:
        local = self._locals.get(change.subject)
        if local is None:
            return
        first, data = change.payload["position"], change.payload["data"]
        if change.payload["epoch"] != local.position.epoch or first > local.position.offset + 1:
            self._catch_up(local)
            return
        self._tell(local, [Publication(first + n, text.encode()) for n, text in enumerate(data)])

    def _tell(self, local: _Local, publications: Sequence[Publication]) -> None:
        new = [one for one in publications if one.offset > local.position.offset]
        if not new:
            return
        local.position = Position(local.position.epoch, new[-1].offset)
        text = protocol.push_publications(local.name, new)
        for listener in tuple(local.listeners):
            listener.publish(local.name, new, text)

    def _catch_up(self, local: _Local) -> None:
        if not local.catching_up:
            local.catching_up = True
            self._in_background(self._read_missed(local))

    async def _read_missed(self, local: _Local) -> None:
        async def read(tx: Tx) -> Any:
            return await store.read_since(tx, local.channel.org_id, local.name, local.position)

        found = await self._patiently(lambda: self._database.run(read))
        local.catching_up = False
        if self._locals.get(local.name) is not local:
            return
        if found is None or found[1] is None:
            self._lose_all(local)
        else:
            self._tell(local, found[1])

    # Deciding anew.

    def _everybody_changed(self, org_id: UUID) -> None:
        for name in self._names.get(org_id, ()):
            channel = self._locals[name].channel
            if channel.customer is None:
                self._in_background(self._mark_subscribers(org_id))
            else:
                self._mark((org_id, channel.customer))

    async def _mark_subscribers(self, org_id: UUID) -> None:
        customers = await self._patiently(
            lambda: self._database.run(lambda tx: store.subscribers(tx, org_id, MAX_TOLD_EACH + 1))
        )
        if len(customers) <= MAX_TOLD_EACH:
            for customer in customers:
                self._mark((org_id, customer))
            return
        name = name_of(Channel(org_id, None))

        async def begin_anew(tx: Tx) -> None:
            if await store.lock_existing_channel(tx, org_id, name) is not None:
                position = await store.new_epoch(tx, org_id, name)
                payload = {"epoch": position.epoch, "position": 1, "data": []}
                await self._bus.publish(tx, Change(org_id, REALTIME_PUBLISHED, name, payload))

        await self._patiently(lambda: self._database.run(begin_anew))

    def _is_heard(self, key: _Key) -> bool:
        org_id, customer = key
        names = self._names.get(org_id, ())
        return name_of(Channel(org_id, customer)) in names or name_of(Channel(org_id, None)) in names

    def _mark(self, key: _Key) -> None:
        """This customer's decisions may have changed."""
        if not self._is_heard(key):
            return
        changed = self._fresh.get(key)
        if changed is not None:
            changed.set()
            return
        self._fresh[key] = asyncio.Event()
        self._in_background(self._keep_fresh(key))

    async def _keep_fresh(self, key: _Key) -> None:
        changed = self._fresh[key]
        org_id, customer = key
        try:
            while self._is_heard(key):
                changed.clear()
                refreshed = await self._patiently(lambda: self._refresh(org_id, customer, joining=False))
                self._look_again(key, refreshed.next_at)
                await asyncio.sleep(PAUSE_S)
                if changed.is_set():
                    continue
                if not refreshed.waiting:
                    return
                try:
                    async with asyncio.timeout(USAGE_PAUSE_S):
                        await changed.wait()
                except TimeoutError:
                    pass
        finally:
            del self._fresh[key]

    async def _refresh(self, org_id: UUID, customer: str, *, joining: bool) -> Refreshed:
        async def work(tx: Tx) -> Refreshed:
            return await refresh(
                tx,
                self._economics,
                self._bus,
                org_id=org_id,
                customer=customer,
                joining=joining,
                real_now=self._clock.now(),
            )

        async with self._turns:
            return await self._database.run(work)

    def _look_again(self, key: _Key, at: datetime | None) -> None:
        """When time alone may change something; at the latest in an hour, which does no harm."""
        earlier = self._timers.pop(key, None)
        if earlier is not None:
            earlier.cancel()
        if at is None or not self._is_heard(key):
            return
        delay_s = min(max(0.0, (at - self._clock.now()).total_seconds()) + 0.01, LOOK_AGAIN_S)

        def look() -> None:
            self._timers.pop(key, None)
            self._mark(key)

        self._timers[key] = asyncio.get_running_loop().call_later(delay_s, look)

    # Running.

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until the database can be had."""
        while True:
            try:
                return await work()
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("realtime_failed", error=repr(error))
