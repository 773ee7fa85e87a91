"""All SQL of credit notes, and rows <-> values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx
from nozle_server.invoicing.credit_notes.amounts import Taken
from nozle_server.invoicing.credit_notes.model import (
    CreditNote,
    CreditNoteItem,
    CreditStatus,
    Reason,
    RefundStatus,
)
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.store import LINE_COLUMNS, line_from_row, taxes_from_json, taxes_to_json

_COLUMNS = tuple(field.name for field in fields(CreditNote) if field.name != "items")
_ITEM_COLUMNS = tuple(field.name for field in fields(CreditNoteItem))
_NOTE = ", ".join(f"n.{name}" for name in _COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteFilter:
    """Which credit notes a list shows; None and () do not restrict. Dates are issuing dates, both included."""

    customer_id: UUID | None = None
    invoice_id: UUID | None = None
    reasons: tuple[str, ...] = ()
    credit_statuses: tuple[str, ...] = ()
    refund_statuses: tuple[str, ...] = ()
    currency: str | None = None
    invoice_number: str | None = None
    issued_from: date | None = None
    issued_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    search: str | None = None


def from_row(row: asyncpg.Record) -> CreditNote:
    values = {name: row[name] for name in _COLUMNS}
    for name in values:
        if name.endswith("_amount_cents") and "exact" not in name:
            values[name] = int(values[name])
    values["reason"] = Reason(values["reason"])
    values["credit_status"] = CreditStatus(values["credit_status"]) if values["credit_status"] else None
    values["refund_status"] = RefundStatus(values["refund_status"]) if values["refund_status"] else None
    values["applied_taxes"] = taxes_from_json(values["applied_taxes"])
    return CreditNote(**values)


async def insert(tx: Tx, note: CreditNote) -> None:
    """Store a credit note with its items; the database checks when the transaction commits that the invoice allows it."""
    changed = {"applied_taxes": taxes_to_json(note.applied_taxes), "metadata": dict(note.metadata)}
    await tx.execute(
        f"insert into credit_notes ({', '.join(_COLUMNS)}) values ({_places(len(_COLUMNS))})",
        *[changed[name] if name in changed else getattr(note, name) for name in _COLUMNS],
    )
    columns = ("org_id", "credit_note_id", *_ITEM_COLUMNS)
    await tx.executemany(
        f"insert into credit_note_items ({', '.join(columns)}) values ({_places(len(columns))})",
        [(note.org_id, note.id, *(getattr(item, name) for name in _ITEM_COLUMNS)) for item in note.items],
    )


async def find(tx: Tx, org_id: UUID, note_id: UUID) -> CreditNote | None:
    row = await tx.fetchrow(
        f"select {_NOTE} from credit_notes n where n.org_id = $1 and n.id = $2", org_id, note_id
    )
    return (await _with_items(tx, org_id, [from_row(row)]))[0] if row else None


async def lock(tx: Tx, org_id: UUID, note_id: UUID) -> CreditNote | None:
    """As `find`, held until the transaction ends."""
    row = await tx.fetchrow(
        f"select {_NOTE} from credit_notes n where n.org_id = $1 and n.id = $2 for no key update",
        org_id,
        note_id,
    )
    return (await _with_items(tx, org_id, [from_row(row)]))[0] if row else None


async def of_invoice(tx: Tx, org_id: UUID, invoice_id: UUID) -> list[CreditNote]:
    """In order of number."""
    rows = await tx.fetch(
        f"select {_NOTE} from credit_notes n where n.org_id = $1 and n.invoice_id = $2 order by n.sequential_id",
        org_id,
        invoice_id,
    )
    return await _with_items(tx, org_id, [from_row(row) for row in rows])


async def list_notes(
    tx: Tx, org_id: UUID, wanted: CreditNoteFilter, *, limit: int, offset: int
) -> tuple[list[CreditNote], int]:
    """A page of credit notes, newest first, and how many there are."""
    where, values = _conditions(org_id, wanted)
    source = "credit_notes n join invoices i on i.org_id = n.org_id and i.id = n.invoice_id"
    total = await tx.fetchval(f"select count(*) from {source} where {where}", *values)
    rows = await tx.fetch(
        f"""select {_NOTE} from {source} where {where} order by n.created_at desc, n.id desc
            limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        offset,
    )
    return await _with_items(tx, org_id, [from_row(row) for row in rows]), total


def _conditions(org_id: UUID, wanted: CreditNoteFilter) -> tuple[str, list[Any]]:
    values: list[Any] = [org_id]
    conditions = ["n.org_id = $1"]

    def also(condition: str, value: object) -> None:
        if value is not None and value != ():
            values.append(list(value) if isinstance(value, tuple) else value)
            conditions.append(condition.format(f"${len(values)}"))

    also("n.customer_id = {}", wanted.customer_id)
    also("n.invoice_id = {}", wanted.invoice_id)
    also("n.reason = any({})", wanted.reasons)
    also("n.credit_status = any({})", wanted.credit_statuses)
    also("n.refund_status = any({})", wanted.refund_statuses)
    also("n.currency = {}", wanted.currency)
    also("i.number = {}", wanted.invoice_number)
    also("n.issuing_date >= {}", wanted.issued_from)
    also("n.issuing_date <= {}", wanted.issued_to)
    also("n.total_amount_cents >= {}", wanted.amount_from)
    also("n.total_amount_cents <= {}", wanted.amount_to)
    also("(strpos(lower(n.number), lower({0})) > 0 or n.id::text = {0})", wanted.search)
    return " and ".join(conditions), values


async def _with_items(tx: Tx, org_id: UUID, notes: Sequence[CreditNote]) -> list[CreditNote]:
    items: dict[UUID, list[CreditNoteItem]] = {note.id: [] for note in notes}
    if not items:
        return []
    for row in await tx.fetch(
        f"""select credit_note_id, {", ".join(_ITEM_COLUMNS)} from credit_note_items
            where org_id = $1 and credit_note_id = any($2) order by credit_note_id, position""",
        org_id,
        list(items),
    ):
        values = {name: row[name] for name in _ITEM_COLUMNS}
        items[row["credit_note_id"]].append(
            CreditNoteItem(**{**values, "amount_cents": int(values["amount_cents"])})
        )
    return [replace(note, items=tuple(items[note.id])) for note in notes]


def taken_by(notes: Sequence[CreditNote]) -> Taken:
    """What these notes of one invoice took back together. A voided note took it back all the same."""
    by_line: dict[UUID, int] = {}
    by_tax: dict[UUID, int] = {}
    for note in notes:
        for item in note.items:
            by_line[item.line_id] = by_line.get(item.line_id, 0) + item.amount_cents
        for tax in note.applied_taxes:
            by_tax[tax.tax_id] = by_tax.get(tax.tax_id, 0) + tax.amount_cents
    return Taken(
        count=len(notes),
        sub_total_cents=sum(note.sub_total_excluding_taxes_amount_cents for note in notes),
        taxes_cents=sum(note.taxes_amount_cents for note in notes),
        refund_cents=sum(note.refund_amount_cents for note in notes),
        offset_cents=sum(note.offset_amount_cents for note in notes),
        by_line=by_line,
        by_tax=by_tax,
    )


async def customers_with_credit(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these customers that `lock_available` finds something for, in whatever currency."""
    rows = await tx.fetch(
        """select distinct customer_id from credit_notes
           where org_id = $1 and customer_id = any($2) and credit_status = 'available'""",
        org_id,
        list(customer_ids),
    )
    return {row["customer_id"] for row in rows}


@read_once
async def lock_available(tx: Tx, org_id: UUID, customer_id: UUID, currency: str) -> list[CreditNote]:
    """The customer's credit that is left, oldest first, held; without items."""
    rows = await tx.fetch(
        f"""select {_NOTE} from credit_notes n where n.org_id = $1 and n.customer_id = $2 and n.currency = $3
            and n.credit_status = 'available' order by n.created_at, n.id for no key update""",
        org_id,
        customer_id,
        currency,
    )
    return [from_row(row) for row in rows]


async def update(tx: Tx, note: CreditNote) -> None:
    """Write what moves on after a note was issued."""
    await tx.execute(
        """update credit_notes set balance_amount_cents = $3, credit_status = $4, refund_status = $5, refunded_at = $6,
               voided_at = $7, metadata = $8, updated_at = $9
           where org_id = $1 and id = $2""",
        note.org_id,
        note.id,
        note.balance_amount_cents,
        note.credit_status,
        note.refund_status,
        note.refunded_at,
        note.voided_at,
        dict(note.metadata),
        note.updated_at,
    )


async def offset_cents(tx: Tx, org_id: UUID, invoice_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """What credit notes settled of these invoices; invoices without are left out."""
    rows = await tx.fetch(
        """select invoice_id, sum(offset_amount_cents) as settled from credit_notes
           where org_id = $1 and invoice_id = any($2) and offset_amount_cents > 0 group by invoice_id""",
        org_id,
        list(invoice_ids),
    )
    return {row["invoice_id"]: int(row["settled"]) for row in rows}


async def lines_by_id(tx: Tx, org_id: UUID, line_ids: Sequence[UUID]) -> dict[UUID, InvoiceLine]:
    rows = await tx.fetch(
        f"select {', '.join(LINE_COLUMNS)} from invoice_lines where org_id = $1 and id = any($2)",
        org_id,
        list(line_ids),
    )
    return {row["id"]: line_from_row(row) for row in rows}


async def last_fee_in_advance(tx: Tx, org_id: UUID, subscription_id: UUID) -> InvoiceLine | None:
    """The subscription's latest fixed fee that was billed in advance, on an invoice that counts or is a draft."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    row = await tx.fetchrow(
        f"""select {columns} from invoice_lines l join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
            where l.org_id = $1 and l.subscription_id = $2 and l.kind = 'subscription' and l.pay_in_advance
                and i.status in ('finalized', 'draft')
            order by l.period_end desc, l.created_at desc, l.id desc limit 1""",
        org_id,
        subscription_id,
    )
    return line_from_row(row) if row else None


def _places(count: int) -> str:
    return ", ".join(f"${n}" for n in range(1, count + 1))
