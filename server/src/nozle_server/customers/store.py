"""All SQL of customers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.customers.model import Customer, CustomerChanges, CustomerFilter
from nozle_server.infra.batch import read_once
from nozle_server.infra.counters import next_number
from nozle_server.infra.database import TakenMeanwhile, Tx

_COLUMNS = (
    "org_id, id, external_id, sequential_id, name, email, currency, timezone, details, net_payment_term,"
    " invoice_grace_period, finalize_zero_invoices, created_at, updated_at, deleted_at"
)
_SETTABLE = (
    "name",
    "email",
    "currency",
    "timezone",
    "net_payment_term",
    "invoice_grace_period",
    "finalize_zero_invoices",
)


def from_row(row: asyncpg.Record) -> Customer:
    return Customer(**dict(row))


async def find(tx: Tx, org_id: UUID, external_id: str) -> Customer | None:
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and external_id = $2 and deleted_at is null",
        org_id,
        external_id,
    )
    return from_row(row) if row else None


@read_once
async def find_by_id(tx: Tx, org_id: UUID, customer_id: UUID) -> Customer | None:
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and id = $2", org_id, customer_id
    )
    return from_row(row) if row else None


async def lock(tx: Tx, org_id: UUID, external_id: str) -> Customer | None:
    """The customer, held until the transaction ends: one change of subscription at a time."""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and external_id = $2 and deleted_at is null for no key update",
        org_id,
        external_id,
    )
    return from_row(row) if row else None


@read_once
async def lock_by_id(tx: Tx, org_id: UUID, customer_id: UUID) -> Customer:
    """As `lock`, for a customer that something of ours refers to."""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from customers where org_id = $1 and id = $2 for no key update",
        org_id,
        customer_id,
    )
    assert row is not None, "customers are only marked as deleted"
    return from_row(row)


async def get_many(
    tx: Tx, org_id: UUID, customer_ids: Sequence[UUID], *, lock: bool = False
) -> list[Customer]:
    """These customers, in order of id; `lock` holds them as `lock` does."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from customers where org_id = $1 and id = any($2) order by id
            {"for no key update" if lock else ""}""",
        org_id,
        list(customer_ids),
    )
    return [from_row(row) for row in rows]


async def lock_many(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> None:
    """Hold these customers until the transaction ends, in order of id, so that two who want several wait in turn."""
    await tx.execute(
        "select id from customers where org_id = $1 and id = any($2) order by id for no key update",
        org_id,
        list(customer_ids),
    )


async def lock_many_now(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> None:
    """As `lock_many`, for who holds already what should be held after them: TakenMeanwhile instead of waiting."""
    try:
        await tx.execute(
            "select id from customers where org_id = $1 and id = any($2) for no key update nowait",
            org_id,
            list(customer_ids),
        )
    except asyncpg.LockNotAvailableError as fault:
        raise TakenMeanwhile from fault


async def update(tx: Tx, org_id: UUID, changes: CustomerChanges, now: datetime) -> Customer | None:
    """Set what is given on an existing customer; None when there is none."""
    assert changes.values.keys() <= set(_SETTABLE), "column names come from our own list"
    assignments = "".join(f"{name} = ${n}, " for n, name in enumerate(changes.values, start=5))
    row = await tx.fetchrow(
        f"""
        update customers set {assignments} details = details || $3, updated_at = $4
        where org_id = $1 and external_id = $2 and deleted_at is null
        returning {_COLUMNS}
        """,
        org_id,
        changes.external_id,
        changes.details,
        now,
        *changes.values.values(),
    )
    return from_row(row) if row else None


async def insert(
    tx: Tx, org_id: UUID, customer_id: UUID, changes: CustomerChanges, now: datetime
) -> Customer | None:
    """A new customer; None when somebody else made it meanwhile."""
    number = await next_number(tx, org_id, "customers")
    row = await tx.fetchrow(
        f"""
        insert into customers (org_id, id, external_id, sequential_id, details, created_at, updated_at,
            {", ".join(_SETTABLE)})
        values ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict (org_id, external_id) where deleted_at is null do nothing
        returning {_COLUMNS}
        """,
        org_id,
        customer_id,
        changes.external_id,
        number,
        changes.details,
        now,
        *(changes.values.get(name) for name in _SETTABLE),
    )
    return from_row(row) if row else None


async def mark_deleted(tx: Tx, org_id: UUID, customer_id: UUID, now: datetime) -> Customer:
    row = await tx.fetchrow(
        f"""update customers set deleted_at = $3, updated_at = $3 where org_id = $1 and id = $2
            returning {_COLUMNS}""",
        org_id,
        customer_id,
        now,
    )
    assert row is not None, "customers are only marked as deleted"
    return from_row(row)


async def list_customers(
    tx: Tx, org_id: UUID, wanted: CustomerFilter, *, limit: int, offset: int
) -> tuple[list[Customer], int]:
    """A page of customers, newest first, and how many there are."""
    where, values = _conditions(org_id, wanted)
    total = await tx.fetchval(f"select count(*) from customers where {where}", *values)
    rows = await tx.fetch(
        f"""select {_COLUMNS} from customers where {where} order by created_at desc, id desc
            limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        offset,
    )
    return [from_row(row) for row in rows], total


def _conditions(org_id: UUID, wanted: CustomerFilter) -> tuple[str, list[Any]]:
    values: list[Any] = [org_id]
    conditions = ["org_id = $1 and deleted_at is null"]

    def also(condition: str, value: object) -> None:
        if value is not None and value != ():
            values.append(list(value) if isinstance(value, tuple) else value)
            conditions.append(condition.format(f"${len(values)}"))

    also(
        """exists (select 1 from unnest(array[name, external_id, email, details ->> 'firstname',
            details ->> 'lastname', details ->> 'legal_name']) word where strpos(lower(word), lower({})) > 0)""",
        wanted.search_term,
    )
    also("currency = any({})", wanted.currencies)
    also("details ->> 'country' = any({})", wanted.countries)
    also("details ->> 'state' = any({})", wanted.states)
    also("details ->> 'zipcode' = any({})", wanted.zipcodes)
    also("details ->> 'customer_type' = {}", wanted.customer_type)
    also("(details ->> 'customer_type' is not null) = {}", wanted.has_customer_type)
    also("(details ->> 'tax_identification_number' is not null) = {}", wanted.has_tax_identification_number)
    for key, value in wanted.metadata.items():
        also(
            "coalesce(details -> 'metadata', '[]') @> {}"
            if value
            else "not coalesce(details -> 'metadata', '[]') @> {}",
            [{"key": key, "value": value} if value else {"key": key}],
        )
    return " and ".join(conditions), values


async def find_ids(tx: Tx, org_id: UUID, external_ids: Sequence[str]) -> dict[str, UUID]:
    """Our ids of the customers among these that exist, by the merchant's ids."""
    rows = await tx.fetch(
        """select external_id, id from customers
           where org_id = $1 and external_id = any($2) and deleted_at is null""",
        org_id,
        list(external_ids),
    )
    return {row["external_id"]: row["id"] for row in rows}
