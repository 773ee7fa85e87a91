"""News for the caches and connections of every process, published in the transaction that changed something.

A change is a row of the outbox, so it exists exactly when its transaction committed. Processes learn of new
rows by a coalesced NOTIFY (`infra/wake_ups.py`), or within a second by looking. In the process that made it,
a change arrives right after the commit, before the request is answered.

A process that has not looked for a while cannot know what it missed: `PostgresChangeBus.lease` says until when copies may
be trusted, and each look moves it on.

Each process hears a change once. Changes of different transactions may arrive in another order than they
committed: treat one as "look again", not as the new value.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakSet

import asyncpg
import msgspec

from nozle_server.core.ids import new_id
from nozle_server.core.standing import Standing
from nozle_server.infra.batch import later
from nozle_server.infra.database import Database, Tx, prepare_connection, tell_after_commit
from nozle_server.infra.subscription import Subscription
from nozle_server.infra.wake_ups import WakeUps

CHANNEL = "nozle_changes"
READ_LIMIT = 10_000
"""More news than this at once is told as a gap; so is more than this unread by a subscriber."""
LEASE_S = 4.0
"""How long after a look, by when it began, its news count as complete: the bound on what is stale in a process that hears
nothing. A look comes every second, and a silent network is noticed within three."""
REMEMBERED = 20_000
"""How many changes a process remembers to have read in the outbox, so as not to tell one twice."""


class Change(msgspec.Struct, frozen=True):
    """Something of an organization changed; `kind` and `subject` say what, in words of who publishes it."""

    org_id: UUID
    kind: str
    subject: str
    payload: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Publication(msgspec.Struct, frozen=True):
    """A change and the id of its row in the outbox. `frequent`: its like comes with every request, so that other processes
    may hear of it a little later."""

    id: UUID
    change: Change
    frequent: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: whoever keeps copies drops them all."""


class ChangeBus(Protocol):
    async def publish(self, tx: Tx, change: Change) -> None:
        """Announce a change; it is told when `tx` commits, and never if it does not."""

    def promise(self, tx: Tx, change: Change) -> "Publication":
        """As `publish`, of what comes with every event: the caller writes the row himself, by a statement that does other
        things too, and signed with `origin`."""

    @property
    def origin(self) -> UUID:
        """What this process signs its rows of the outbox with."""

    def subscribe(self) -> AsyncIterator[Change | Gap]:
        """Everything from now on, beginning with a Gap."""

    def on_news(self, listener: Callable[[Change | Gap], None]) -> None:
        """Call `listener` with everything at the very moment it is heard: of what this process commits, before anything
        else runs. It must not raise or wait."""

    @property
    def lease(self) -> Standing:
        """Stands while everything that was committed until a few seconds ago has been told."""


class PostgresChangeBus:
    """The bus over the outbox table. `run` brings what other processes publish, and wakes them."""

    def __init__(self, database: Database) -> None:
        self._subscriptions: WeakSet[Subscription[Change | Gap]] = WeakSet()
        self._listeners: list[Callable[[Change | Gap], None]] = []
        self._heard: OrderedDict[UUID, None] = OrderedDict()
        self._lease = Standing(0.0)
        self._seen: str | None = None
        self._origin = new_id()
        self._wake_ups = WakeUps(database, CHANNEL, looks_at_own=False)
        for each in {database, database.reserve}:
            each.on_commit(self._committed)
            each.on_doubt(self._doubt)

    @property
    def origin(self) -> UUID:
        """As `ChangeBus.origin`."""
        return self._origin

    async def publish(self, tx: Tx, change: Change) -> None:
        """As `ChangeBus.publish`. The row's age is real time, whatever the organization's clock says."""
        published = Publication(new_id(), change)
        await later(tx, _insert, (self.origin, published))
        tell_after_commit(tx, published)

    def promise(self, tx: Tx, change: Change) -> Publication:
        """As `ChangeBus.promise`."""
        promised = Publication(new_id(), change, frequent=True)
        tell_after_commit(tx, promised)
        return promised

    def subscribe(self) -> AsyncIterator[Change | Gap]:
        """As `ChangeBus.subscribe`. A subscription that nobody refers to any more ends by itself."""
        subscription = Subscription[Change | Gap](READ_LIMIT, lost=Gap())
        self._subscriptions.add(subscription)
        return subscription

    def on_news(self, listener: Callable[[Change | Gap], None]) -> None:
        """As `ChangeBus.on_news`."""
        self._listeners.append(listener)

    @property
    def lease(self) -> Standing:
        """As `ChangeBus.lease`; never stands where `run` does not."""
        return self._lease

    async def run(self) -> None:
        """Hear the other processes, and wake them, until cancelled. Survives the loss of its connection."""
        await self._wake_ups.run(self._read, on_connect=self._connected)

    def _committed(self, facts: Sequence[object]) -> None:
        published = [fact for fact in facts if isinstance(fact, Publication)]
        if not published:
            return
        self._tell([one.change for one in published])
        if all(one.frequent for one in published):
            self._wake_ups.announce_soon()
        else:
            self._wake_ups.announce()

    async def _connected(self, connection: asyncpg.Connection) -> None:
        await prepare_connection(connection)
        if self._seen is None:
            self._seen = await connection.fetchval("select pg_current_snapshot()::text")
        self._tell_gap()

    async def _read(self, connection: asyncpg.Connection) -> None:
        """Tell what has become visible since the last look.

        Transactions commit in another order than they begin, so no number in the rows can say "up to here".
        The snapshot of the last look can: a row is new exactly when its transaction was not visible in it.
        A long transaction makes the next looks start further back, but delays nobody's news. A snapshot of
        before a failover may mislead one look, and that one follows a gap. What this process wrote it has heard
        of at the commit; where the outcome of a commit was in doubt, a gap was told. After a longer silence some of the
        rows may be gone (retention), so that is a gap too.
        """
        began = time.monotonic()
        if began >= self._lease.until:
            self._tell_gap()
        rows = await connection.fetch(
            """
            select look.snapshot, news.id, news.org_id, news.kind, news.subject, news.payload
            from (select pg_current_snapshot()::text as snapshot) as look
            left join outbox as news
                on news.origin is distinct from $3 and news.transaction >= pg_snapshot_xmin($1::text::pg_snapshot)
                and not pg_visible_in_snapshot(news.transaction, $1::text::pg_snapshot)
            order by news.transaction, news.id
            limit $2
            """,
            self._seen,
            READ_LIMIT + 1,
            self._origin,
        )
        self._seen = rows[0]["snapshot"]
        if len(rows) > READ_LIMIT:
            self._tell_gap()
        else:
            self._tell(
                [
                    Change(row["org_id"], row["kind"], row["subject"], row["payload"])
                    for row in rows
                    if row["id"] is not None and self._is_news(row["id"])
                ]
            )
        self._lease.until = began + LEASE_S

    def _is_news(self, change_id: UUID) -> bool:
        """Whether this process has not read of a change of another's before."""
        if change_id in self._heard:
            return False
        self._heard[change_id] = None
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
        return True

    def _tell(self, news: Sequence[Change | Gap]) -> None:
        for listener in self._listeners:
            for one in news:
                listener(one)
        for subscription in tuple(self._subscriptions):
            for one in news:
                subscription.tell(one)

    def _doubt(self) -> None:
        """The commit may yet come, long after this gap: its rows are then somebody else's, and told like theirs."""
        self._origin = new_id()
        self._tell_gap()

    def _tell_gap(self) -> None:
        self._tell([Gap()])


async def write_publications(tx: Tx, origin: UUID, publications: Sequence[Publication]) -> None:
    """Write the rows of publications whose telling after the commit is somebody else's business."""
    await _insert(tx, [(origin, one) for one in publications])


async def publish_once(tx: Tx, change: Change) -> None:
    """As `ChangeBus.publish`, of a command that keeps no bus: processes find it when they look, within a second, or at
    once after `wake_everybody`."""
    await _insert(tx, [(new_id(), Publication(new_id(), change))])


async def wake_everybody(database: Database) -> None:
    """Have every process look for news, of a command that keeps no bus."""
    async with database.connection() as connection:
        await connection.execute(f"notify {CHANNEL}")


async def _insert(tx: Tx, published: Sequence[tuple[UUID, Publication]]) -> None:
    await tx.executemany(
        """
        insert into outbox (org_id, id, kind, subject, payload, origin, created_at)
        values ($1, $2, $3, $4, $5, $6, now())
        """,
        [
            (one.change.org_id, one.id, one.change.kind, one.change.subject, one.change.payload, origin)
            for origin, one in published
        ],
    )
