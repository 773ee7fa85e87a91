"""What an audit costs: every row is read a few times, however little PostgreSQL's planner knows of an organization."""

import pytest

from nozle_server.api.app import build_app
from nozle_server.audit.queries import audit
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Client, open_world

pytestmark = pytest.mark.database

KNOWN, GRANTS = 20, 150
READS = 40
"""How often all checks together may read a row. Where each is looked up for each other one it is thousands."""
_READ = """select relname, seq_tup_read + idx_tup_fetch as read from pg_stat_xact_user_tables
    where relname in ('credit_grants', 'ledger_entries', 'ledger_allocations') order by 1"""


async def test_x00_an_organization_that_the_planner_never_heard_of_is_read_row_by_row(
    fresh_database_url: str,
) -> None:
    database = await Database.connect(fresh_database_url, connections=2)
    try:
        services = build_services(database, Settings(), SystemClock())
        client = Client(build_app(services))
        for _ in range(2):
            known = await open_world(client, services)
            await known.a_customer()
            for _ in range(KNOWN):
                await known.grant("acme", 1)
        async with database.as_owner() as connection:
            await connection.execute("analyze")
        unknown = await open_world(client, services)
        await unknown.a_customer()
        for _ in range(GRANTS):
            await unknown.grant("acme", 1)
        async with database.snapshot() as tx:
            before = dict(await tx.fetch(_READ))
            report = await audit(tx, real_now=services.clock.now(), org_id=unknown.org_id)
            read = {table: rows - before[table] for table, rows in await tx.fetch(_READ)}
    finally:
        await database.close()
    assert report.findings_count == 0
    assert set(read) == {"credit_grants", "ledger_entries", "ledger_allocations"}
    there = 2 * KNOWN + GRANTS
    assert all(GRANTS <= rows <= READS * there for rows in read.values()), read
