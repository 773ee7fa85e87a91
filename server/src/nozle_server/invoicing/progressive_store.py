"""SQL of progressive billing: the progressive invoices of a period, and thresholds that were reached."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.invoicing import store
from nozle_server.invoicing.credit_notes import store as credit_notes_store
from nozle_server.invoicing.credit_notes.model import CreditStatus
from nozle_server.invoicing.progressive import Crossing, ProgressiveInvoice


async def invoices_of_period(
    tx: Tx, org_id: UUID, subscription_id: UUID, start: datetime
) -> list[ProgressiveInvoice]:
    """The progressive invoices of the period of usage around `start` that stand, the latest first."""
    rows = await tx.fetch(
        """
        select i.id from invoice_subscriptions s
        join invoices i on i.org_id = s.org_id and i.id = s.invoice_id
        where s.org_id = $1 and s.subscription_id = $2 and s.charges_start <= $3 and s.charges_end > $3
          and i.invoice_type = 'progressive_billing' and i.status = 'finalized'
        order by i.sequential_id desc
        """,
        org_id,
        subscription_id,
        start,
    )
    ids = [row["id"] for row in rows]
    invoices = await store.get_many(tx, org_id, ids) if ids else {}
    found = []
    for invoice in (invoices[one] for one in ids):
        notes = await credit_notes_store.of_invoice(tx, org_id, invoice.id)
        standing = [note for note in notes if note.credit_status is not CreditStatus.VOIDED]
        taken, ever = credit_notes_store.taken_by(standing), credit_notes_store.taken_by(notes)
        found.append(ProgressiveInvoice(invoice, taken, ever))
    return found


async def reached(tx: Tx, org_id: UUID, subscription_id: UUID) -> set[tuple[UUID, int]]:
    """What was reached in a chain of subscriptions, by its first: (threshold, usage at which it lies)."""
    rows = await tx.fetch(
        "select threshold_id, amount_cents from reached_thresholds where org_id = $1 and subscription_id = $2",
        org_id,
        subscription_id,
    )
    return {(row["threshold_id"], int(row["amount_cents"])) for row in rows}


async def record_reached(
    tx: Tx,
    org_id: UUID,
    subscription_id: UUID,
    crossings: Sequence[Crossing],
    *,
    invoice_id: UUID,
    lifetime_cents: int,
    now: datetime,
) -> None:
    """A unique key refuses a threshold that was reached before."""
    await tx.executemany(
        """insert into reached_thresholds (org_id, subscription_id, threshold_id, amount_cents, invoice_id,
               lifetime_usage_amount_cents, reached_at) values ($1, $2, $3, $4, $5, $6, $7)""",
        [
            (org_id, subscription_id, one.threshold.id, one.amount_cents, invoice_id, lifetime_cents, now)
            for one in crossings
        ],
    )
