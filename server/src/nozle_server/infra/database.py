"""The database: one pool, one transaction per request or job, and the table from its faults to ours.

`Tx` is an open transaction's connection; operations and queries take one and never open their own. Faults of the
database become `Unavailable` (503 with Retry-After at the edge); deadlocks and serialization failures are retried.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from nozle_server.core import json
from nozle_server.core.errors import Unavailable
from nozle_server.infra import privileges

Tx: TypeAlias = asyncpg.Connection
T = TypeVar("T")

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 30_000
ACQUIRE_TIMEOUT_S = 2.0
ATTEMPTS = 3


class TakenMeanwhile(Exception):
    """Another transaction holds what this one should have held first: begin anew, in the right order."""


_RETRIED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, TakenMeanwhile)
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresIOError,
    asyncpg.InternalClientError,
)


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Read and write jsonb with exact numbers."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: json.dumps(value).decode(),
        decoder=json.loads,
        format="text",
    )


_facts_of: dict[Tx, list[object]] = {}


def tell_after_commit(tx: Tx, fact: object) -> None:
    """Tell this process's listeners (`Database.on_commit`) once `tx` has committed; never when it rolls back.

    Only a hint, for what others find out by looking: nobody hears of it when the process dies in between, or
    when `tx` was not opened by `Database.transaction`.
    """
    if tx in _facts_of:
        _facts_of[tx].append(fact)


async def rehearse(tx: Tx, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` would do in `tx` and answer, with everything taken back that it wrote or told."""
    told = _facts_of.get(tx, [])
    before = len(told)
    savepoint = tx.transaction()
    await savepoint.start()
    try:
        return await work()
    finally:
        await savepoint.rollback()
        del told[before:]


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A pooled connection that is not wiped between uses: we never SET, LISTEN or hold advisory locks on one, and the
    wiping would be a round trip of its own for every request."""

    # What was asked to be written with the plans it has, and how much may be before they are made anew.
    _written = 0
    _written_at_most = 64

    def get_reset_query(self) -> str:
        return ""

    async def replan(self, writes: int) -> None:
        """Ahead of so many `writes`: make plans anew when the tables have grown, twice as many have been made here as when
        the plans were.

        A plan stays with its connection until its tables are analyzed, and one made for some dozen rows reads them all: it
        costs as much then. With a foreign key's check in it, each row written would read all that were written before.
        """
        self._written += writes
        if self._written > self._written_at_most:
            self._written_at_most = 2 * self._written
            await self.execute("discard plans")


_NO_SETTINGS: Mapping[str, str] = {}


async def _find_session_settings(url: str) -> Mapping[str, str]:
    connection = await asyncpg.connect(url, timeout=2 * ACQUIRE_TIMEOUT_S)
    try:
        return await privileges.session_settings(connection)
    finally:
        await connection.close(timeout=ACQUIRE_TIMEOUT_S)


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        url: str,
        reserve: "Database | None" = None,
        session_settings: Mapping[str, str] = _NO_SETTINGS,
    ) -> None:
        """`reserve` are connections apart, for what must not wait behind anything else; `session_settings` what any
        connection of the application must be told, so that it has the application's rights and no more."""
        self._pool = pool
        self.reserve = reserve or self
        self._commit_listeners: list[Callable[[Sequence[object]], None]] = []
        self._doubt_listeners: list[Callable[[], None]] = []
        self.url = url
        self.session_settings = session_settings

    @property
    def is_restricted(self) -> bool:
        """Whether these connections run as the application's role, which cannot rewrite history."""
        return "role" in self.session_settings

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        connections: int,
        reserve: int = 0,
        generic_plans: bool = False,
        read_only: bool = False,
    ) -> "Database":
        """A pool of at most so many connections; `reserve` more are kept apart, with generic plans.

        They run as the application's role, where there is one (`privileges.py`); `as_owner` does not.

        With `read_only`, PostgreSQL refuses whatever would write.
        With `generic_plans`, a statement is planned once a connection and not anew for its parameters: for those that
        take arrays, whose plan does not depend on what is in them.
        """
        session_settings = _NO_SETTINGS if read_only else await _find_session_settings(url)
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=connections,
            init=prepare_connection,
            connection_class=_Connection,
            command_timeout=STATEMENT_TIMEOUT_MS / 1000 + 5,
            server_settings={
                "application_name": "nozle-server",
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(2 * STATEMENT_TIMEOUT_MS),
                "timezone": "UTC",
                "jit": "off",
                **({"plan_cache_mode": "force_generic_plan"} if generic_plans else {}),
                **({"default_transaction_read_only": "on"} if read_only else {}),
                **session_settings,
            },
        )
        apart = await cls.connect(url, connections=reserve, generic_plans=True) if reserve else None
        return cls(pool, url, apart, session_settings)

    async def close(self) -> None:
        if self.reserve is not self:
            await self.reserve.close()
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection outside any transaction, for single statements that only read."""
        try:
            try:
                async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                    connection = await self._pool.acquire()
            except TimeoutError:
                raise Unavailable("every database connection is busy, try again", code="too_busy") from None
            try:
                yield connection
            except (TimeoutError, asyncio.CancelledError):
                # Out of time: the server may be stalled, and would hear neither a cancel nor a ROLLBACK. Ending the
                # connection ends whatever ran on it.
                _end(connection)
                raise
            finally:
                await self._pool.release(connection)
        except _UNAVAILABLE as fault:
            if isinstance(fault, asyncpg.exceptions._base.DataError):
                raise  # a value of ours that asyncpg cannot encode: nothing is wrong with the database
            raise _unavailable(fault) from fault

    @asynccontextmanager
    async def as_owner(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, with all rights of the database's user: for what makes tables."""
        try:
            connection = await asyncpg.connect(
                self.url,
                timeout=ACQUIRE_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_MS / 1000 + 5,
                server_settings={"application_name": "nozle-server", "timezone": "UTC"},
            )
        except _UNAVAILABLE as fault:
            raise _unavailable(fault) from fault
        try:
            yield connection
        finally:
            await connection.close(timeout=ACQUIRE_TIMEOUT_S)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tx]:
        """Several statements that only read, all of them seeing the database as it was at one moment."""
        async with (
            self.connection() as connection,
            within_transaction(connection, isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """One transaction, committed when the block ends and rolled back when it raises."""
        async with self.connection() as connection:
            facts: list[object] = []
            _facts_of[connection] = facts
            try:
                async with within_transaction(connection):
                    yield connection
            except (*_UNAVAILABLE, asyncio.CancelledError):
                self.doubt(facts)
                raise
            finally:
                del _facts_of[connection]
            # Before the connection is given back, which may wait, and so be called off.
            self.committed(facts)

    def committed(self, facts: Sequence[object]) -> None:
        """Tell the listeners what a statement made true that committed by itself."""
        for listener in self._commit_listeners if facts else ():
            listener(facts)

    def doubt(self, facts: Sequence[object]) -> None:
        """Tell the listeners that these facts may have become true: the connection was lost while they were."""
        for listener in self._doubt_listeners if facts else ():
            listener()

    def on_commit(self, listener: Callable[[Sequence[object]], None]) -> None:
        """Call `listener` with what each transaction told by `tell_after_commit`; it must not raise or wait."""
        self._commit_listeners.append(listener)

    def on_doubt(self, listener: Callable[[], None]) -> None:
        """Call `listener` when nobody can say whether a transaction that told something has committed."""
        self._doubt_listeners.append(listener)

    async def run(self, work: Callable[[Tx], Awaitable[T]], *, deadline_s: float | None = None) -> T:
        """Run `work` in a transaction of its own; again, up to three times in all, when the database asks for it.

        With a deadline, an attempt that takes longer ends in Unavailable, whatever the database is doing.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with asyncio.timeout(deadline_s), self.transaction() as tx:
                    return await work(tx)
            except TimeoutError as fault:
                raise _unavailable(fault) from fault
            except _RETRIED as fault:
                if attempt == ATTEMPTS:
                    raise Unavailable("the database is busy, try again", code="database_busy") from fault
        raise AssertionError("unreachable: the last attempt returns or raises")


@asynccontextmanager
async def within_transaction(connection: asyncpg.Connection, **options: Any) -> AsyncIterator[None]:
    """A transaction on a connection: asyncpg's own block, except that running out of time does not wait for a ROLLBACK
    (see `Database.connection`)."""
    transaction = connection.transaction(**options)
    await transaction.start()
    try:
        yield
    except (TimeoutError, asyncio.CancelledError):
        _end(connection)
        raise
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


def _end(connection: asyncpg.Connection) -> None:
    """End a connection, if nobody has: a fault of this must not take the place of the cancellation that it is for."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


def is_database_fault(error: BaseException) -> bool:
    """Whether the database asked for another try or cannot be had: nothing that the work itself did wrong.

    A statement that runs into its time limit is the work's own fault: it would again.
    """
    if isinstance(error, asyncpg.QueryCanceledError | ValueError):
        return False
    return isinstance(error, (*_RETRIED, *_UNAVAILABLE, Unavailable))


def _unavailable(fault: BaseException) -> Unavailable:
    if isinstance(fault, asyncpg.LockNotAvailableError):
        return Unavailable("another request holds what this one needs, try again", code="lock_timeout")
    return Unavailable("the database cannot be reached, try again", code="database_unavailable")
