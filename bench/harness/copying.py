"""Raw COPY: the fastest way that PostgreSQL takes rows in, one durable transaction a batch."""

import asyncio
import io
import time
from collections.abc import Sequence

import asyncpg

from harness.measurement import Measurement

_TABLE = "bench_copy"


async def stored_rows(connection: asyncpg.Connection, count: int) -> list[bytes]:
    """Events that the server has stored, as COPY writes them: what the yardstick then copies in."""
    output = io.BytesIO()
    await connection.copy_from_query("select * from events limit $1", count, output=output)
    return output.getvalue().splitlines(keepends=True)


async def measure(database_url: str, rows: Sequence[bytes], *, connections: int, seconds: int) -> Measurement:
    """COPY `rows` into a plain logged table with the columns of `events`, again and again.

    The table has neither index nor constraint, and nothing is encoded on the way.
    """
    batch = b"".join(rows)
    opened = [await asyncpg.connect(database_url) for _ in range(connections)]
    try:
        await opened[0].execute(f"create table {_TABLE} (like events)")
        latencies: list[float] = []
        started = time.perf_counter()

        async def copy(connection: asyncpg.Connection) -> None:
            while (begun := time.perf_counter()) - started < seconds:
                await connection.copy_to_table(_TABLE, source=io.BytesIO(batch))
                latencies.append(time.perf_counter() - begun)

        await asyncio.gather(*(copy(connection) for connection in opened))
        taken = time.perf_counter() - started
        await opened[0].execute(f"drop table {_TABLE}")
    finally:
        await asyncio.gather(*(connection.close() for connection in opened))
    return Measurement.of(latencies, taken)
