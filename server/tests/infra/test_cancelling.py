"""Who is called off in the midst of a transaction is called off: nothing that tidies up behind it may hide that."""

import asyncio
from typing import Any

import asyncpg
import pytest

from nozle_server.core.errors import Unavailable
from nozle_server.infra.database import Database

pytestmark = pytest.mark.database


@pytest.mark.parametrize("statement", ["select pg_sleep(30)", "select 1 from pg_sleep(30)"])
async def test_a_cancellation_stays_one_while_a_statement_runs(database: Database, statement: str) -> None:
    for pause_s in (0.0, 0.001, 0.01, 0.1):
        task = asyncio.create_task(database.run(lambda tx: tx.fetchval(statement), deadline_s=20))
        await asyncio.sleep(pause_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.run(lambda tx: tx.fetchval("select 1")) == 1


async def test_a_cancellation_stays_one_where_the_connection_has_been_ended_already(
    database: Database,
) -> None:
    """Ending a connection gives it back to the pool, which then knows it no more."""

    async def work(tx: asyncpg.Connection) -> Any:
        tx.terminate()
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await database.run(work)


async def test_out_of_time_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.run(lambda tx: tx.fetchval("select pg_sleep(30)"), deadline_s=0.05)
