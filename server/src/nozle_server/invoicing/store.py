"""All SQL of invoices, and rows <-> values."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import BillingReason, Invoice, InvoiceLine, LineKind

_INVOICE = [field.name for field in fields(Invoice) if field.name != "lines"]
LINE_COLUMNS = tuple(field.name for field in fields(InvoiceLine))


def invoice_from_row(row: asyncpg.Record) -> Invoice:
    values = {name: row[name] for name in _INVOICE}
    values["billing_reason"] = BillingReason(row["billing_reason"])
    values["fees_amount_cents"] = int(row["fees_amount_cents"])
    values["total_amount_cents"] = int(row["total_amount_cents"])
    return Invoice(**values)


def line_from_row(row: asyncpg.Record) -> InvoiceLine:
    values = {name: row[name] for name in LINE_COLUMNS}
    values["kind"] = LineKind(row["kind"])
    values["amount_cents"] = int(row["amount_cents"])
    values["steps"] = tuple(row["steps"])
    return InvoiceLine(**values)


async def insert(tx: Tx, invoice: Invoice) -> None:
    """Store an invoice with its lines; the database checks when the transaction commits that they add up."""
    places = ", ".join(f"${n}" for n in range(1, len(_INVOICE) + 1))
    await tx.execute(
        f"insert into invoices ({', '.join(_INVOICE)}) values ({places})",
        *(getattr(invoice, name) for name in _INVOICE),
    )
    places = ", ".join(f"${n}" for n in range(1, len(LINE_COLUMNS) + 3))
    await tx.executemany(
        f"insert into invoice_lines (org_id, invoice_id, {', '.join(LINE_COLUMNS)}) values ({places})",
        [(invoice.org_id, invoice.id, *_line_values(line)) for line in invoice.lines],
    )


def _line_values(line: InvoiceLine) -> list[Any]:
    return [list(line.steps) if name == "steps" else getattr(line, name) for name in LINE_COLUMNS]


async def list_of_customer(
    tx: Tx, org_id: UUID, customer_id: UUID | None, *, limit: int, offset: int
) -> tuple[list[Invoice], int]:
    """A page of invoices with their lines, newest first, of one customer or of all, and how many there are."""
    total = await tx.fetchval(
        "select count(*) from invoices where org_id = $1 and ($2::uuid is null or customer_id = $2)",
        org_id,
        customer_id,
    )
    rows = await tx.fetch(
        f"""select {", ".join(_INVOICE)} from invoices where org_id = $1 and ($2::uuid is null or customer_id = $2)
            order by sequential_id desc limit $3 offset $4""",
        org_id,
        customer_id,
        limit,
        offset,
    )
    return await _with_lines(tx, org_id, [invoice_from_row(row) for row in rows]), total


async def find(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice | None:
    row = await tx.fetchrow(
        f"select {', '.join(_INVOICE)} from invoices where org_id = $1 and id = $2", org_id, invoice_id
    )
    return (await _with_lines(tx, org_id, [invoice_from_row(row)]))[0] if row else None


async def _with_lines(tx: Tx, org_id: UUID, invoices: Sequence[Invoice]) -> list[Invoice]:
    rows = await tx.fetch(
        f"""select invoice_id, {", ".join(LINE_COLUMNS)} from invoice_lines where org_id = $1 and invoice_id = any($2)
            order by invoice_id, position""",
        org_id,
        [invoice.id for invoice in invoices],
    )
    lines: dict[UUID, list[InvoiceLine]] = {}
    for row in rows:
        lines.setdefault(row["invoice_id"], []).append(line_from_row(row))
    return [replace(invoice, lines=tuple(lines.get(invoice.id, ()))) for invoice in invoices]


async def any_invoice(tx: Tx, org_id: UUID) -> bool:
    """Whether the organization has ever billed anything."""
    return bool(await tx.fetchval("select exists (select 1 from invoices where org_id = $1)", org_id))
