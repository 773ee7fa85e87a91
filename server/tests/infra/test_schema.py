"""The schema's rules, read from PostgreSQL's own catalogue after all migrations."""

import pytest

from nozle_server.infra.database import Database

pytestmark = pytest.mark.database

# Tables that belong to no organization, and why.
GLOBAL = {
    "organizations": "an organization itself",
    "alembic_version": "which migrations have run",
    "pgqueuer": "the job queue's own",
    "pgqueuer_log": "the job queue's own",
    "pgqueuer_statistics": "the job queue's own",
    "pgqueuer_schedules": "the job queue's own",
    "audit_results": "of all organizations together",
    "server_leases": "the server's own: which of its processes does what only one may",
    "server_secrets": "the server's own, such as the one that signs tokens",
}
# Keys that cannot begin with the organization, and why.
EXCEPTIONS = {
    "api_keys_pkey": "a key is looked up by its hash before anyone knows whose it is",
}


async def test_the_organization_comes_first_in_every_key(database: Database) -> None:
    """Rule 1: primary keys and unique keys begin with org_id, so that no query can cross tenants by equal ids."""
    rows = await database_rows(
        database,
        """
        select t.relname as table, i.relname as key, (
            select a.attname from pg_attribute a where a.attrelid = t.oid and a.attnum = x.indkey[0]) as first
        from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
        where t.relnamespace = 'public'::regnamespace and x.indisunique and not t.relispartition
        """,
    )
    assert rows
    wrong = {
        row["key"]
        for row in rows
        if row["first"] != "org_id" and row["table"] not in GLOBAL and row["key"] not in EXCEPTIONS
    }
    assert not wrong


async def test_every_reference_stays_inside_the_organization(database: Database) -> None:
    """Rule 2: a foreign key is (org_id, ...) to (org_id, ...), or org_id to organizations."""
    rows = await database_rows(
        database,
        """
        select c.conname as key, c.conrelid::regclass::text as table, c.confrelid::regclass::text as target,
            (select attname from pg_attribute where attrelid = c.conrelid and attnum = c.conkey[1]) as first,
            (select attname from pg_attribute where attrelid = c.confrelid and attnum = c.confkey[1]) as target_first
        from pg_constraint c where c.contype = 'f' and c.connamespace = 'public'::regnamespace
        """,
    )
    assert rows
    wrong = {
        row["key"]
        for row in rows
        if row["table"] not in GLOBAL
        and (row["first"], row["target_first"])
        != ("org_id", "id" if row["target"] == "organizations" else "org_id")
    }
    assert not wrong


async def test_every_table_has_a_primary_key_and_an_organization(database: Database) -> None:
    rows = await database_rows(
        database,
        """
        select t.relname as table,
            exists (select 1 from pg_index x where x.indrelid = t.oid and x.indisprimary) as keyed,
            exists (select 1 from pg_attribute a where a.attrelid = t.oid and a.attname = 'org_id' and a.attnotnull) as owned
        from pg_class t where t.relnamespace = 'public'::regnamespace and t.relkind in ('r', 'p')
        """,
    )
    assert not {row["table"] for row in rows if not row["keyed"]}
    assert not {row["table"] for row in rows if not row["owned"]} - set(GLOBAL)


async def test_nothing_is_a_float_and_every_amount_is_exact(database: Database) -> None:
    """M14: no float or money column anywhere; amounts, balances and units are NUMERIC or integers."""
    rows = await database_rows(
        database,
        """
        select table_name || '.' || column_name as column, data_type from information_schema.columns
        where table_schema = 'public'
        """,
    )
    assert not {row["column"] for row in rows if row["data_type"] in ("real", "double precision", "money")}
    words = ("amount", "cents", "balance", "units", "quantity", "credits", "remaining")
    inexact = {
        row["column"]: row["data_type"]
        for row in rows
        if any(word in row["column"].partition(".")[2] for word in words)
        and row["data_type"] not in ("numeric", "bigint")
    }
    assert not inexact


async def test_every_instant_knows_its_zone(database: Database) -> None:
    rows = await database_rows(
        database,
        """
        select table_name || '.' || column_name as column from information_schema.columns
        where table_schema = 'public' and data_type = 'timestamp without time zone'
        """,
    )
    assert not {row["column"] for row in rows}


async def database_rows(database: Database, sql: str) -> list[dict[str, str]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch(sql)]
