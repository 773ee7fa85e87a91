"""The background work of a server: what is due is drained, what has had its time is pruned."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.core.ids import new_id
from nozle_server.entitlements.news import USAGE_COUNTED
from nozle_server.identity.model import Mode
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.job_queue import JobQueue, enqueue
from nozle_server.infra.settings import Settings
from nozle_server.jobs.worker import Worker
from world import Client, open_world

pytestmark = pytest.mark.database

DAY = timedelta(days=1)


class Drained:
    """Stands for the operation that does what is due."""

    def __init__(self) -> None:
        self.organizations: list[UUID] = []
        self.called = asyncio.Event()

    async def __call__(self, org_id: UUID) -> None:
        self.organizations.append(org_id)
        self.called.set()


@asynccontextmanager
async def working(database: Database, drain: Drained) -> AsyncIterator[None]:
    queue = JobQueue(database)
    Worker(database, queue, SystemClock(), drain)
    work = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        await queue.stop()
        await work


async def run_job(database: Database, name: str) -> None:
    """Enqueue a job and wait until none is left."""
    async with database.transaction() as tx:
        await enqueue(tx, name)
    left = True
    async with asyncio.timeout(5):
        while left:
            await asyncio.sleep(0.01)
            async with database.connection() as connection:
                left = await connection.fetchval("select exists (select from pgqueuer)")


async def an_organization(tx: Tx) -> UUID:
    org_id = new_id()
    await tx.execute(
        "insert into organizations (id, name, mode, created_at) values ($1, 'Acme', 'live', now())", org_id
    )
    return org_id


async def schedule(tx: Tx, org_id: UUID, due_at: datetime) -> None:
    await due.schedule(tx, org_id=org_id, kind="period_end", subject_id=new_id(), due_at=due_at, now=due_at)


async def test_an_organization_is_drained_at_the_instant_an_item_falls_due(fresh_database: Database) -> None:
    drain = Drained()
    async with working(fresh_database, drain):
        due_at = datetime.now(UTC) + timedelta(seconds=0.7)
        async with fresh_database.transaction() as tx:
            org_id = await an_organization(tx)
            await schedule(tx, org_id, due_at)
        await asyncio.wait_for(drain.called.wait(), timeout=3)
        assert datetime.now(UTC) >= due_at
    assert drain.organizations == [org_id]


async def test_the_sweep_drains_what_a_lost_job_left_behind(fresh_database: Database) -> None:
    async with fresh_database.transaction() as tx:
        org_id = await an_organization(tx)
        await schedule(tx, org_id, datetime.now(UTC))
        await tx.execute("delete from pgqueuer")
    drain = Drained()
    async with working(fresh_database, drain):
        await run_job(fresh_database, "sweep")
    assert drain.organizations == [org_id]


async def test_pruning_keeps_what_is_younger_than_seven_days_and_ledger_keys_for_ever(
    fresh_database: Database,
) -> None:
    now = datetime.now(UTC)
    async with fresh_database.transaction() as tx:
        org_id = await an_organization(tx)
        customer_id = new_id()
        await tx.execute(
            """
            insert into customers (org_id, id, external_id, sequential_id, created_at, updated_at)
            values ($1, $2, 'acme', 1, $3, $3)
            """,
            org_id,
            customer_id,
            now,
        )
        for age in (6 * DAY, 8 * DAY):
            await tx.execute(
                "insert into outbox (org_id, id, kind, subject, created_at) values ($1, $2, 'k', 's', $3)",
                org_id,
                new_id(),
                now - age,
            )
            for ledger in (False, True):
                await tx.execute(
                    """
                    insert into idempotency_keys (org_id, operation, key, request_hash, ledger, created_at)
                    values ($1, 'grant', $2, '', $3, $4)
                    """,
                    org_id,
                    f"{age.days} {ledger}",
                    ledger,
                    now - age,
                )
        for token, expires_at in ((b"old", now - timedelta(seconds=1)), (b"new", now + DAY)):
            await tx.execute(
                """
                insert into customer_sessions
                    (org_id, token_hash, customer_id, scopes, expires_at, created_at)
                values ($1, $2, $3, '{}', $4, $5)
                """,
                org_id,
                token,
                customer_id,
                expires_at,
                now - DAY,
            )
    async with working(fresh_database, Drained()):
        await run_job(fresh_database, "prune")
    async with fresh_database.connection() as connection:
        assert await connection.fetchval("select count(*) from outbox") == 1
        keys = await connection.fetch("select key from idempotency_keys order by key")
        assert [row["key"] for row in keys] == ["6 False", "6 True", "8 True"]
        assert await connection.fetchval("select array_agg(token_hash) from customer_sessions") == [b"new"]


async def test_news_of_usage_are_kept_for_minutes_only(fresh_database: Database) -> None:
    """They come with every event; other facts of that age stay."""
    ages = [(USAGE_COUNTED, 60), (USAGE_COUNTED, 180), ("subscription.started", 180)]
    async with fresh_database.transaction() as tx:
        for kind, age_s in ages:
            await tx.execute(
                """insert into outbox (org_id, id, kind, subject, created_at)
                   values ($1, $1, $2, $3::int::text, now() - make_interval(secs => $3::int))""",
                new_id(),
                kind,
                age_s,
            )
    async with working(fresh_database, Drained()):
        await run_job(fresh_database, "prune_usage_news")
    async with fresh_database.connection() as connection:
        rows = await connection.fetch("select kind, subject from outbox order by kind")
        assert [tuple(row) for row in rows] == [("subscription.started", "180"), (USAGE_COUNTED, "60")]


async def test_the_partitions_of_the_coming_days_are_made(fresh_database: Database) -> None:
    async with working(fresh_database, Drained()):
        await run_job(fresh_database, "partitions")
    name = f"events_{datetime.now(UTC) + DAY:%Y%m%d}"
    async with fresh_database.connection() as connection:
        assert await connection.fetchval("select to_regclass($1) is not null", name)


async def test_thresholds_of_wallets_are_looked_at_in_real_time(fresh_database: Database) -> None:
    """Usage takes a wallet to its threshold without moving it; organizations on a test clock wait for their turn."""
    services = build_services(fresh_database, Settings(), SystemClock())
    client = Client(build_app(services))
    worlds = [await open_world(client, services, mode) for mode in (Mode.LIVE, Mode.TEST)]
    rules = [{"trigger": "threshold", "threshold_credits": "5", "granted_credits": "10"}]
    for world in worlds:
        await world.a_customer()
        await world.a_wallet(granted_credits="1", recurring_transaction_rules=rules)
    await worlds[1].turn("2030-01-01")
    drain = Drained()
    async with working(fresh_database, drain):
        await run_job(fresh_database, "wallets")
    assert drain.organizations == [worlds[0].org_id]
    due_kinds = [await world.fetch("select kind from due_items where org_id = $1") for world in worlds]
    assert [[row["kind"] for row in rows] for rows in due_kinds] == [["wallet_threshold"], []]


class SlowlyDrained(Drained):
    """Takes until it is let go, and counts how many are at it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def __call__(self, org_id: UUID) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await super().__call__(org_id)
        await self.go_on.wait()
        self.at_once -= 1


async def test_an_organization_is_drained_by_one_job_at_a_time_and_once_more_for_one_that_comes_meanwhile(
    fresh_database: Database,
) -> None:
    org_id = new_id()
    drain = SlowlyDrained()
    async with working(fresh_database, drain):
        for key in ("first", "second", "third"):
            async with fresh_database.transaction() as tx:
                await enqueue(tx, due.DRAIN_DUE, org_id.bytes, dedupe_key=key)
            await asyncio.wait_for(drain.called.wait(), 5)
        left = 3
        async with asyncio.timeout(10):
            while left > 1:  # the others have left it to the first
                await asyncio.sleep(0.01)
                async with fresh_database.connection() as connection:
                    left = await connection.fetchval(
                        "select count(*) from pgqueuer where entrypoint = 'drain_due'"
                    )
        drain.go_on.set()
    assert drain.organizations == [org_id, org_id]
    assert drain.most_at_once == 1
