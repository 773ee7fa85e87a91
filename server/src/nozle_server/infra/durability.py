"""What a database must promise before Nozle keeps money in it."""

import asyncpg

OLDEST_VERSION_NUM = 150000
DURABLE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
"""Off, each may lose acknowledged commits; any other `synchronous_commit` waits for the local disk."""


class UnsupportedPostgresError(Exception):
    """The database is too old; the message is one sentence for the person at the terminal."""


async def check_durability(connection: asyncpg.Connection) -> list[str]:
    """The names of the settings that make commits of this session unsafe; empty when all is well."""
    rows = await connection.fetch(
        "select name from pg_settings where name = any($1) and setting = 'off' order by name",
        list(DURABLE_SETTINGS),
    )
    return [row["name"] for row in rows]


async def check_version(connection: asyncpg.Connection) -> None:
    """Raise UnsupportedPostgresError for a PostgreSQL older than 15."""
    number = int(await connection.fetchval("show server_version_num"))
    if number < OLDEST_VERSION_NUM:
        name = await connection.fetchval("show server_version")
        raise UnsupportedPostgresError(f"this database is PostgreSQL {name}, and Nozle needs 15 or newer")
