"""A database of today: nobody has analyzed it yet."""

import asyncio

import pytest

from deductions import take, with_credits
from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Client, audit, open_world

pytestmark = pytest.mark.database


async def test_a_young_ledger_is_not_read_from_end_to_end_for_each_entry(fresh_database: Database) -> None:
    """A plan made while the tables were almost empty reads them all, and stays with its connection: also that of a foreign
    key's check, which runs for every row written."""
    entries = 2_000
    services = build_services(fresh_database, Settings(), SystemClock())
    world = await open_world(Client(build_app(services)), services)
    await with_credits(world, entries)
    database = await Database.connect(world.database.url, connections=1, generic_plans=True)
    group = GroupCommit(database, world.services.bus)
    try:
        for _ in range(entries // 20):
            await asyncio.gather(*(take(group, world, 1) for _ in range(20)))
        async with database.connection() as connection:
            await connection.execute("select pg_stat_force_next_flush()")
            read = await connection.fetchval(
                """select sum(seq_tup_read) + (select sum(idx_tup_read) from pg_stat_user_indexes
                       where relname = 'ledger_entries')
                   from pg_stat_user_tables where relname = 'ledger_entries'"""
            )
    finally:
        await group.close()
        await database.close()
    assert read < entries**2 / 4
    await audit(world)
