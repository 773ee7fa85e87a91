"""What a process insists on before it serves."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from databases import with_database
from nozle_server.bootstrap import UnsafeDatabaseError, open_database
from nozle_server.infra.settings import Settings

pytestmark = pytest.mark.database


@pytest.fixture
async def unsafe_url(database_server: str) -> AsyncIterator[str]:
    """A database that may lose what it acknowledged: synchronous_commit is off."""
    name = f"nozle_unsafe_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    await admin.execute(f'alter database "{name}" set synchronous_commit = off')
    try:
        yield with_database(database_server, name)
    finally:
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


async def test_refuses_a_database_that_may_lose_acknowledged_writes(unsafe_url: str) -> None:
    """I12: the refusal names what is off, and comes before anything is written."""
    with pytest.raises(UnsafeDatabaseError, match="synchronous_commit"):
        async with open_database(Settings(database_url=unsafe_url), notice=lambda _: None):
            pytest.fail("it must not open")
    connection = await asyncpg.connect(unsafe_url)
    assert await connection.fetchval("select to_regclass('organizations')") is None
    await connection.close()


async def test_starts_on_it_when_told_so_and_says_it_loudly(unsafe_url: str) -> None:
    """I12: with NOZLE_ALLOW_UNSAFE_DURABILITY the start warns and goes on."""
    said: list[str] = []
    settings = Settings(database_url=unsafe_url, allow_unsafe_durability=True)
    async with open_database(settings, notice=said.append) as database, database.connection() as connection:
        assert await connection.fetchval("select 1") == 1
    assert len(said) == 1
    assert said[0].startswith("WARNING")
