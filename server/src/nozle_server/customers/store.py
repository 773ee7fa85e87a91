"""All SQL of customers."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.infra.counters import next_number
from nozle_server.infra.database import Tx

_COLUMNS = (
    "org_id, id, external_id, sequential_id, name, email, currency, timezone, details, net_payment_term,"
    " invoice_grace_period, finalize_zero_invoices, created_at, updated_at"
)


def from_row(row: asyncpg.Record) -> Customer:
    return Customer(**dict(row))


async def find(tx: Tx, org_id: UUID, external_id: str) -> Customer | None:
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and external_id = $2", org_id, external_id
    )
    return from_row(row) if row else None


async def find_by_id(tx: Tx, org_id: UUID, customer_id: UUID) -> Customer | None:
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and id = $2", org_id, customer_id
    )
    return from_row(row) if row else None


async def lock(tx: Tx, org_id: UUID, external_id: str) -> Customer | None:
    """The customer, held until the transaction ends: one change of subscription at a time."""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and external_id = $2 for no key update",
        org_id,
        external_id,
    )
    return from_row(row) if row else None


async def lock_by_id(tx: Tx, org_id: UUID, customer_id: UUID) -> Customer:
    """As `lock`, for a customer that something of ours refers to."""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and id = $2 for no key update",
        org_id,
        customer_id,
    )
    assert row is not None, "customers are only marked as deleted"
    return from_row(row)


async def update(tx: Tx, org_id: UUID, changes: CustomerChanges, now: datetime) -> Customer | None:
    """Set what is given on an existing customer; None when there is none."""
    row = await tx.fetchrow(
        f"""
        update customers set
            name = coalesce($3, name), email = coalesce($4, email), currency = coalesce($5, currency),
            timezone = coalesce($6, timezone), details = details || $7, updated_at = $8
        where org_id = $1 and external_id = $2
        returning {_COLUMNS}
        """,
        org_id,
        changes.external_id,
        changes.name,
        changes.email,
        changes.currency,
        changes.timezone,
        changes.details,
        now,
    )
    return from_row(row) if row else None


async def insert(
    tx: Tx, org_id: UUID, customer_id: UUID, changes: CustomerChanges, now: datetime
) -> Customer | None:
    """A new customer; None when somebody else made it meanwhile."""
    number = await next_number(tx, org_id, "customers")
    row = await tx.fetchrow(
        f"""
        insert into customers (org_id, id, external_id, sequential_id, name, email, currency, timezone, details,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
        on conflict (org_id, external_id) do nothing
        returning {_COLUMNS}
        """,
        org_id,
        customer_id,
        changes.external_id,
        number,
        changes.name,
        changes.email,
        changes.currency,
        changes.timezone,
        changes.details,
        now,
    )
    return from_row(row) if row else None


async def find_ids(tx: Tx, org_id: UUID, external_ids: Sequence[str]) -> dict[str, UUID]:
    """Our ids of the customers among these that exist, by the merchant's ids."""
    rows = await tx.fetch(
        "select external_id, id from customers where org_id = $1 and external_id = any($2)",
        org_id,
        list(external_ids),
    )
    return {row["external_id"]: row["id"] for row in rows}
