"""All SQL of taxes, and rows <-> values."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx
from nozle_server.taxes.model import Tax

_NAMES = (
    "org_id",
    "id",
    "code",
    "name",
    "description",
    "rate",
    "applied_to_organization",
    "created_at",
    "updated_at",
)
_TAX = ", ".join(f"t.{name}" for name in _NAMES)


def from_row(row: asyncpg.Record) -> Tax:
    return Tax(**{name: row[name] for name in _NAMES})


async def find_tax(tx: Tx, org_id: UUID, code: str) -> Tax | None:
    return (await find_taxes(tx, org_id, [code])).get(code)


async def lock_tax(tx: Tx, org_id: UUID, code: str) -> Tax | None:
    """The tax, held until the transaction ends."""
    row = await tx.fetchrow(
        f"""select {_TAX} from taxes t where t.org_id = $1 and t.code = $2 and t.deleted_at is null
            for no key update""",
        org_id,
        code,
    )
    return from_row(row) if row else None


async def find_taxes(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, Tax]:
    rows = await tx.fetch(
        f"select {_TAX} from taxes t where t.org_id = $1 and t.code = any($2) and t.deleted_at is null order by t.code",
        org_id,
        list(codes),
    )
    return {row["code"]: from_row(row) for row in rows}


async def list_taxes(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Tax], int]:
    total = await tx.fetchval("select count(*) from taxes where org_id = $1 and deleted_at is null", org_id)
    rows = await tx.fetch(
        f"""select {_TAX} from taxes t where t.org_id = $1 and t.deleted_at is null
            order by t.created_at desc, t.id desc limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [from_row(row) for row in rows], total


@read_once
async def taxes_of_customer(tx: Tx, org_id: UUID, customer_id: UUID) -> tuple[Tax, ...]:
    """The customer's own, by code."""
    rows = await tx.fetch(
        f"""select {_TAX} from customer_taxes ct join taxes t on t.org_id = ct.org_id and t.id = ct.tax_id
            where ct.org_id = $1 and ct.customer_id = $2 and t.deleted_at is null order by t.code""",
        org_id,
        customer_id,
    )
    return tuple(from_row(row) for row in rows)


async def taxes_of_customers(
    tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]
) -> dict[UUID, tuple[Tax, ...]]:
    """As `taxes_of_customer`, for many; those without any are not among the keys."""
    rows = await tx.fetch(
        f"""select ct.customer_id, {_TAX} from customer_taxes ct
            join taxes t on t.org_id = ct.org_id and t.id = ct.tax_id
            where ct.org_id = $1 and ct.customer_id = any($2) and t.deleted_at is null order by t.code""",
        org_id,
        list(customer_ids),
    )
    found: dict[UUID, tuple[Tax, ...]] = {}
    for row in rows:
        found[row["customer_id"]] = (*found.get(row["customer_id"], ()), from_row(row))
    return found


@read_once
async def taxes_of_organization(tx: Tx, org_id: UUID) -> tuple[Tax, ...]:
    """Those applied to the organization, by code."""
    rows = await tx.fetch(
        f"""select {_TAX} from taxes t where t.org_id = $1 and t.applied_to_organization and t.deleted_at is null
            order by t.code""",
        org_id,
    )
    return tuple(from_row(row) for row in rows)


async def count_customers(tx: Tx, org_id: UUID, tax_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many customers pay each of these taxes: their own, or the organization's where they have none."""
    rows = await tx.fetch(
        """
        select t.id, (
                select count(*) from customer_taxes ct
                join customers c on c.org_id = ct.org_id and c.id = ct.customer_id and c.deleted_at is null
                where ct.org_id = t.org_id and ct.tax_id = t.id)
            + case when t.applied_to_organization then (
                select count(*) from customers c where c.org_id = t.org_id and c.deleted_at is null and not exists (
                    select from customer_taxes ct where ct.org_id = c.org_id and ct.customer_id = c.id))
              else 0 end as customers
        from taxes t where t.org_id = $1 and t.id = any($2)
        """,
        org_id,
        list(tax_ids),
    )
    return {row["id"]: row["customers"] for row in rows}


async def customers_with_taxes(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these customers that have taxes of their own."""
    rows = await tx.fetch(
        "select distinct customer_id from customer_taxes where org_id = $1 and customer_id = any($2)",
        org_id,
        list(customer_ids),
    )
    return {row["customer_id"] for row in rows}


async def insert_tax(tx: Tx, tax: Tax) -> bool:
    """False when the code is taken."""
    places = ", ".join(f"${n}" for n in range(1, len(_NAMES) + 1))
    inserted = await tx.fetchval(
        f"""insert into taxes ({", ".join(_NAMES)}) values ({places})
            on conflict (org_id, code) where deleted_at is null do nothing returning true""",
        *asdict(tax).values(),
    )
    return inserted is not None


async def update_tax(tx: Tx, tax: Tax) -> None:
    await tx.execute(
        """
        update taxes set name = $3, description = $4, rate = $5, applied_to_organization = $6, updated_at = $7
        where org_id = $1 and id = $2
        """,
        tax.org_id,
        tax.id,
        tax.name,
        tax.description,
        tax.rate,
        tax.applied_to_organization,
        tax.updated_at,
    )


async def delete_tax(tx: Tx, org_id: UUID, tax_id: UUID, now: datetime) -> None:
    await tx.execute("delete from customer_taxes where org_id = $1 and tax_id = $2", org_id, tax_id)
    await tx.execute("update taxes set deleted_at = $3 where org_id = $1 and id = $2", org_id, tax_id, now)


async def set_customer_taxes(tx: Tx, org_id: UUID, customer_id: UUID, tax_ids: Sequence[UUID]) -> None:
    """Exactly these."""
    await tx.execute(
        "delete from customer_taxes where org_id = $1 and customer_id = $2 and tax_id <> all($3)",
        org_id,
        customer_id,
        list(tax_ids),
    )
    await tx.execute(
        """insert into customer_taxes (org_id, customer_id, tax_id) select $1, $2, unnest($3::uuid[])
           on conflict do nothing""",
        org_id,
        customer_id,
        list(tax_ids),
    )
