"""Migrations run by themselves; servers that start together take turns (U02)."""

import asyncio
import uuid

import asyncpg
import pytest

from databases import with_database
from nozle_server.infra.migrate import migrate

pytestmark = pytest.mark.database


async def test_three_servers_that_start_at_once_all_come_up(database_server: str) -> None:
    """One migrates, the others wait and find nothing left to do."""
    name = f"nozle_migrate_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    try:
        url = with_database(database_server, name)
        await asyncio.gather(*(migrate(url) for _ in range(3)))
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select count(*) from alembic_version") == 1
        assert await connection.fetchval("select count(*) from organizations") == 0
        await connection.close()
    finally:
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()
