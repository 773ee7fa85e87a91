"""Use cases that change what is paid of an invoice. What a paid invoice sets free elsewhere: `workflows/record_payment.py`."""

from dataclasses import replace
from datetime import datetime

from nozle_server.core.errors import InvalidInput, NotAllowed
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_text
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.credit_notes import store as credit_notes_store
from nozle_server.invoicing.credit_notes.operations import PAYMENT_STATUS_UPDATED
from nozle_server.invoicing.model import Invoice, InvoiceStatus
from nozle_server.payments import store
from nozle_server.payments.model import Payment, PaymentStatus, PaymentType

PAYMENT_RECORDED = "payment.recorded"
MAX_REFERENCE_BYTES = 160


async def record_manual_payment(
    tx: Tx,
    seams: Seams,
    invoice: Invoice,
    *,
    amount_cents: int,
    reference: str | None,
    paid_at: datetime,
    now: datetime,
) -> tuple[Payment, Invoice]:
    """Money that came in for an invoice, held by the caller; the whole of what is due makes it paid.

    NotAllowed for an invoice that is not final; InvalidInput on `amount_cents` for nothing or more than is due.
    """
    if invoice.status is not InvoiceStatus.FINALIZED:
        raise NotAllowed("only a final invoice can be paid", code="feature_unavailable")
    due = await due_cents(tx, invoice)
    if amount_cents <= 0:
        raise _bad_amount("invalid_value")
    if amount_cents > due:
        raise _bad_amount("value_is_out_of_range")
    payment = _manual(invoice, amount_cents, reference, paid_at, now)
    await store.insert(tx, payment)
    payload = {"invoice_id": invoice.id, "amount_cents": amount_cents, "currency": invoice.currency}
    await seams.change_bus.publish(tx, Change(invoice.org_id, PAYMENT_RECORDED, str(payment.id), payload))
    status = "succeeded" if amount_cents == due else invoice.payment_status
    paid = invoice.total_paid_amount_cents + amount_cents
    return payment, await _set(tx, seams, invoice, status, paid, now)


async def record_paid(
    tx: Tx, seams: Seams, invoice: Invoice, *, reference: str | None, now: datetime
) -> Payment | None:
    """An invoice, held by the caller, was paid before it was made; None when there was nothing to pay. The payment of its
    lines stays what it is."""
    if invoice.total_amount_cents <= 0:
        return None
    payment = _manual(invoice, invoice.total_amount_cents, reference, now, now)
    await store.insert(tx, payment)
    await invoicing_store.set_paid(tx, invoice.org_id, invoice.id, invoice.total_amount_cents, now)
    payload = {
        "invoice_id": invoice.id,
        "amount_cents": payment.amount_cents,
        "currency": invoice.currency,
    }
    await seams.change_bus.publish(tx, Change(invoice.org_id, PAYMENT_RECORDED, str(payment.id), payload))
    return payment


async def set_payment_status(
    tx: Tx, seams: Seams, invoice: Invoice, status: PaymentStatus, *, now: datetime
) -> Invoice:
    """What the merchant says of the payment of a final invoice, held by the caller.

    `succeeded` records what is still due as paid. A fully paid invoice stays so: InvalidInput on `payment_status`.
    """
    if invoice.status is not InvoiceStatus.FINALIZED or status is PaymentStatus.PROCESSING:
        raise _bad_status()
    if status is PaymentStatus.SUCCEEDED:
        due = await due_cents(tx, invoice)
        if due:
            _, invoice = await record_manual_payment(
                tx, seams, invoice, amount_cents=due, reference=None, paid_at=now, now=now
            )
            return invoice
    elif invoice.payment_status == PaymentStatus.SUCCEEDED:
        raise _bad_status()
    return await _set(tx, seams, invoice, status, invoice.total_paid_amount_cents, now)


async def due_cents(tx: Tx, invoice: Invoice) -> int:
    """What is still to be paid of an invoice, after payments and credit notes that settled a part."""
    settled = (await credit_notes_store.offset_cents(tx, invoice.org_id, [invoice.id])).get(invoice.id, 0)
    return invoice.total_amount_cents - invoice.total_paid_amount_cents - settled


async def _set(
    tx: Tx, seams: Seams, invoice: Invoice, status: str, paid_cents: int, now: datetime
) -> Invoice:
    await invoicing_store.set_payment(
        tx,
        invoice.org_id,
        invoice.id,
        payment_status=status,
        total_paid_amount_cents=paid_cents,
        now=now,
    )
    if status != invoice.payment_status:
        payload = {"payment_status": str(status)}
        await seams.change_bus.publish(
            tx, Change(invoice.org_id, PAYMENT_STATUS_UPDATED, str(invoice.id), payload)
        )
    return replace(invoice, payment_status=str(status), total_paid_amount_cents=paid_cents, updated_at=now)


def _manual(
    invoice: Invoice, amount_cents: int, reference: str | None, paid_at: datetime, now: datetime
) -> Payment:
    return Payment(
        org_id=invoice.org_id,
        id=new_id(),
        invoice_id=invoice.id,
        customer_id=invoice.customer_id,
        amount_cents=amount_cents,
        currency=invoice.currency,
        payment_type=PaymentType.MANUAL,
        payment_status=PaymentStatus.SUCCEEDED,
        reference=parse_text(reference, "reference", max_bytes=MAX_REFERENCE_BYTES),
        provider_payment_id=None,
        paid_at=paid_at,
        created_at=now,
    )


def _bad_amount(code: str) -> InvalidInput:
    return InvalidInput(
        "the amount must be more than 0 and at most what is due", details={"amount_cents": [code]}
    )


def _bad_status() -> InvalidInput:
    return InvalidInput(
        "the invoice cannot have this payment status", details={"payment_status": ["value_is_invalid"]}
    )
