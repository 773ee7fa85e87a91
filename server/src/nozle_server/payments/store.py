"""All SQL of payments, and rows <-> values."""

from collections.abc import Sequence
from dataclasses import fields
from uuid import UUID

import asyncpg

from nozle_server.infra.database import Tx
from nozle_server.payments.model import Payment, PaymentStatus, PaymentType

_COLUMNS = tuple(field.name for field in fields(Payment))
_PAYMENT = ", ".join(_COLUMNS)


def from_row(row: asyncpg.Record) -> Payment:
    values = {name: row[name] for name in _COLUMNS}
    values["amount_cents"] = int(values["amount_cents"])
    values["payment_type"] = PaymentType(values["payment_type"])
    values["payment_status"] = PaymentStatus(values["payment_status"])
    return Payment(**values)


async def insert(tx: Tx, payment: Payment) -> None:
    places = ", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))
    await tx.execute(
        f"insert into payments ({_PAYMENT}) values ({places})",
        *[getattr(payment, name) for name in _COLUMNS],
    )


async def find(tx: Tx, org_id: UUID, payment_id: UUID) -> Payment | None:
    row = await tx.fetchrow(
        f"select {_PAYMENT} from payments where org_id = $1 and id = $2", org_id, payment_id
    )
    return from_row(row) if row else None


async def list_payments(
    tx: Tx, org_id: UUID, *, invoice_id: UUID | None, customer_id: UUID | None, limit: int, offset: int
) -> tuple[list[Payment], int]:
    """A page of payments, newest first, and how many there are; None does not restrict."""
    where = """org_id = $1 and ($2::uuid is null or invoice_id = $2)
        and ($3::uuid is null or customer_id = $3)"""
    total = await tx.fetchval(f"select count(*) from payments where {where}", org_id, invoice_id, customer_id)
    rows = await tx.fetch(
        f"select {_PAYMENT} from payments where {where} order by created_at desc, id desc limit $4 offset $5",
        org_id,
        invoice_id,
        customer_id,
        limit,
        offset,
    )
    return [from_row(row) for row in rows], total


async def invoice_numbers(tx: Tx, org_id: UUID, payments: Sequence[Payment]) -> dict[UUID, str]:
    """The numbers of the invoices that these payments are for, by invoice."""
    rows = await tx.fetch(
        "select id, number from invoices where org_id = $1 and id = any($2)",
        org_id,
        [payment.invoice_id for payment in payments],
    )
    return {row["id"]: row["number"] for row in rows}
