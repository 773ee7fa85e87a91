"""Migrations run by themselves; servers that start together take turns (U02)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from databases import with_database
from nozle_server.infra.migrate import migrate

pytestmark = pytest.mark.database


@asynccontextmanager
async def an_empty_database(database_server: str) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """Its URL, and a connection to it. It is dropped afterwards."""
    name = f"nozle_migrate_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    try:
        url = with_database(database_server, name)
        connection = await asyncpg.connect(url)
        yield url, connection
        await connection.close()
    finally:
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


async def test_three_servers_that_start_at_once_all_come_up(database_server: str) -> None:
    """One migrates, the others wait and find nothing left to do."""
    async with an_empty_database(database_server) as (url, connection):
        await asyncio.gather(*(migrate(url) for _ in range(3)))
        assert await connection.fetchval("select count(*) from alembic_version") == 1
        assert await connection.fetchval("select count(*) from organizations") == 0


async def test_k01_a_migration_that_is_cut_off_before_its_version_is_noted_has_done_nothing(
    database_server: str,
) -> None:
    """The next start does it again, from its beginning: here the database refuses the version, as a kill would."""
    async with an_empty_database(database_server) as (url, connection):
        await migrate(url, to="0001")
        await connection.execute(
            """
            create function refuse() returns trigger language plpgsql as $$ begin raise 'cut off'; end $$;
            create trigger refuse before update on alembic_version for each row
                when (new.version_num = '0004') execute function refuse();
            """
        )
        with pytest.raises(Exception, match="cut off"):
            await migrate(url)
        assert await connection.fetchval("select to_regclass('invoice_subscriptions')") is None
        await connection.execute("drop trigger refuse on alembic_version")
        await migrate(url)
        assert await connection.fetchval("select to_regclass('invoice_subscriptions')") is not None


async def test_organizations_of_earlier_releases_get_the_default_credit_system(database_server: str) -> None:
    """Decision 6: every organization has `credits`, also one that was there before there were credit systems."""
    async with an_empty_database(database_server) as (url, connection):
        await migrate(url, to="0012")
        await connection.execute(
            """insert into organizations (id, name, mode, created_at)
               select gen_random_uuid(), n::text, 'test', now() from generate_series(1, 3) n"""
        )
        await migrate(url)
        rows = await connection.fetch(
            """select o.id, array_agg(s.code || ' ' || s.status) as systems from organizations o
               left join credit_systems s on s.org_id = o.id group by o.id"""
        )
        assert [row["systems"] for row in rows] == [["credits active"]] * 3


async def test_watches_of_channels_are_gone_and_others_stay(database_server: str) -> None:
    """An earlier release watched the usage of who had a channel; usage is announced without it."""
    async with an_empty_database(database_server) as (url, connection):
        await migrate(url, to="0022")
        await connection.execute(
            """
            insert into organizations (id, name, mode, created_at) values (gen_random_uuid(), 'one', 'test', now());
            insert into watches (org_id, kind, key, id)
                select o.id, kind, 'acme', gen_random_uuid()
                from organizations o, unnest(array['realtime', 'check_progress']) kind;
            insert into realtime_channels (org_id, name, watch_key, epoch, touched_at)
                select o.id, 'acme', 'acme', 'one', now() from organizations o;
            """
        )
        await migrate(url)
        assert await connection.fetchval("select array_agg(kind) from watches") == ["check_progress"]
        assert await connection.fetchval("select count(*) from realtime_channels") == 1
