"""An invoice is paid, or is not going to be: what the customer bought with it follows."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.credit_notes.operations import lock_invoice
from nozle_server.invoicing.model import Invoice
from nozle_server.payments import operations
from nozle_server.payments.model import Payment, PaymentStatus
from nozle_server.workflows.top_up_wallet import fail_invoice, settle_invoice


async def record_payment(
    tx: Tx,
    seams: Seams,
    *,
    org_id: UUID,
    invoice_id: UUID,
    amount_cents: int,
    reference: str | None,
    paid_at: datetime,
    now: datetime,
) -> Payment:
    """Money that came in for an invoice; errors as `payments.operations.record_manual_payment`, and NotFound
    `invoice_not_found`."""
    before = await lock_invoice(tx, org_id, invoice_id)
    payment, invoice = await operations.record_manual_payment(
        tx, seams, before, amount_cents=amount_cents, reference=reference, paid_at=paid_at, now=now
    )
    await _settle_bought_credits(tx, seams, before, invoice, now)
    return payment


async def set_payment_status(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, status: PaymentStatus, now: datetime
) -> Invoice:
    """What the merchant says of an invoice's payment; errors as `payments.operations.set_payment_status`."""
    before = await lock_invoice(tx, org_id, invoice_id)
    invoice = await operations.set_payment_status(tx, seams, before, status, now=now)
    await _settle_bought_credits(tx, seams, before, invoice, now)
    return invoice


async def _settle_bought_credits(
    tx: Tx, seams: Seams, before: Invoice, invoice: Invoice, now: datetime
) -> None:
    if invoice.payment_status == before.payment_status:
        return
    if invoice.payment_status == PaymentStatus.SUCCEEDED:
        await settle_invoice(tx, seams, org_id=invoice.org_id, invoice_id=invoice.id, now=now)
    elif invoice.payment_status == PaymentStatus.FAILED:
        await fail_invoice(tx, seams, org_id=invoice.org_id, invoice_id=invoice.id, now=now)
