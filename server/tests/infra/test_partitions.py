"""Day partitions come ahead of their day, without stopping anybody, and never cost an event."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from nozle_server.core.ids import new_id
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.partitions import ensure_event_partitions

pytestmark = pytest.mark.database

TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = ["events_20260228", "events_20260301", "events_20260302", "events_20260303", "events_20260304"]


async def store_event(tx: Tx, occurred_at: datetime) -> str:
    """Store an event; the name of the partition it went to."""
    partition: str = await tx.fetchval(
        """
        insert into events (org_id, occurred_at, id, transaction_id, received_at, code, status, properties)
        values ($1, $2, $1, 't', $2, 'llm_tokens', 'unmatched', '{}')
        returning tableoid::regclass::text
        """,
        new_id(),
        occurred_at,
    )
    return partition


async def partitions(database: Database) -> Sequence[str]:
    async with database.connection() as connection:
        rows = await connection.fetch(
            """
            select inhrelid::regclass::text as name from pg_inherits
            where inhparent = 'events'::regclass and inhrelid <> 'events_default'::regclass order by 1
            """
        )
    return [row["name"] for row in rows]


async def ensure(database: Database) -> None:
    async with database.as_owner() as connection:
        await ensure_event_partitions(connection, TODAY)


async def test_yesterday_to_three_days_ahead_each_with_its_indexes(fresh_database: Database) -> None:
    for _ in range(2):
        await ensure(fresh_database)
    assert await partitions(fresh_database) == ALL
    async with fresh_database.transaction() as tx:
        midnight = NOON - DAY / 2
        assert await store_event(tx, midnight) == "events_20260301"
        assert await store_event(tx, midnight - timedelta(microseconds=1)) == "events_20260228"
        assert await store_event(tx, NOON + 4 * DAY) == "events_default"
        indexes = "select count(*) from pg_indexes where tablename = $1"
        assert await tx.fetchval(indexes, ALL[0]) == await tx.fetchval(indexes, "events_default")


async def test_a_day_that_has_begun_in_the_default_partition_stays_there(fresh_database: Database) -> None:
    async with fresh_database.transaction() as tx:
        await store_event(tx, NOON)
    await ensure(fresh_database)
    assert await partitions(fresh_database) == [name for name in ALL if name != "events_20260301"]
    async with fresh_database.transaction() as tx:
        assert await store_event(tx, NOON) == "events_default"


async def test_servers_that_start_together_do_not_hinder_each_other(fresh_database: Database) -> None:
    await asyncio.gather(*(ensure(fresh_database) for _ in range(4)))
    assert await partitions(fresh_database) == ALL


async def test_open_writers_neither_wait_nor_are_waited_for(fresh_database: Database) -> None:
    await ensure(fresh_database)
    async with fresh_database.as_owner() as connection, fresh_database.transaction() as writer:
        await store_event(writer, NOON)
        async with asyncio.timeout(5):
            await ensure_event_partitions(connection, TODAY + DAY)
        await store_event(writer, NOON)
    assert await partitions(fresh_database) == [*ALL, "events_20260305"]


async def test_a_busy_default_partition_postpones_the_new_days(fresh_database: Database) -> None:
    async with fresh_database.transaction() as writer:
        await store_event(writer, NOON - 30 * DAY)
        await ensure(fresh_database)
        assert await partitions(fresh_database) == []
    await ensure(fresh_database)
    assert await partitions(fresh_database) == ALL
