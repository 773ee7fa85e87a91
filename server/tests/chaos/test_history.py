"""Group M of reliability.md: what the database itself refuses, to a session as the servers have them and to its owner."""

import asyncpg
import pytest

from chaos.clients import Client
from chaos.harness import Installation
from nozle_server.infra.privileges import APPLICATION

REFUSED = (asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)
REWRITING = [
    "update {table} set amount = amount + 1",
    "update {table} set amount = amount",
    "delete from {table}",
    "truncate {table} cascade",
    "update {table} set org_id = gen_random_uuid()",
    "with gone as (delete from {table} returning *) select count(*) from gone",
]


@pytest.mark.parametrize("role", [APPLICATION, "none"])
@pytest.mark.parametrize("table", ["ledger_entries", "ledger_allocations"])
async def test_m15_the_ledger_cannot_be_rewritten(
    installation: Installation, client: Client, table: str, role: str
) -> None:
    """Not by the role that the servers run as, and not by the database's owner."""
    await client.a_customer("acme", 10)
    await client.deduct("acme", 3)
    before = await client.entries("acme")
    async with installation.session() as connection:
        await connection.execute(f"set role {role}")
        for statement in REWRITING:
            with pytest.raises(REFUSED):
                await connection.execute(statement.format(table=table))
    assert await client.entries("acme") == before


@pytest.mark.parametrize(
    "statement",
    [
        "alter table ledger_entries disable trigger all",
        "drop trigger append_only on ledger_entries",
        "set session_replication_role = replica",
        "alter table ledger_entries owner to nozle_app",
        "drop table ledger_entries cascade",
    ],
)
async def test_m15_the_guards_cannot_be_switched_off_by_the_servers_role(
    installation: Installation, client: Client, statement: str
) -> None:
    await client.a_customer("acme", 10)
    async with installation.session() as connection:
        await connection.execute(f"set role {APPLICATION}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    assert len(await client.entries("acme")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update credit_accounts set balance = balance - 8",
        "update credit_accounts set balance = -0.000000000001",
        "update credit_grants set remaining = remaining - 8",
    ],
)
async def test_m02_the_database_refuses_a_balance_below_zero(
    installation: Installation, client: Client, statement: str
) -> None:
    await client.a_customer("acme", 10)
    await client.deduct("acme", 3)
    async with installation.session() as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"{statement} where org_id = $1", installation.merchants[-1].org_id)
    assert await client.balance("acme") == 7
