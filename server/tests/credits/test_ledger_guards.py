"""What the database itself refuses, whoever asks: rewriting history, and balances below zero."""

import asyncpg
import pytest

from world import World, audit

pytestmark = pytest.mark.database

REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError)


async def _a_history(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=500, credits=10)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.deduct("acme", 4)
    await world.turn("2026-02-01")


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger_entries set amount = amount - 1 where org_id = $1",
        "delete from ledger_entries where org_id = $1",
        "update ledger_allocations set amount = amount - 1 where org_id = $1",
        "delete from ledger_allocations where org_id = $1",
        "update plan_versions set amount_cents = 0 where org_id = $1",
        "delete from plan_versions where org_id = $1",
        "update invoice_lines set amount_cents = 0 where org_id = $1",
        "delete from invoice_lines where org_id = $1",
        "update invoices set total_amount_cents = 0 where org_id = $1",
        "update invoices set status = 'draft' where org_id = $1",
        "delete from invoices where org_id = $1",
    ],
)
async def test_history_cannot_be_changed(world: World, statement: str) -> None:
    """M15: the application has no right to, and a trigger stops the owner too."""
    await _a_history(world)
    with pytest.raises(REFUSED):
        await world.fetch(statement)
    async with world.database.as_owner() as connection:
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(statement, world.org_id)
    await audit(world)


@pytest.mark.parametrize(
    "table", ["ledger_entries", "ledger_allocations", "invoices", "invoice_lines", "plan_versions"]
)
async def test_history_cannot_be_truncated(world: World, table: str) -> None:
    """M15, with everything that refers to it too."""
    await _a_history(world)
    async with world.database.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"truncate {table} cascade")
    async with world.database.as_owner() as connection:
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(f"truncate {table} cascade")
    await audit(world)


async def test_a_finalized_invoice_gets_no_further_line(world: World) -> None:
    """T05: the total stays the sum of the lines, also when a line is added behind the invoice's back."""
    await _a_history(world)
    async with world.database.connection() as connection:
        with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
            await connection.execute(
                """
                insert into invoice_lines
                select (r).* from (
                    select jsonb_populate_record(l, jsonb_build_object('id', gen_random_uuid(), 'position', 99)) as r
                    from invoice_lines l where org_id = $1 limit 1) added
                """,
                world.org_id,
            )
    await audit(world)


@pytest.mark.parametrize(
    "statement",
    [
        "update credit_accounts set balance = -0.000000000001 where org_id = $1",
        "update credit_grants set remaining = -1 where org_id = $1",
        "update credit_grants set remaining = amount + 1 where org_id = $1",
    ],
)
async def test_balances_cannot_go_below_zero(world: World, statement: str) -> None:
    """M02: by CHECK, not only by code."""
    await _a_history(world)
    with pytest.raises(asyncpg.CheckViolationError):
        await world.fetch(statement)
