"""Group M of reliability.md: what the database itself refuses to a session that has the servers' address and role."""

import asyncpg
import pytest

from chaos.clients import Client
from chaos.harness import Installation

REFUSED = (asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)


@pytest.mark.parametrize("table", ["ledger_entries", "ledger_allocations"])
@pytest.mark.parametrize(
    "statement",
    [
        "update {table} set amount = amount + 1",
        "update {table} set amount = amount",
        "delete from {table}",
        "truncate {table} cascade",
        "update {table} set org_id = gen_random_uuid()",
        "with gone as (delete from {table} returning *) select count(*) from gone",
    ],
)
async def test_m15_the_ledger_cannot_be_rewritten(
    installation: Installation, client: Client, table: str, statement: str
) -> None:
    await client.a_customer("acme", 10)
    await client.deduct("acme", 3)
    before = await client.entries("acme")
    async with installation.session() as connection:
        with pytest.raises(REFUSED):
            await connection.execute(statement.format(table=table))
    assert await client.entries("acme") == before


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
