"""Jobs run at least once after their transaction has committed, whatever dies; a poison job is parked."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

import asyncpg
import pytest

from nozle_server.infra import job_queue
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue, enqueue
from nozle_server.infra.queue_metrics import list_parked_jobs, queue_metrics

pytestmark = pytest.mark.database

MILLISECOND = timedelta(milliseconds=1)

# A worker that takes the job "stuck" and never ends it.
STUCK_WORKER = """
import asyncio, sys
from datetime import timedelta
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue

async def stuck(payload):
    print("took", payload.decode(), flush=True)
    await asyncio.sleep(600)

async def main():
    database = await Database.connect(sys.argv[1], connections=2)
    queue = JobQueue(database, lease=timedelta(seconds=2))
    queue.register("stuck", stuck)
    await queue.run()

asyncio.run(main())
"""

# A worker that tells what its first job made it import.
FIRST_JOB = """
import asyncio, sys
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue, enqueue

async def main():
    database = await Database.connect(sys.argv[1], connections=2)
    queue = JobQueue(database)
    done = asyncio.Event()
    async def first(payload):
        done.set()
    queue.register("first", first)
    working = asyncio.create_task(queue.run())
    await asyncio.sleep(1.5)
    before = set(sys.modules)
    async with database.transaction() as tx:
        await enqueue(tx, "first")
    await done.wait()
    await queue.stop()
    await working
    print("imported", *(set(sys.modules) - before))

asyncio.run(main())
"""


@asynccontextmanager
async def running(queue: JobQueue) -> AsyncIterator[None]:
    work = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        await queue.stop()
        await work


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, timeout_s: float = 10
) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


async def enqueue_now(database: Database, entrypoint: str, payload: bytes = b"") -> None:
    async with database.transaction() as tx:
        await enqueue(tx, entrypoint, payload)


class Recorder:
    """A job function that remembers its payloads."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    async def __call__(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def has_more_than(self, count: int) -> bool:
        return len(self.payloads) > count


async def test_a_job_exists_exactly_when_its_transaction_committed(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("note", record)

    async def enqueue_and_fail() -> None:
        async with fresh_database.transaction() as tx:
            await enqueue(tx, "note", b"rolled back")
            raise RuntimeError

    async with running(queue):
        with pytest.raises(RuntimeError):
            await enqueue_and_fail()
        await enqueue_now(fresh_database, "note", b"committed")
        await until(lambda: len(record.payloads) > 0)
        await asyncio.sleep(0.2)
    assert record.payloads == [b"committed"]


async def test_the_first_job_imports_nothing(fresh_database_url: str) -> None:
    """Everybody would wait for it."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FIRST_JOB, fresh_database_url), stdout=subprocess.PIPE
    )
    async with asyncio.timeout(30):
        told, _ = await worker.communicate()
    assert (worker.returncode, told.splitlines()[-1]) == (0, b"imported")


async def test_one_dedupe_key_is_one_job_until_it_has_run(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("note", record)
    for _ in range(3):
        async with fresh_database.transaction() as tx:
            await enqueue(tx, "note", b"first", dedupe_key="one")
    async with running(queue):
        await until(lambda: len(record.payloads) > 0)
        await until(lambda: is_empty(fresh_database))
        async with fresh_database.transaction() as tx:
            await enqueue(tx, "note", b"second", dedupe_key="one")
        await until(lambda: len(record.payloads) > 1)
    assert record.payloads == [b"first", b"second"]


async def test_a_job_waits_for_its_instant(fresh_database: Database) -> None:
    ran_at: list[datetime] = []

    async def note(_: bytes) -> None:
        ran_at.append(datetime.now(UTC))

    queue = JobQueue(fresh_database)
    queue.register("note", note)
    run_at = datetime.now(UTC) + timedelta(seconds=1)
    async with running(queue):
        async with fresh_database.transaction() as tx:
            await enqueue(tx, "note", run_at=run_at)
        await until(lambda: len(ran_at) > 0)
    assert ran_at[0] >= run_at


async def test_a_failing_job_is_tried_again(fresh_database: Database) -> None:
    tries = 0

    async def succeed_at_third_try(_: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")

    queue = JobQueue(fresh_database, first_retry=MILLISECOND)
    queue.register("flaky", succeed_at_third_try)
    async with running(queue):
        await enqueue_now(fresh_database, "flaky")
        await until(lambda: is_empty(fresh_database))
    assert tries == 3


async def test_k08_a_poison_job_is_parked_with_its_error_and_the_queue_moves_on(
    fresh_database: Database,
) -> None:
    tries = 0

    async def poison(_: bytes) -> None:
        nonlocal tries
        tries += 1
        raise ValueError("the plan has no price")

    record = Recorder()
    queue = JobQueue(fresh_database, first_retry=MILLISECOND)
    queue.register("poison", poison)
    queue.register("note", record)
    async with running(queue):
        async with fresh_database.transaction() as tx:
            await enqueue(tx, "poison", b"p", dedupe_key="the one")
        await enqueue_now(fresh_database, "note", b"behind it")
        await until(lambda: has_parked(fresh_database))
    assert tries == job_queue.TRIES
    assert record.payloads == [b"behind it"]

    async with fresh_database.transaction() as tx:
        (parked,) = await list_parked_jobs(tx)
    assert (parked.queue, parked.payload, parked.tries) == ("poison", b"p", job_queue.TRIES)
    assert "ValueError: the plan has no price" in parked.error
    assert 'asynq_queue_size{queue="poison",state="archived"} 1.0' in await queue_metrics(fresh_database)

    async with fresh_database.transaction() as tx:
        await enqueue(tx, "poison", dedupe_key="the one")
        assert await list_parked_jobs(tx) == [], "a new job of the key takes the parked one's place"


@pytest.mark.parametrize(
    ("deaths", "parked"), [(1, False), (job_queue.TRIES - 1, False), (job_queue.TRIES, True)]
)
async def test_k08_a_job_that_takes_its_workers_with_it_is_parked(
    fresh_database: Database, deaths: int, parked: bool
) -> None:
    """pgqueuer would hand it to the next one for ever. Before that, the job is told that a worker was lost."""
    told: list[bool] = []

    async def deadly(_: bytes) -> None:
        told.append(job_queue.interrupted.get())

    await enqueue_now(fresh_database, "deadly")
    async with fresh_database.transaction() as tx:
        await tx.execute(
            "update pgqueuer set status = 'picked', heartbeat = now() - interval '1 day', queue_manager_id = $1",
            uuid.uuid4(),
        )
        await tx.execute(
            "insert into pgqueuer_log (job_id, status, priority, entrypoint)"
            " select id, 'picked', 0, 'deadly' from pgqueuer cross join generate_series(1, $1)",
            deaths,
        )
    queue = JobQueue(fresh_database)
    queue.register("deadly", deadly)
    async with running(queue):
        await until(lambda: has_parked(fresh_database) if parked else is_empty(fresh_database))
    assert told == ([] if parked else [True])
    async with fresh_database.transaction() as tx:
        errors = [job.error for job in await list_parked_jobs(tx)]
    assert len(errors) == parked
    assert all(f"{deaths} times the worker did not live" in error for error in errors)


async def test_k06_the_job_of_a_killed_worker_is_done_by_another(fresh_database: Database) -> None:
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK_WORKER, fresh_database.url, stdout=subprocess.PIPE
    )
    try:
        await enqueue_now(fresh_database, "stuck", b"invoice 7")
        assert doomed.stdout is not None
        assert await doomed.stdout.readline() == b"took invoice 7\n"
    finally:
        doomed.kill()
        await doomed.wait()

    record = Recorder()
    queue = JobQueue(fresh_database, lease=timedelta(seconds=2))
    queue.register("stuck", record)
    async with running(queue):
        await until(lambda: len(record.payloads) > 0, timeout_s=6)
    assert record.payloads == [b"invoice 7"]


async def test_k07_a_job_slower_than_its_lease_is_not_taken_over(fresh_database: Database) -> None:
    starts = 0

    async def slow(_: bytes) -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(2.5)

    first, second = (JobQueue(fresh_database, lease=timedelta(seconds=1)) for _ in range(2))
    first.register("slow", slow)
    second.register("slow", slow)
    await enqueue_now(fresh_database, "slow")
    async with running(first), running(second):
        await until(lambda: is_empty(fresh_database))
    assert starts == 1


async def test_stopping_lets_running_jobs_finish(fresh_database: Database) -> None:
    finished = []
    started = asyncio.Event()

    async def slow(payload: bytes) -> None:
        started.set()
        await asyncio.sleep(0.5)
        finished.append(payload)

    queue = JobQueue(fresh_database)
    queue.register("slow", slow)
    await enqueue_now(fresh_database, "slow", b"half a second")
    async with running(queue):
        await started.wait()
    assert finished == [b"half a second"]
    assert await is_empty(fresh_database)


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_a_job_that_outlasts_the_stop_is_handed_back(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(job_queue, "STOP_TIMEOUT_S", 0.2)
    started = asyncio.Event()

    async def endless(_: bytes) -> None:
        started.set()
        await asyncio.sleep(600)

    queue = JobQueue(fresh_database)
    queue.register("long", endless)
    await enqueue_now(fresh_database, "long", b"unfinished")
    work = asyncio.create_task(queue.run())
    await started.wait()
    if how == "stopped":
        await queue.stop()
    else:
        work.cancel()
    await asyncio.wait({work}, timeout=5)
    assert work.done()

    record = Recorder()
    successor = JobQueue(fresh_database)
    successor.register("long", record)
    async with running(successor):
        await until(lambda: len(record.payloads) > 0, timeout_s=3)
    assert record.payloads == [b"unfinished"]


async def test_a_job_is_found_within_a_second_without_any_notification(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("note", record)
    elsewhere = await asyncpg.connect(fresh_database.url)
    async with running(queue):
        await asyncio.sleep(0.3)
        async with elsewhere.transaction():
            await enqueue(elsewhere, "note", b"quiet")
        await until(lambda: len(record.payloads) > 0, timeout_s=3)
    await elsewhere.close()


async def test_another_process_is_woken_at_once(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("note", record)
    other = await Database.connect(fresh_database.url, connections=1)
    elsewhere = JobQueue(other)
    async with running(queue), running(elsewhere):
        await asyncio.sleep(0.3)
        delays_s = []
        for _ in range(7):
            committed_at, already = time.monotonic(), len(record.payloads)
            await enqueue_now(other, "note")
            await until(partial(record.has_more_than, already))
            delays_s.append(time.monotonic() - committed_at)
    await other.close()
    assert median(delays_s) < 0.3, "mere looking takes half a second on average"


async def test_the_queue_comes_back_when_its_connections_are_lost(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("note", record)
    admin = await asyncpg.connect(fresh_database.url)
    async with running(queue):
        await enqueue_now(fresh_database, "note", b"before")
        await until(lambda: len(record.payloads) == 1)
        await admin.execute(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
            """
        )
        await asyncio.sleep(0.1)
        async with admin.transaction():
            await enqueue(admin, "note", b"after")
        await until(lambda: b"after" in record.payloads, timeout_s=5)
    await admin.close()


async def test_regular_jobs_run(fresh_database: Database) -> None:
    record = Recorder()
    queue = JobQueue(fresh_database)
    queue.register("tick", record)
    queue.every("tick", "* * * * * */1")  # croniter's sixth field: seconds
    async with running(queue):
        await until(lambda: len(record.payloads) >= 2, timeout_s=8)


async def test_k07_two_schedulers_run_a_regular_job_once(fresh_database: Database) -> None:
    """Each second, by one of them."""
    ran_at: list[float] = []

    async def tick(_: bytes) -> None:
        ran_at.append(time.time())

    queues = [JobQueue(fresh_database) for _ in range(2)]
    began = time.time()
    for queue in queues:
        queue.register("tick", tick)
        queue.every("tick", "* * * * * */1")
    async with running(queues[0]), running(queues[1]):
        await until(lambda: len(ran_at) >= 3, timeout_s=15)
    assert len(ran_at) <= time.time() - began + 1


async def test_the_metrics_name_queues_and_nothing_else(fresh_database: Database) -> None:
    empty = await queue_metrics(fresh_database)
    assert "# TYPE asynq_queue_size gauge" in empty
    assert "\nnozle_notification_queue_usage_ratio " in empty
    async with fresh_database.transaction() as tx:
        await enqueue(tx, "renewal", b"\x01" * 16)
        await enqueue(tx, "renewal", run_at=datetime.now(UTC) + timedelta(days=1))
        await tx.execute("update pgqueuer set execute_after = now() - interval '3 s' where payload <> ''")
    text = await queue_metrics(fresh_database)
    assert 'asynq_queue_size{queue="renewal",state="pending"} 1.0' in text
    assert 'asynq_queue_size{queue="renewal",state="scheduled"} 1.0' in text
    assert 'nozle_queue_size{queue="renewal"} 1.0' in text
    (latency,) = [line for line in text.splitlines() if line.startswith("nozle_queue_latency_ms{")]
    assert 3_000 <= float(latency.split()[-1]) < 10_000


async def is_empty(database: Database) -> bool:
    async with database.connection() as connection:
        return bool(await connection.fetchval("select not exists (select from pgqueuer)"))


async def has_parked(database: Database) -> bool:
    async with database.transaction() as tx:
        return bool(await list_parked_jobs(tx))
