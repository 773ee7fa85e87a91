"""All SQL of wallet transactions, and rows <-> values. Which one paid for which is read off the ledger's allocations."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg

from nozle_server.infra.database import Tx
from nozle_server.wallets.model import Direction, Funding, Reason, Source, Status, WalletTransaction

_COLUMNS = """t.org_id, t.id, t.wallet_id, t.transaction_type, t.transaction_status, t.status, t.source, t.amount,
    t.credit_amount, t.priority, t.name, t.metadata, t.invoice_requires_successful_payment, t.invoice_id,
    t.voided_invoice_id, t.credit_note_id, t.grant_id, t.entry_id, t.settled_at, t.failed_at, t.created_at"""
_FROM = f"""select {_COLUMNS}, g.remaining from wallet_transactions t
    left join credit_grants g on g.org_id = t.org_id and g.id = t.grant_id"""


def from_row(row: Mapping[str, Any]) -> WalletTransaction:
    values = dict(row)
    return WalletTransaction(
        direction=Direction(values.pop("transaction_type")),
        reason=Reason(values.pop("transaction_status")),
        status=Status(values.pop("status")),
        source=Source(values.pop("source")),
        **values,
    )


async def find(tx: Tx, org_id: UUID, transaction_id: UUID) -> WalletTransaction | None:
    row = await tx.fetchrow(f"{_FROM} where t.org_id = $1 and t.id = $2", org_id, transaction_id)
    return from_row(row) if row else None


async def list_of_wallet(
    tx: Tx,
    org_id: UUID,
    wallet_id: UUID,
    *,
    status: str | None,
    direction: str | None,
    reason: str | None,
    limit: int,
    offset: int,
) -> tuple[list[WalletTransaction], int]:
    """A page of a wallet's transactions, the newest first, and how many there are."""
    chosen = """where t.org_id = $1 and t.wallet_id = $2 and ($3::text is null or t.status = $3)
        and ($4::text is null or t.transaction_type = $4) and ($5::text is null or t.transaction_status = $5)"""
    values = (org_id, wallet_id, status, direction, reason)
    total = await tx.fetchval(f"select count(*) from wallet_transactions t {chosen}", *values)
    rows = await tx.fetch(
        f"{_FROM} {chosen} order by t.created_at desc, t.id desc limit $6 offset $7", *values, limit, offset
    )
    return [from_row(row) for row in rows], total


async def list_of_invoice(tx: Tx, org_id: UUID, invoice_id: UUID) -> list[WalletTransaction]:
    """What wallets paid of an invoice, in the order in which they did; or the one that the invoice sells."""
    rows = await tx.fetch(
        f"{_FROM} where t.org_id = $1 and t.invoice_id = $2 order by t.id", org_id, invoice_id
    )
    return [from_row(row) for row in rows]


async def insert(tx: Tx, transaction: WalletTransaction) -> None:
    await tx.execute(
        """
        insert into wallet_transactions (org_id, id, wallet_id, transaction_type, transaction_status, status, source,
            amount, credit_amount, priority, name, metadata, invoice_requires_successful_payment, invoice_id,
            voided_invoice_id, credit_note_id, grant_id, entry_id, settled_at, failed_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
        """,
        transaction.org_id,
        transaction.id,
        transaction.wallet_id,
        transaction.direction,
        transaction.reason,
        transaction.status,
        transaction.source,
        transaction.amount,
        transaction.credit_amount,
        transaction.priority,
        transaction.name,
        list(transaction.metadata),
        transaction.invoice_requires_successful_payment,
        transaction.invoice_id,
        transaction.voided_invoice_id,
        transaction.credit_note_id,
        transaction.grant_id,
        transaction.entry_id,
        transaction.settled_at,
        transaction.failed_at,
        transaction.created_at,
    )


async def attach_invoice(tx: Tx, org_id: UUID, transaction_id: UUID, invoice_id: UUID) -> None:
    """Say which invoice sells a pending transaction."""
    await tx.execute(
        "update wallet_transactions set invoice_id = $3 where org_id = $1 and id = $2",
        org_id,
        transaction_id,
        invoice_id,
    )


async def settle(
    tx: Tx, org_id: UUID, transaction_id: UUID, *, grant_id: UUID, entry_id: UUID, at: datetime
) -> None:
    await tx.execute(
        """update wallet_transactions set status = 'settled', grant_id = $3, entry_id = $4, settled_at = $5
           where org_id = $1 and id = $2""",
        org_id,
        transaction_id,
        grant_id,
        entry_id,
        at,
    )


async def fail(tx: Tx, org_id: UUID, transaction_id: UUID, at: datetime) -> None:
    await tx.execute(
        "update wallet_transactions set status = 'failed', failed_at = $3 where org_id = $1 and id = $2",
        org_id,
        transaction_id,
        at,
    )


async def list_pending(tx: Tx, org_id: UUID, wallet_id: UUID) -> list[WalletTransaction]:
    rows = await tx.fetch(
        f"{_FROM} where t.org_id = $1 and t.wallet_id = $2 and t.status = 'pending'", org_id, wallet_id
    )
    return [from_row(row) for row in rows]


async def list_fundings(
    tx: Tx, transaction: WalletTransaction, *, limit: int, offset: int
) -> tuple[list[Funding], int]:
    """Of an inbound transaction, what was drawn on it and by which outbound ones; of an outbound one, which inbound
    ones paid for it. A page, the oldest first, and how many there are."""
    # Inbound: by way of the wallet's outbound ones, as allocations are found by entry.
    inbound = transaction.direction is Direction.INBOUND
    chosen, subject = (
        (
            "t.wallet_id = $3 and t.transaction_type = 'outbound' and l.entry_id = t.entry_id and l.grant_id = $2",
            transaction.grant_id,
        )
        if inbound
        else ("t.wallet_id = $3 and l.entry_id = $2 and t.grant_id = l.grant_id", transaction.entry_id)
    )
    tables = f"""from wallet_transactions t
        join ledger_allocations l on l.org_id = t.org_id
        join ledger_entries e on e.org_id = l.org_id and e.id = l.entry_id
        left join credit_grants g on g.org_id = t.org_id and g.id = t.grant_id
        where t.org_id = $1 and {chosen}"""
    values = (transaction.org_id, subject, transaction.wallet_id)
    total = await tx.fetchval(f"select count(*) {tables}", *values)
    rows = await tx.fetch(
        f"""select l.entry_id as of_entry, l.grant_id as of_grant, -l.amount as drawn, e.occurred_at, {_COLUMNS},
                g.remaining
            {tables} order by e.sequence, t.id limit $4 offset $5""",
        *values,
        limit,
        offset,
    )
    return [_funding(row) for row in rows], total


def _funding(row: asyncpg.Record) -> Funding:
    values = dict(row)
    entry_id, grant_id = values.pop("of_entry"), values.pop("of_grant")
    amount, at = values.pop("drawn"), values.pop("occurred_at")
    # An allocation has no id of its own: the pair it is known by makes one, the same each time.
    return Funding(uuid5(entry_id, grant_id.hex), amount, at, from_row(values))


async def is_returned(tx: Tx, org_id: UUID, invoice_id: UUID, wallet_id: UUID) -> bool:
    """Whether the wallet has been given back what it paid of an invoice."""
    return bool(
        await tx.fetchval(
            """select exists (select 1 from wallet_transactions
               where org_id = $1 and voided_invoice_id = $2 and wallet_id = $3)""",
            org_id,
            invoice_id,
            wallet_id,
        )
    )
