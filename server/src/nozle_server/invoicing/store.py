"""All SQL of invoices, and rows <-> values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.values import replace
from nozle_server.infra.batch import later
from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import (
    AppliedTax,
    BillingReason,
    CreditKind,
    Invoice,
    InvoiceCredit,
    InvoiceLine,
    InvoiceStatus,
    InvoiceSubscription,
    InvoiceType,
    LineKind,
)

_PARTS = ("lines", "subscriptions", "credits")
INVOICE_COLUMNS = tuple(field.name for field in fields(Invoice) if field.name not in _PARTS)
LINE_COLUMNS = tuple(field.name for field in fields(InvoiceLine))
_STEPS, _LINE_TAXES = LINE_COLUMNS.index("steps"), LINE_COLUMNS.index("applied_taxes")
_read_line = attrgetter(*LINE_COLUMNS)
_SUBSCRIPTION_COLUMNS = tuple(field.name for field in fields(InvoiceSubscription))
_TAX_COLUMNS = tuple(field.name for field in fields(AppliedTax))
_CREDIT_COLUMNS = tuple(field.name for field in fields(InvoiceCredit))


# The parameters 3 and 4 are the status and the instant.
PAYMENT_OF_LINE = """payment_status = $3,
    succeeded_at = case when $3 = 'succeeded' then $4 else succeeded_at end,
    failed_at = case when $3 = 'failed' then $4 else failed_at end,
    refunded_at = case when $3 = 'refunded' then $4 else refunded_at end"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFilter:
    """Which invoices a list shows; None and () do not restrict. Dates are issuing dates, both included.

    `overdue` asks whether the day to pay by has passed at `now`, which then must be given, in the invoice's zone.
    """

    customer_id: UUID | None = None
    subscription_ids: tuple[UUID, ...] | None = None
    statuses: tuple[str, ...] = ()
    payment_statuses: tuple[str, ...] = ()
    invoice_types: tuple[str, ...] = ()
    currency: str | None = None
    issued_from: date | None = None
    issued_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    overdue: bool | None = None
    now: datetime | None = None
    dispute_lost: bool | None = None
    search: str | None = None


def invoice_from_row(row: asyncpg.Record) -> Invoice:
    values = {name: row[name] for name in INVOICE_COLUMNS}
    for name in values:
        if name.endswith("_amount_cents"):
            values[name] = int(values[name])
    values["invoice_type"] = InvoiceType(values["invoice_type"])
    values["status"] = InvoiceStatus(values["status"])
    values["applied_taxes"] = taxes_from_json(values["applied_taxes"])
    values["metadata"] = tuple(values["metadata"])
    values["error_details"] = tuple(values["error_details"])
    return Invoice(**values)


def line_from_row(row: asyncpg.Record) -> InvoiceLine:
    values = {name: row[name] for name in LINE_COLUMNS}
    values["kind"] = LineKind(values["kind"])
    values["amount_cents"] = int(values["amount_cents"])
    values["taxes_amount_cents"] = int(values["taxes_amount_cents"])
    values["steps"] = tuple(values["steps"])
    values["applied_taxes"] = taxes_from_json(values["applied_taxes"])
    return InvoiceLine(**values)


def taxes_from_json(rows: Sequence[Any]) -> tuple[AppliedTax, ...]:
    return tuple(
        AppliedTax(
            **{
                **row,
                "tax_id": UUID(row["tax_id"]),
                "rate": Decimal(row["rate"]),
                "base_cents": Decimal(row["base_cents"]),
            }
        )
        for row in rows
    )


def taxes_to_json(taxes: Sequence[AppliedTax]) -> list[dict[str, Any]]:
    return [{name: getattr(tax, name) for name in _TAX_COLUMNS} for tax in taxes]


def _line_values(line: InvoiceLine) -> list[Any]:
    values = list(_read_line(line))
    values[_STEPS] = list(line.steps)
    values[_LINE_TAXES] = taxes_to_json(line.applied_taxes)
    return values


def _invoice_values(invoice: Invoice) -> list[Any]:
    changed = {
        "applied_taxes": taxes_to_json(invoice.applied_taxes),
        "metadata": list(invoice.metadata),
        "error_details": list(invoice.error_details),
    }
    return [changed[name] if name in changed else getattr(invoice, name) for name in INVOICE_COLUMNS]


async def insert(tx: Tx, invoice: Invoice) -> None:
    """Store an invoice with its parts; the database checks when the transaction commits that they add up."""
    await later(tx, _insert_all, invoice)


async def _insert_all(tx: Tx, invoices: Sequence[Invoice]) -> None:
    await tx.executemany(
        f"insert into invoices ({', '.join(INVOICE_COLUMNS)}) values ({_places(len(INVOICE_COLUMNS))})",
        [_invoice_values(invoice) for invoice in invoices],
    )
    await _insert_parts(tx, invoices)


async def replace_draft(tx: Tx, invoice: Invoice) -> None:
    """Write a draft, or a failed invoice, anew: as a later draft, or finalized. Refused by the database for any other."""
    await tx.execute(
        "delete from invoice_lines where org_id = $1 and invoice_id = $2", invoice.org_id, invoice.id
    )
    await tx.execute(
        "delete from invoice_credits where org_id = $1 and invoice_id = $2", invoice.org_id, invoice.id
    )
    await tx.execute(
        "delete from invoice_subscriptions where org_id = $1 and invoice_id = $2", invoice.org_id, invoice.id
    )
    # The parts go in while the invoice is still a draft.
    await _insert_parts(tx, [invoice])
    changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(INVOICE_COLUMNS, start=1))
    updated = await tx.execute(
        f"update invoices set {changes} where org_id = $1 and id = $2 and status in ('draft', 'failed')",
        *_invoice_values(invoice),
    )
    assert updated == "UPDATE 1", "only a draft is written anew, and by who locked it"


async def _insert_parts(tx: Tx, invoices: Sequence[Invoice]) -> None:
    await insert_lines(tx, [line for invoice in invoices for line in invoice.lines])
    if any(invoice.subscriptions for invoice in invoices):
        columns = ("org_id", "invoice_id", *_SUBSCRIPTION_COLUMNS)
        await tx.executemany(
            f"insert into invoice_subscriptions ({', '.join(columns)}) values ({_places(len(columns))})",
            [
                (invoice.org_id, invoice.id, *(getattr(one, name) for name in _SUBSCRIPTION_COLUMNS))
                for invoice in invoices
                for one in invoice.subscriptions
            ],
        )
    if any(invoice.credits for invoice in invoices):
        columns = ("org_id", "invoice_id", *_CREDIT_COLUMNS)
        await tx.executemany(
            f"insert into invoice_credits ({', '.join(columns)}) values ({_places(len(columns))})",
            [
                (invoice.org_id, invoice.id, *(getattr(one, name) for name in _CREDIT_COLUMNS))
                for invoice in invoices
                for one in invoice.credits
            ],
        )


async def insert_lines(tx: Tx, lines: Sequence[InvoiceLine]) -> None:
    """Store lines, on the invoices they name or, paid in advance, on none yet."""
    if lines:
        await tx.executemany(
            f"insert into invoice_lines ({', '.join(LINE_COLUMNS)}) values ({_places(len(LINE_COLUMNS))})",
            [_line_values(line) for line in lines],
        )


async def find(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice | None:
    row = await tx.fetchrow(
        f"select {', '.join(INVOICE_COLUMNS)} from invoices where org_id = $1 and id = $2", org_id, invoice_id
    )
    return (await with_parts(tx, org_id, [invoice_from_row(row)]))[0] if row else None


async def get_many(tx: Tx, org_id: UUID, invoice_ids: Sequence[UUID]) -> dict[UUID, Invoice]:
    """Invoices that something of ours refers to, by id."""
    rows = await tx.fetch(
        f"select {', '.join(INVOICE_COLUMNS)} from invoices where org_id = $1 and id = any($2)",
        org_id,
        list(invoice_ids),
    )
    found = await with_parts(tx, org_id, [invoice_from_row(row) for row in rows])
    return {invoice.id: invoice for invoice in found}


async def lock(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice | None:
    """As `find`, held until the transaction ends."""
    row = await tx.fetchrow(
        f"select {', '.join(INVOICE_COLUMNS)} from invoices where org_id = $1 and id = $2 for update",
        org_id,
        invoice_id,
    )
    return (await with_parts(tx, org_id, [invoice_from_row(row)]))[0] if row else None


async def list_invoices(
    tx: Tx, org_id: UUID, wanted: InvoiceFilter, *, limit: int, offset: int
) -> tuple[list[Invoice], int]:
    """A page of invoices with their parts, newest first, and how many there are."""
    where, values = _conditions(org_id, wanted)
    total = await tx.fetchval(f"select count(*) from invoices i where {where}", *values)
    columns = ", ".join(f"i.{name}" for name in INVOICE_COLUMNS)
    rows = await tx.fetch(
        f"""select {columns} from invoices i where {where}
            order by i.created_at desc, i.sequential_id desc nulls first, i.id desc
            limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        offset,
    )
    return await with_parts(tx, org_id, [invoice_from_row(row) for row in rows]), total


_OVERDUE = """i.status = 'finalized' and i.payment_status <> 'succeeded' and i.payment_dispute_lost_at is null
    and coalesce(i.payment_due_date < ({}::timestamptz at time zone i.timezone)::date, false)"""
_SEARCH = """(strpos(lower(i.number), lower({0})) > 0 or i.id::text = {0} or exists (select 1 from customers c
    where c.org_id = i.org_id and c.id = i.customer_id and (strpos(lower(c.external_id), lower({0})) > 0
        or strpos(lower(c.name), lower({0})) > 0 or strpos(lower(c.email), lower({0})) > 0)))"""


def _conditions(org_id: UUID, wanted: InvoiceFilter) -> tuple[str, list[Any]]:
    values: list[Any] = [org_id]
    conditions = ["i.org_id = $1"]

    def also(condition: str, value: object) -> None:
        if value is not None and value != ():
            values.append(list(value) if isinstance(value, tuple) else value)
            conditions.append(condition.format(f"${len(values)}"))

    also("i.customer_id = {}", wanted.customer_id)
    also(
        """exists (select 1 from invoice_subscriptions s where s.org_id = i.org_id and s.invoice_id = i.id
                and s.subscription_id = any({}))""",
        wanted.subscription_ids,
    )
    if wanted.subscription_ids == ():
        conditions.append("false")
    also("i.status = any({})", wanted.statuses)
    also("i.payment_status = any({})", wanted.payment_statuses)
    also("i.invoice_type = any({})", wanted.invoice_types)
    also("i.currency = {}", wanted.currency)
    also("i.issuing_date >= {}", wanted.issued_from)
    also("i.issuing_date <= {}", wanted.issued_to)
    also("i.total_amount_cents >= {}", wanted.amount_from)
    also("i.total_amount_cents <= {}", wanted.amount_to)
    if wanted.overdue is not None:
        also(f"({_OVERDUE}) = {str(wanted.overdue).lower()}", wanted.now)
    also("(i.payment_dispute_lost_at is not null) = {}", wanted.dispute_lost)
    also(_SEARCH, wanted.search)
    return " and ".join(conditions), values


async def with_parts(tx: Tx, org_id: UUID, invoices: Sequence[Invoice]) -> list[Invoice]:
    """The invoices with their lines, subscriptions and credits: three queries, however many they are."""
    ids = [invoice.id for invoice in invoices]
    if not ids:
        return []
    lines: dict[UUID, list[InvoiceLine]] = {one: [] for one in ids}
    for row in await tx.fetch(
        f"""select {", ".join(LINE_COLUMNS)} from invoice_lines where org_id = $1 and invoice_id = any($2)
            order by invoice_id, position""",
        org_id,
        ids,
    ):
        lines[row["invoice_id"]].append(line_from_row(row))
    subscriptions: dict[UUID, list[InvoiceSubscription]] = {one: [] for one in ids}
    for row in await tx.fetch(
        f"""select invoice_id, {", ".join(_SUBSCRIPTION_COLUMNS)} from invoice_subscriptions
            where org_id = $1 and invoice_id = any($2) order by invoice_id, period_start, subscription_id""",
        org_id,
        ids,
    ):
        part = {name: row[name] for name in _SUBSCRIPTION_COLUMNS}
        subscriptions[row["invoice_id"]].append(
            InvoiceSubscription(**{**part, "reason": BillingReason(part["reason"])})
        )
    credits: dict[UUID, list[InvoiceCredit]] = {one: [] for one in ids}
    for row in await tx.fetch(
        f"""select invoice_id, {", ".join(_CREDIT_COLUMNS)} from invoice_credits
            where org_id = $1 and invoice_id = any($2) order by invoice_id, created_at, id""",
        org_id,
        ids,
    ):
        part = {name: row[name] for name in _CREDIT_COLUMNS}
        credits[row["invoice_id"]].append(
            InvoiceCredit(
                **{**part, "kind": CreditKind(part["kind"]), "amount_cents": int(part["amount_cents"])}
            )
        )
    return [
        replace(
            invoice,
            lines=tuple(lines[invoice.id]),
            subscriptions=tuple(subscriptions[invoice.id]),
            credits=tuple(credits[invoice.id]),
        )
        for invoice in invoices
    ]


async def find_line(tx: Tx, org_id: UUID, line_id: UUID) -> InvoiceLine | None:
    row = await tx.fetchrow(
        f"select {', '.join(LINE_COLUMNS)} from invoice_lines where org_id = $1 and id = $2", org_id, line_id
    )
    return line_from_row(row) if row else None


async def lines_of_period(
    tx: Tx, org_id: UUID, subscription_id: UUID, start: datetime, end: datetime
) -> list[InvoiceLine]:
    """Everything ever billed for a subscription's period, corrections included, but no drafts, nor progressive invoices:
    the period's invoice charges their usage again."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    rows = await tx.fetch(
        f"""
        select {columns} from invoice_lines l
        left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
        where l.org_id = $1 and l.subscription_id = $2 and l.period_start >= $3 and l.period_end <= $4
          and (l.invoice_id is null or i.status in ('finalized', 'voided', 'closed')
            and i.invoice_type <> 'progressive_billing')
        order by l.created_at, l.invoice_id, l.position
        """,
        org_id,
        subscription_id,
        start,
        end,
    )
    return [line_from_row(row) for row in rows]


async def lines_within(
    tx: Tx, org_id: UUID, subscription_id: UUID, start: datetime, end: datetime, *, but_not: UUID | None
) -> list[InvoiceLine]:
    """Lines of a subscription's periods that begin in [start, end), on drafts too, but not on the invoice `but_not`, nor on
    progressive ones, whose usage the period's invoice charges again."""
    columns = ", ".join(f"l.{name}" for name in LINE_COLUMNS)
    rows = await tx.fetch(
        f"""
        select {columns} from invoice_lines l
        left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
        where l.org_id = $1 and l.subscription_id = $2 and l.period_start >= $3 and l.period_start < $4
          and (l.invoice_id is null or i.status in ('draft', 'finalized') and i.invoice_type <> 'progressive_billing')
          and l.invoice_id is distinct from $5
        order by l.created_at, l.invoice_id, l.position
        """,
        org_id,
        subscription_id,
        start,
        end,
        but_not,
    )
    return [line_from_row(row) for row in rows]


async def set_payment(
    tx: Tx,
    org_id: UUID,
    invoice_id: UUID,
    *,
    payment_status: str,
    total_paid_amount_cents: int,
    now: datetime,
) -> None:
    """Where the payment of an invoice stands; its lines follow."""
    await tx.execute(
        """update invoices set payment_status = $3, total_paid_amount_cents = $4, updated_at = $5
           where org_id = $1 and id = $2""",
        org_id,
        invoice_id,
        payment_status,
        total_paid_amount_cents,
        now,
    )
    await tx.execute(
        f"update invoice_lines set {PAYMENT_OF_LINE} where org_id = $1 and invoice_id = $2",
        org_id,
        invoice_id,
        payment_status,
        now,
    )


async def set_paid(tx: Tx, org_id: UUID, invoice_id: UUID, paid_cents: int, now: datetime) -> None:
    """An invoice of fees that were paid before: it is, and they stay as they are."""
    await tx.execute(
        """update invoices set payment_status = 'succeeded', total_paid_amount_cents = $3, updated_at = $4
           where org_id = $1 and id = $2""",
        org_id,
        invoice_id,
        paid_cents,
        now,
    )


async def set_failed(tx: Tx, org_id: UUID, invoice_id: UUID, error: str, now: datetime) -> None:
    """A draft that could not be made final, and why."""
    await tx.execute(
        """update invoices set status = 'failed', error_details = $3, updated_at = $4
           where org_id = $1 and id = $2 and status = 'draft'""",
        org_id,
        invoice_id,
        [{"error_code": "invoice_not_finalized", "details": error}],
        now,
    )


async def set_metadata(
    tx: Tx, org_id: UUID, invoice_id: UUID, metadata: Sequence[Mapping[str, Any]], now: datetime
) -> None:
    await tx.execute(
        "update invoices set metadata = $3, updated_at = $4 where org_id = $1 and id = $2",
        org_id,
        invoice_id,
        list(metadata),
        now,
    )


async def set_dispute_lost(tx: Tx, org_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """From the first time it is said on."""
    await tx.execute(
        """update invoices set payment_dispute_lost_at = coalesce(payment_dispute_lost_at, $3), updated_at = $3
           where org_id = $1 and id = $2""",
        org_id,
        invoice_id,
        now,
    )


async def set_voided(tx: Tx, org_id: UUID, invoice_id: UUID, now: datetime) -> None:
    await tx.execute(
        "update invoices set status = 'voided', voided_at = $3, updated_at = $3 where org_id = $1 and id = $2",
        org_id,
        invoice_id,
        now,
    )
    await tx.execute(
        "update invoice_subscriptions set voided = true where org_id = $1 and invoice_id = $2",
        org_id,
        invoice_id,
    )


async def any_invoice(tx: Tx, org_id: UUID) -> bool:
    """Whether the organization has ever billed anything."""
    return bool(await tx.fetchval("select exists (select 1 from invoices where org_id = $1)", org_id))


def _places(count: int) -> str:
    return ", ".join(f"${n}" for n in range(1, count + 1))
