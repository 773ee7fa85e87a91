"""Day partitions of `events`, made ahead so that each index stays as small as a day.

A day without a partition loses nothing: its events lie in `events_default`, and stay there once there is one.
"""

from datetime import UTC, date, datetime, time, timedelta

import asyncpg
import structlog

log = structlog.get_logger()

# Whichever of the catalogue's unique keys (table, its row type, their names) the other server took first.
_MADE_BY_ANOTHER_SERVER = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
)
_POSTPONED = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.CheckViolationError)


async def ensure_event_partitions(connection: asyncpg.Connection, today: date, days_ahead: int = 3) -> None:
    """Make the partitions of yesterday to `today` + `days_ahead` that are missing; days are UTC.

    `connection` is outside any transaction. A day that cannot be had now is left for the next call.
    """
    for offset in range(-1, days_ahead + 1):
        day = today + timedelta(days=offset)
        start = datetime.combine(day, time(), UTC)
        end = start + timedelta(days=1)
        name = f"events_{day:%Y%m%d}"
        # Not in the transaction that makes it: two servers, each still reading the default partition that the
        # other wants to lock, would both give up.
        if await _exists(connection, name) or await _has_begun_in_default(connection, start, end):
            continue
        try:
            await _make(connection, name, start, end)
        except _MADE_BY_ANOTHER_SERVER:
            continue
        except _POSTPONED as fault:
            log.warning("event_partition_postponed", partition=name, error=str(fault))


async def _exists(connection: asyncpg.Connection, name: str) -> bool:
    return bool(await connection.fetchval("select to_regclass($1) is not null", name))


async def _has_begun_in_default(connection: asyncpg.Connection, start: datetime, end: datetime) -> bool:
    return bool(
        await connection.fetchval(
            "select exists (select from events_default where occurred_at >= $1 and occurred_at < $2)",
            start,
            end,
        )
    )


async def _make(connection: asyncpg.Connection, name: str, start: datetime, end: datetime) -> None:
    # CREATE TABLE ... PARTITION OF would lock out every reader and writer. ATTACH lets them go on, except those
    # of the default partition, which it locks and reads to its end: they wait 1.2 seconds at most.
    async with connection.transaction():
        await connection.execute(
            f"""
            set local lock_timeout = '200ms';
            set local statement_timeout = '1s';
            create table {name} (like events including all);
            alter table events attach partition {name} for values from ('{start}') to ('{end}');
            """
        )
