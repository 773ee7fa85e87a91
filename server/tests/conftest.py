"""Fixtures that every test may use.

One PostgreSQL for the whole run: the embedded one, or NOZLE_TEST_DATABASE_URL. Tests share a database and keep apart by
organization, as customers of one server do; a test that looks at global tables takes `fresh_database`.
"""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import announced
from databases import with_database
from nozle_server.infra.database import Database
from nozle_server.infra.migrate import migrate


@pytest.fixture(scope="session")
async def database_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """URL of a PostgreSQL on which this run may create databases."""
    given = os.environ.get("NOZLE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    from nozle_server.infra.data_directory import DataDirectory
    from nozle_server.infra.embedded_postgres import EmbeddedPostgres

    folder: Path = tmp_path_factory.mktemp("nozle-data")
    directory = DataDirectory(folder)
    directory.lock()
    postgres = EmbeddedPostgres(directory)
    await postgres.start()
    try:
        yield postgres.url
    finally:
        await postgres.stop()
        directory.release()


@pytest.fixture(scope="session")
async def database_url(database_server: str) -> AsyncIterator[str]:
    """URL of a migrated database that this run's tests share."""
    name = f"nozle_test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    url = with_database(database_server, name)
    await migrate(url)
    owner = await asyncpg.connect(url)
    await announced.install(owner)
    await owner.close()
    try:
        yield url
    finally:
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the shared database."""
    database = await Database.connect(database_url, connections=12, reserve=6)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def fresh_database_url(database_server: str) -> AsyncIterator[str]:
    """URL of a migrated database of this test's own, with nothing in it."""
    name = f"nozle_fresh_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    url = with_database(database_server, name)
    await migrate(url)
    try:
        yield url
    finally:
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


@pytest.fixture
async def fresh_database(fresh_database_url: str) -> AsyncIterator[Database]:
    """A pool on a migrated database of this test's own, with nothing in it."""
    database = await Database.connect(fresh_database_url, connections=8)
    try:
        yield database
    finally:
        await database.close()
