"""Jobs: rows enqueued in the transaction of the data they are about, and run at least once after its commit.

A thin layer over pgqueuer (tables: migration 0002). What it adds: jobs at an instant, one wake-up for many
commits instead of a NOTIFY in each, and coming back when the database was away.

A job may run twice: when its worker dies after doing it, or sleeps longer than its lease. Running it twice
must do no more than running it once. A job that fails too often is parked, and so is one that too often takes its worker
with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
import structlog
from pgqueuer.applications import PgQueuer
from pgqueuer.core.executors import (
    AsyncCrontab,
    AsyncEntrypoint,
    DatabaseRetryEntrypointExecutor,
    EntrypointExecutorParameters,
)
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Context, Job, Schedule

from nozle_server.core.errors import Unavailable
from nozle_server.infra import pgqueuer_adapter
from nozle_server.infra.database import Database, Tx, tell_after_commit
from nozle_server.infra.wake_ups import FAULTS, WakeUps

CHANNEL = "nozle_jobs"
WAKE_UP_PAUSE_S = 0.05
LOOK_AGAIN = timedelta(seconds=1)
LEASE = timedelta(seconds=30)
"""Twice in this time a worker shows that it lives; after it, another takes over its jobs."""
TRIES = 8
FIRST_RETRY = timedelta(seconds=1)
"""Doubled for each further try: a job that always fails is parked after about two minutes."""
STOP_TIMEOUT_S = 10.0
BATCH = 4
MAX_RUNNING = 2 * BATCH
CONNECTIONS = 3
"""Of the queue's own, so that a job keeps its lease while requests use up the server's pool."""
RESTART_PAUSE_S = 1.0

JobFunction = Callable[[bytes], Awaitable[None]]

interrupted: ContextVar[bool] = ContextVar("interrupted", default=False)
"""In a job: whether it was begun before by a worker that died, or slept longer than its lease."""

log = structlog.get_logger()


class WorkersLost(Exception):
    """A job is given up because its workers died."""


@dataclass(frozen=True, slots=True)
class JobsEnqueued:
    """What `enqueue` tells its own process after the commit."""


async def enqueue(
    tx: Tx,
    entrypoint: str,
    payload: bytes = b"",
    *,
    run_at: datetime | None = None,
    dedupe_key: str | None = None,
) -> None:
    """Have `entrypoint` run with `payload` once `tx` has committed, not before `run_at` (real time).

    While a job of the same `dedupe_key` waits or runs, this is silently that job; a parked one makes way.

    pgqueuer's own `enqueue` takes a delay instead of an instant, and writes a log row for each job.
    """
    await tx.execute(
        """
        with replaced as (delete from pgqueuer where dedupe_key = $4 and status = 'failed')
        insert into pgqueuer (priority, status, entrypoint, payload, execute_after, dedupe_key)
        values (0, 'queued', $1, $2, coalesce($3, now()), $4)
        on conflict (dedupe_key) where status in ('queued', 'picked') and dedupe_key is not null do nothing
        """,
        entrypoint,
        payload,
        run_at,
        dedupe_key,
    )
    tell_after_commit(tx, JobsEnqueued())


class JobQueue:
    """Runs the jobs of the functions registered with it. Any number of processes may run one each."""

    def __init__(
        self, database: Database, *, lease: timedelta = LEASE, first_retry: timedelta = FIRST_RETRY
    ) -> None:
        """To be made while a loop runs: it loads what the first job needs."""
        self._database = database
        self._lease = lease
        self._first_retry = first_retry
        self._functions: dict[str, JobFunction] = {}
        self._schedules: list[tuple[str, str]] = []
        self._wake_ups = WakeUps(database, CHANNEL, pause_s=WAKE_UP_PAUSE_S)
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        database.on_commit(self._committed)
        pgqueuer_adapter.load()

    def register(self, name: str, function: JobFunction) -> None:
        """Have jobs called `name` run `function(payload)`."""
        assert name not in self._functions, f"two functions for the job {name}"
        self._functions[name] = function

    def every(self, name: str, cron: str) -> None:
        """Enqueue the registered job `name` at the minutes of `cron` (UTC), unless it still waits or runs.

        One that fell into a time when no worker ran is made up for, once.
        """
        assert name in self._functions, f"the job {name} is not registered"
        self._schedules.append((name, cron))

    async def run(self) -> None:
        """Work until stopped or cancelled; both give running jobs ten seconds, then hand them back."""
        self._stopped.clear()
        try:
            while not self._stopping.is_set():
                try:
                    await self._work()
                except FAULTS as fault:
                    log.warning("job_queue_interrupted", error=repr(fault))
                    await asyncio.sleep(RESTART_PAUSE_S)
        finally:
            self._stopped.set()

    async def wake_others(self) -> None:
        """Instead of `run`, in a process that enqueues jobs and leaves them to others; until cancelled."""

        async def look(connection: asyncpg.Connection) -> None:
            await connection.fetchval("select 1")  # so that a dead connection shows itself

        await self._wake_ups.run(look)

    async def stop(self) -> None:
        """Take no more jobs, and return when `run` has ended."""
        self._stopping.set()
        await self._stopped.wait()

    def _committed(self, facts: Sequence[object]) -> None:
        if any(isinstance(fact, JobsEnqueued) for fact in facts):
            self._wake_ups.announce()

    async def _work(self) -> None:
        async with asyncpg.create_pool(
            self._database.url,
            min_size=1,
            max_size=CONNECTIONS,
            server_settings=dict(self._database.session_settings),
        ) as pool:
            driver = pgqueuer_adapter.Driver(pool)
            queuer = self._build(driver)
            waking = asyncio.create_task(self._wake_ups.run(driver.wake))
            working = asyncio.create_task(
                queuer.run(
                    dequeue_timeout=LOOK_AGAIN,
                    batch_size=BATCH,
                    max_concurrent_tasks=MAX_RUNNING,
                    heartbeat_timeout=self._lease,
                )
            )
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                waking.cancel()
                queuer.shutdown.set()
                await _finish(working)
            await working

    def _build(self, driver: pgqueuer_adapter.Driver) -> PgQueuer:
        """A PgQueuer serves one run; after a fault of the database we make another."""
        queuer = pgqueuer_adapter.build(driver)
        for name, function in self._functions.items():
            queuer.entrypoint(
                name, accepts_context=False, on_failure="hold", executor_factory=self._executor
            )(_attempt(name, function))
        for name, cron in self._schedules:
            queuer.schedule(name, cron, accepts_context=False)(self._tick(name))
        return queuer

    def _executor(self, parameters: EntrypointExecutorParameters) -> DatabaseRetryEntrypointExecutor:
        return _Executor(
            parameters,
            max_attempts=TRIES - 1,
            initial_delay=self._first_retry,
            backoff_multiplier=2.0,
            count_starts=self._count_starts,
        )

    async def _count_starts(self, job: Job) -> int:
        """How often a worker has taken this job, this time included."""
        try:
            async with self._database.connection() as connection:
                return int(
                    await connection.fetchval(
                        "select count(*) from pgqueuer_log where job_id = $1 and status = 'picked'", job.id
                    )
                )
        except Unavailable:
            return job.attempts + 1  # as far as the job itself knows

    def _tick(self, name: str) -> AsyncCrontab:
        async def tick(_: Schedule) -> None:
            async with self._database.transaction() as tx:
                await enqueue(tx, name, dedupe_key=f"every:{name}")

        return tick


@dataclass
class _Executor(DatabaseRetryEntrypointExecutor):
    """Counts the workers that died, which pgqueuer does not: it would hand such a job on for ever."""

    count_starts: Callable[[Job], Awaitable[int]] = field(kw_only=True)

    async def execute(self, job: Job, context: Context) -> None:
        lost = await self.count_starts(job) - 1 - job.attempts
        if lost >= TRIES:
            raise WorkersLost(f"{lost} times the worker did not live to end it")
        interrupted.set(lost > 0)
        await super().execute(job, context)


def _attempt(name: str, function: JobFunction) -> AsyncEntrypoint:
    async def attempt(job: Job) -> None:
        try:
            await function(job.payload or b"")
        except asyncio.CancelledError:
            # pgqueuer deletes a job that is cancelled; what a stopping worker did not finish must live on.
            raise RetryRequested(reason="its worker stopped") from None
        except Exception as fault:
            tries = job.attempts + 1
            log.warning("job_failed", job=name, tries=tries, parked=tries >= TRIES, error=repr(fault))
            raise

    return attempt


async def _finish(working: asyncio.Task[None]) -> None:
    """Let running jobs end; cancel those that take too long, and wait until they are handed back."""
    try:
        await asyncio.wait({working}, timeout=STOP_TIMEOUT_S)
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
