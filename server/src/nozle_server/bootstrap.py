"""Build the real things once: settings, database, clock, seams, caches; start them in order and stop them in reverse."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import asyncpg
import structlog

from nozle_server.api.metrics import Metrics
from nozle_server.api.turns import Turns
from nozle_server.audit.metrics import render_results
from nozle_server.audit.queries import last_results
from nozle_server.catalog import plan_store
from nozle_server.core.clock import Clock, SystemClock
from nozle_server.core.errors import Unavailable
from nozle_server.core.standing import Standing
from nozle_server.costs import store as costs_store
from nozle_server.credits.account_lanes import LANES
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.news import CACHES_RELOADED
from nozle_server.entitlements.snapshots import Snapshots
from nozle_server.identity.key_cache import KeyCache
from nozle_server.infra import job_queue
from nozle_server.infra.change_bus import Change, Gap, PostgresChangeBus
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.durability import check_durability, check_version
from nozle_server.infra.embedded_postgres import DataDirectory, EmbeddedPostgres, find_running, has_database
from nozle_server.infra.event_log import PostgresEventLog
from nozle_server.infra.job_queue import JobQueue
from nozle_server.infra.migrate import OtherReleaseError, check_schema, migrate
from nozle_server.infra.partitions import ensure_event_partitions
from nozle_server.infra.postgres_usage import PostgresUsageStore
from nozle_server.infra.privileges import how_to_restrict
from nozle_server.infra.queue_metrics import queue_metrics
from nozle_server.infra.seams import Seams
from nozle_server.infra.settings import Settings
from nozle_server.jobs.worker import Worker
from nozle_server.realtime.realtime import Realtime, build_realtime
from nozle_server.workflows.drain_due import drain_due

log = structlog.get_logger()

# Connections for deductions alone: as many batches at once as are left beside the lanes of accounts that wait for a lock.
RESERVED = LANES + 2

# Of each process besides: two that listen for news, and those of the job queue.
LISTENING = 2 + job_queue.CONNECTIONS
# For the commands beside a server, and for people who look.
SPARE_CONNECTIONS = 20

AUDIT_METRICS_TIMEOUT_S = 2.0
FIRST_NEWS_WITHIN_S = 2.0

GARBAGE_THRESHOLD = 20_000
"""How many objects are made before the young ones are looked through for garbage. Python's own 700 are a few requests'."""


class UnsafeDatabaseError(Exception):
    """The database may lose what it acknowledged; the message names the settings that are off."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a process serves with. Handlers reach it through `call.services`."""

    database: Database
    settings: Settings
    clock: Clock
    keys: KeyCache
    metrics: Metrics
    seams: Seams
    economics: Economics
    snapshots: Snapshots
    bus: PostgresChangeBus
    group_commit: GroupCommit
    realtime: Realtime
    turns: Turns = field(default_factory=Turns)

    async def queue_metrics(self) -> str:
        """Prometheus text about the job queue."""
        return await queue_metrics(self.database)

    async def audit_metrics(self) -> str:
        """Prometheus text about the last scheduled audit; none while the database cannot be had."""
        try:
            async with asyncio.timeout(AUDIT_METRICS_TIMEOUT_S), self.database.connection() as connection:
                return render_results(await last_results(connection))
        except (Unavailable, TimeoutError):
            return ""

    async def reload(self, tx: Tx, org_id: UUID) -> None:
        """Have every process drop its caches when `tx` commits."""
        await self.bus.publish(tx, Change(org_id, CACHES_RELOADED, str(org_id)))

    def forget_all(self) -> None:
        """Drop this process's caches."""
        self.keys.forget_all()
        self.economics.forget_all()
        self.snapshots.forget_all()
        self.group_commit.forget_all()
        plan_store.forget_decoded()
        costs_store.forget_decoded()


def build_services(database: Database, settings: Settings, clock: Clock) -> Services:
    """The services over a database, with the PostgreSQL adapters of all seams."""
    bus = PostgresChangeBus(database)
    seams = Seams(PostgresEventLog(), PostgresUsageStore(), bus)
    economics = Economics(database, seams.usage_store, clock)
    return Services(
        database=database,
        settings=settings,
        clock=clock,
        keys=KeyCache(database),
        metrics=Metrics(),
        seams=seams,
        economics=economics,
        snapshots=Snapshots(database, bus, kept_at_most=settings.cached_customers),
        bus=bus,
        group_commit=GroupCommit(database.reserve, bus),
        realtime=build_realtime(database, economics, bus, clock, settings),
    )


@asynccontextmanager
async def open_database(settings: Settings, *, notice: Callable[[str], None]) -> AsyncIterator[Database]:
    """The database of a serving process: the external one, or the embedded one, started and kept running.

    Migrated, checked for version and durability, with partitions for the coming days. `notice` hears what people should
    know. DataDirectoryInUse, EmbeddedPostgresError, UnsafeDatabaseError when it cannot be had.
    """
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            url = await _start_embedded(stack, settings, notice)
        else:
            url = settings.database_url
        await _check(url, settings, notice)
        await migrate(url)
        database = await connect(url, settings)
        stack.push_async_callback(database.close)
        if not database.is_restricted:
            async with database.connection() as connection:
                notice(how_to_restrict(await connection.fetchval("select session_user")))
        async with database.as_owner() as connection:
            await ensure_event_partitions(connection, SystemClock().now().date())
        yield database


async def connect(url: str, settings: Settings) -> Database:
    """The pool of a serving process, on a database that is ready for it."""
    return await Database.connect(url, connections=settings.database_connections, reserve=RESERVED)


@asynccontextmanager
async def beside_running_server(settings: Settings) -> AsyncIterator[Database]:
    """The database for a command: that of the running server, or the embedded one started for this command alone."""
    running = settings.database_url or find_running(settings.data_dir)
    if running is None:
        async with open_database(settings, notice=lambda text: log.info("notice", text=text)) as database:
            yield database
        return
    if settings.database_url:  # the embedded one was migrated by the server that runs it
        await migrate(running)
    database = await Database.connect(running, connections=2)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def looking_at_database(settings: Settings) -> AsyncIterator[Database]:
    """The database for a command that only looks, beside a running server or not: nothing is made, nothing is migrated,
    and PostgreSQL refuses what would write. OtherReleaseError where it has not this release's schema."""
    async with AsyncExitStack() as stack:
        url = settings.database_url or find_running(settings.data_dir)
        if url is None:
            if not has_database(settings.data_dir):
                raise OtherReleaseError(f"there is no database in {settings.data_dir}")
            url = await _start_embedded(stack, settings, notice=lambda text: log.info("notice", text=text))
        database = await Database.connect(url, connections=2, read_only=True)
        stack.push_async_callback(database.close)
        async with database.connection() as connection:
            await check_schema(connection)
        yield database


async def _start_embedded(stack: AsyncExitStack, settings: Settings, notice: Callable[[str], None]) -> str:
    directory = DataDirectory(settings.data_dir)
    directory.lock()
    stack.callback(directory.release)
    postgres = EmbeddedPostgres(directory, connections=_connections_of(settings))
    await postgres.start()
    stack.push_async_callback(postgres.stop)
    if postgres.notice:
        notice(postgres.notice)
    await _in_background(stack, postgres.supervise())
    return postgres.url


def _connections_of(settings: Settings) -> int:
    """How many connections all processes of this server may want at once, and some to spare."""
    processes = settings.workers + 1 if settings.workers > 1 else 1  # several leave the jobs to one more
    return processes * (settings.database_connections + RESERVED + LISTENING) + SPARE_CONNECTIONS


async def _check(url: str, settings: Settings, notice: Callable[[str], None]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await check_version(connection)
        unsafe = await check_durability(connection)
        allowed = int(await connection.fetchval("show max_connections"))
    finally:
        await connection.close()
    if allowed < _connections_of(settings):
        notice(
            f"WARNING: under load this server may want {_connections_of(settings)} connections, and the database allows"
            f" {allowed}: raise its max_connections, or lower NOZLE_WORKERS or NOZLE_DATABASE_CONNECTIONS."
        )
    if not unsafe:
        return
    sentence = f"this database may lose what it acknowledged: {', '.join(unsafe)} off"
    if not settings.allow_unsafe_durability:
        raise UnsafeDatabaseError(
            f"{sentence}. Switch on, or set NOZLE_ALLOW_UNSAFE_DURABILITY=1 to start all the same."
        )
    notice(f"WARNING: {sentence}. Started all the same, as NOZLE_ALLOW_UNSAFE_DURABILITY says.")


@asynccontextmanager
async def background(services: Services, *, jobs: bool = True) -> AsyncIterator[None]:
    """What runs beside the API: the change bus, the reactions to its news, the job queue.

    A process without `jobs` only wakes those that do them.
    """
    queue = JobQueue(services.database)
    suspects = asyncio.Lock()

    async def drain(org_id: UUID) -> None:
        await drain_due(
            services.database,
            services.seams,
            org_id=org_id,
            until=services.clock.now(),
            careful=suspects if job_queue.interrupted.get() else None,
        )

    Worker(services.database, queue, services.clock, drain, audit_at=services.settings.audit_at)
    async with AsyncExitStack() as stack:
        services.bus.on_news(partial(_react, services))
        await _in_background(stack, services.bus.run())
        await _until_heard(services.bus.lease)
        await _in_background(stack, services.keys.keep_fresh())
        await _in_background(stack, services.economics.keep_fresh())
        await _in_background(stack, services.realtime.run())
        if jobs:
            await _in_background(stack, queue.run())
            stack.push_async_callback(queue.stop)
        else:
            await _in_background(stack, queue.wake_others())
        # The code that is loaded by now stays. The collector would stop everything to walk through it, time and again;
        # and requests under way are no garbage, however many objects they are.
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        yield


async def _until_heard(lease: Standing) -> None:
    """Wait for the first news, but not for long: without them nothing is kept, and everybody who comes asks the database."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_NEWS_WITHIN_S):
            while lease.until <= time.monotonic():  # noqa: ASYNC110  # nobody tells of a look
                await asyncio.sleep(0.005)


def _react(services: Services, news: Change | Gap) -> None:
    """Drop caches when told to, and whenever news may have been missed."""
    if not isinstance(news, Change) or news.kind == CACHES_RELOADED:
        services.forget_all()


async def _in_background(stack: AsyncExitStack, work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
