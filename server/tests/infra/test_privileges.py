"""M15: the application's connections cannot rewrite history, and can do everything else; and what happens where the
database's user may not make roles."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from databases import with_database
from nozle_server.bootstrap import build_services, open_database
from nozle_server.core.clock import SystemClock
from nozle_server.infra import privileges
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue, enqueue
from nozle_server.infra.migrate import migrate
from nozle_server.infra.privileges import APPLICATION
from nozle_server.infra.settings import Settings
from world import Client, build_app, open_world
from world import audit as audit_books

pytestmark = pytest.mark.database

LEDGER = ("ledger_entries", "ledger_allocations")
REWRITING = ("update {} set amount = amount", "delete from {}", "truncate {} cascade")


async def a_deduction(database: Database) -> None:
    """A customer's whole way through credits and a bill, by way of the API."""
    services = build_services(database, Settings(), SystemClock())
    world = await open_world(Client(build_app(services)), services)
    await world.turn("2026-01-01")
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.1"}}
    await world.a_plan(amount_cents=500, credits=10, charges=[charge])
    await world.a_customer()
    await world.a_wallet(granted_credits="3")
    await world.subscribe("acme", "pro")
    await world.deduct("acme", 4)
    await world.use("acme", 7)
    await world.turn("2026-03-01")
    assert [invoice["total_amount_cents"] for invoice in await world.invoices("acme")] == [270, 500]
    await audit_books(world)


async def test_the_application_has_no_right_and_the_owner_is_stopped(fresh_database: Database) -> None:
    """In every pool that a server opens."""
    await a_deduction(fresh_database)
    both = await Database.connect(fresh_database.url, connections=1, reserve=1)
    rewriting = [statement.format(table) for table in LEDGER for statement in REWRITING]
    unguarding = [f"alter table {table} disable trigger all" for table in LEDGER]
    for database in (both, both.reserve):
        assert database.is_restricted
        async with database.connection() as connection:
            for statement in (*rewriting, *unguarding, "set session_replication_role = replica"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    await both.close()
    async with fresh_database.as_owner() as owner:
        for statement in rewriting:
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await owner.execute(statement)


async def test_a_connection_stays_restricted_however_often_it_is_used(fresh_database: Database) -> None:
    """Told once, when it is opened; never again for a request, and nothing resets it."""
    for _ in range(3):
        async with fresh_database.connection() as connection:
            assert await connection.fetchval("select current_user") == APPLICATION
            await connection.reset()


async def test_the_job_queue_runs_as_the_application(fresh_database: Database) -> None:
    """Whoever takes a job from the queue's table, by its own connections, is seen there."""
    async with fresh_database.as_owner() as owner:
        await owner.execute(
            """
            create table takers (name text);
            create function note_taker() returns trigger language plpgsql as $$
            begin insert into takers values (current_user); return new; end $$;
            create trigger note_taker before update on pgqueuer for each row execute function note_taker();
            """
        )
    done = asyncio.Event()

    async def work(_: bytes) -> None:
        done.set()

    queue = JobQueue(fresh_database)
    queue.register("work", work)
    async with fresh_database.transaction() as tx:
        await enqueue(tx, "work")
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(20):
        await done.wait()
    await queue.stop()
    await running
    async with fresh_database.connection() as connection:
        takers = await connection.fetch("select distinct name from takers")
    assert [row["name"] for row in takers] == [APPLICATION]


async def test_listeners_run_as_the_application(fresh_database: Database) -> None:
    """Seen by taking a right from it that the owner still has: the listener hears of it at once."""
    async with fresh_database.as_owner() as owner:
        await owner.execute(f"revoke all on outbox from {APPLICATION}")
    bus = build_services(fresh_database, Settings(), SystemClock()).bus
    faults: list[str] = []
    with capture_logs() as logs:
        running = asyncio.create_task(bus.run())
        async with asyncio.timeout(20):
            while not faults:
                await asyncio.sleep(0.02)
                faults = [line["error"] for line in logs if line["event"] == "wake_ups_lost"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert "permission denied for table outbox" in faults[0]


async def test_every_table_present_and_future_is_granted_and_no_more(fresh_database: Database) -> None:
    """Also a partition to come; TRUNCATE nowhere; what a trigger refuses whole is not granted either."""
    async with fresh_database.as_owner() as owner:
        await owner.execute("create table later (org_id uuid primary key, n bigserial)")
        rows = await owner.fetch(
            f"""select c.relname as table, array(select p from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
                    'TRIGGER', 'REFERENCES']) p where has_table_privilege('{APPLICATION}', c.oid, p)) as rights
                from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"""
        )
        rights = {row["table"]: row["rights"] for row in rows}
        refusing = await owner.fetch(
            """select distinct t.tgrelid::regclass::text as table from pg_trigger t
               where tgfoid = 'refuse_change'::regproc and tgtype & 1 > 0 and tgtype & 24 = 24"""
        )
    append_only = {row["table"] for row in refusing}
    assert append_only >= {*LEDGER, "plan_versions", "credit_note_items"}
    all_rights = ["SELECT", "INSERT", "UPDATE", "DELETE"]
    assert {name for name, found in rights.items() if found == ["SELECT", "INSERT"]} == append_only
    assert rights["payments"] == ["SELECT", "INSERT", "UPDATE"]
    others = set(rights) - append_only - {"payments"}
    assert {name for name in others if rights[name] != all_rights} == set()
    assert "later" in others
    async with fresh_database.connection() as connection:
        await connection.execute("insert into later (org_id) values (gen_random_uuid())")


async def test_what_refuses_changes_refuses_truncation(fresh_database: Database) -> None:
    """TRUNCATE fires no row's trigger: every table that refuses DELETE has one of its own against it."""
    async with fresh_database.as_owner() as owner:
        rows = await owner.fetch(
            """select tgrelid::regclass::text as table, bool_or(tgtype & 32 > 0) as truncate,
                   bool_or(tgtype & 8 > 0 and tgfoid = 'refuse_change'::regproc) as delete
               from pg_trigger where not tgisinternal group by 1"""
        )
    assert {row["table"] for row in rows if row["delete"] and not row["truncate"]} == set()


async def test_rights_that_were_lost_are_back_after_the_next_start(fresh_database: Database) -> None:
    """As after a restore into a cluster without the role; a right too many is taken away again."""
    async with fresh_database.as_owner() as owner:
        await owner.execute(f"drop owned by {APPLICATION}")
        await owner.execute(f"grant update on ledger_entries to {APPLICATION}")
    unguarded = await Database.connect(fresh_database.url, connections=1)
    assert not unguarded.is_restricted
    await unguarded.close()
    await migrate(fresh_database.url)
    again = await Database.connect(fresh_database.url, connections=1)
    assert again.is_restricted
    await a_deduction(again)
    async with again.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("update ledger_entries set amount = amount")
    await again.close()


async def test_databases_of_one_cluster_make_the_role_at_once(database_server: str) -> None:
    """The role is the cluster's: whoever is first makes it, and nobody fails."""
    role = f"nozle_race_{uuid.uuid4().hex[:12]}"
    make = privileges._MAKE_ROLE.replace(APPLICATION, role)
    sessions = [await asyncpg.connect(database_server) for _ in range(6)]
    try:
        open_transactions = [session.transaction() for session in sessions]
        for transaction in open_transactions:
            await transaction.start()

        async def make_and_commit(session: asyncpg.Connection, transaction: Any) -> None:
            await session.execute(make)
            await transaction.commit()

        async with asyncio.timeout(20):
            await asyncio.gather(*map(make_and_commit, sessions, open_transactions))
        assert await sessions[0].fetchval("select count(*) from pg_roles where rolname = $1", role) == 1
    finally:
        await sessions[0].execute(f"drop role if exists {role}")
        for session in sessions:
            await session.close()


@dataclass
class Managed:
    """A database whose user may not make roles, as some providers give it, and its administrator."""

    url: str
    login: str
    admin: asyncpg.Connection


@pytest.fixture
async def managed(database_server: str) -> AsyncIterator[Managed]:
    login = f"nozle_tenant_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f"create role {login} login password 'x' nosuperuser nocreaterole")
    await admin.execute(f"create database {login} owner {login}")
    parts = urlsplit(with_database(database_server, login))
    host = parts.netloc.rpartition("@")[2]
    try:
        yield Managed(urlunsplit(parts._replace(netloc=f"{login}:x@{host}")), login, admin)
    finally:
        await admin.execute(f"drop database {login} with (force)")
        await admin.execute(f"drop role {login}")
        await admin.close()


async def test_where_roles_cannot_be_made_triggers_guard_alone_and_it_is_said(managed: Managed) -> None:
    """Until an administrator gives the role; then the next start uses it, and says nothing any more."""
    said: list[str] = []
    settings = Settings(database_url=managed.url, allow_unsafe_durability=True)
    async with open_database(settings, notice=said.append) as database:
        assert not database.is_restricted
        await a_deduction(database)
        for statement in REWRITING:
            async with database.connection() as connection:
                with pytest.raises(asyncpg.RestrictViolationError):
                    await connection.execute(statement.format("ledger_entries"))
    [warning] = [text for text in said if "durab" not in text and "acknowledged" not in text]
    assert warning.startswith("WARNING: the ledger is guarded by triggers alone")
    assert f'GRANT {APPLICATION} TO "{managed.login}"' in warning
    await managed.admin.execute(f'grant {APPLICATION} to "{managed.login}"')
    said.clear()
    async with open_database(settings, notice=said.append) as database:
        assert database.is_restricted
        await a_deduction(database)
        async with database.connection() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("delete from ledger_entries")
    assert not [text for text in said if "triggers" in text]
