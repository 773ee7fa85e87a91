"""Changes from elsewhere, so many a second: rows of the outbox as another process would write them, and its notification."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg

from nozle_server.infra.change_bus import CHANNEL, publish_once
from nozle_server.infra.database import prepare_connection
from nozle_server.workflows.announce import usage_counted


class Changes:
    """How many were made, and in what time."""

    def __init__(self) -> None:
        self.made = 0
        self.began = time.perf_counter()

    @property
    def per_second(self) -> float:
        return self.made / (time.perf_counter() - self.began)


@asynccontextmanager
async def changing(
    database_url: str, org_id: str, names: Sequence[str], *, per_second: int
) -> AsyncIterator[Changes]:
    """As if usage of a customer had been counted, drawn at random each time: the server drops what it keeps of that one."""
    connection = await asyncpg.connect(database_url)
    await prepare_connection(connection)
    changes, chance = Changes(), random.Random(1)

    async def change() -> None:
        while True:
            due = changes.began + changes.made / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            async with connection.transaction():
                await publish_once(connection, usage_counted(UUID(org_id), [chance.choice(names)]))
            await connection.execute(f"notify {CHANNEL}")
            changes.made += 1

    task = asyncio.create_task(change())
    try:
        yield changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await connection.close()
