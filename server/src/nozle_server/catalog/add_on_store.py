"""All SQL of add-ons, and rows <-> values."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.catalog.model import AddOn
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx

_NAMES = (
    "org_id",
    "id",
    "code",
    "name",
    "invoice_display_name",
    "description",
    "amount_cents",
    "currency",
    "tax_codes",
    "created_at",
    "updated_at",
)
_ADD_ON = ", ".join(_NAMES)


def from_row(row: asyncpg.Record) -> AddOn:
    return AddOn(**{**dict(row), "tax_codes": tuple(row["tax_codes"])})


async def find_add_on(tx: Tx, org_id: UUID, code: str) -> AddOn | None:
    return (await find_add_ons(tx, org_id, [code])).get(code)


async def find_add_ons(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, AddOn]:
    """Those of these add-ons that exist, by code."""
    rows = await tx.fetch(
        f"select {_ADD_ON} from add_ons where org_id = $1 and code = any($2) and deleted_at is null",
        org_id,
        list(codes),
    )
    return {row["code"]: from_row(row) for row in rows}


async def display_names(tx: Tx, org_id: UUID, ids: Sequence[UUID]) -> dict[UUID, str]:
    """What invoices call these add-ons, removed or not, by id."""
    rows = await tx.fetch(
        """select id, coalesce(invoice_display_name, name) as name from add_ons
           where org_id = $1 and id = any($2)""",
        org_id,
        list(ids),
    )
    return {row["id"]: row["name"] for row in rows}


async def find_add_on_by_id(tx: Tx, org_id: UUID, add_on_id: UUID) -> AddOn | None:
    row = await tx.fetchrow(
        f"select {_ADD_ON} from add_ons where org_id = $1 and id = $2 and deleted_at is null",
        org_id,
        add_on_id,
    )
    return from_row(row) if row else None


@read_once
async def get_add_on_by_id(tx: Tx, org_id: UUID, add_on_id: UUID) -> AddOn:
    """The add-on that a fixed charge refers to, removed or not."""
    row = await tx.fetchrow(f"select {_ADD_ON} from add_ons where org_id = $1 and id = $2", org_id, add_on_id)
    assert row is not None, "add-ons are only marked as deleted"
    return from_row(row)


async def lock_add_on(tx: Tx, org_id: UUID, code: str) -> AddOn | None:
    """The add-on, held until the transaction ends."""
    row = await tx.fetchrow(
        f"""select {_ADD_ON} from add_ons where org_id = $1 and code = $2 and deleted_at is null
            for no key update""",
        org_id,
        code,
    )
    return from_row(row) if row else None


async def list_add_ons(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[AddOn], int]:
    total = await tx.fetchval("select count(*) from add_ons where org_id = $1 and deleted_at is null", org_id)
    rows = await tx.fetch(
        f"""select {_ADD_ON} from add_ons where org_id = $1 and deleted_at is null
            order by created_at desc, id desc limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [from_row(row) for row in rows], total


async def insert_add_on(tx: Tx, add_on: AddOn) -> bool:
    """False when the code is taken."""
    places = ", ".join(f"${n}" for n in range(1, len(_NAMES) + 1))
    inserted = await tx.fetchval(
        f"""insert into add_ons ({_ADD_ON}) values ({places})
            on conflict (org_id, code) where deleted_at is null do nothing returning true""",
        *asdict(add_on).values(),
    )
    return inserted is not None


async def update_add_on(tx: Tx, add_on: AddOn) -> None:
    await tx.execute(
        """
        update add_ons set name = $3, invoice_display_name = $4, description = $5, amount_cents = $6, currency = $7,
            tax_codes = $8, updated_at = $9
        where org_id = $1 and id = $2
        """,
        add_on.org_id,
        add_on.id,
        add_on.name,
        add_on.invoice_display_name,
        add_on.description,
        add_on.amount_cents,
        add_on.currency,
        add_on.tax_codes,
        add_on.updated_at,
    )


async def delete_add_on(tx: Tx, org_id: UUID, add_on_id: UUID, now: datetime) -> None:
    await tx.execute(
        "update add_ons set deleted_at = $3 where org_id = $1 and id = $2", org_id, add_on_id, now
    )
