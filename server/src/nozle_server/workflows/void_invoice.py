"""A final invoice is void: it is owed no more, and what it took of coupons, credit notes and wallets comes back.

https://getlago.com/docs/guide/invoicing/void
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import InvalidInput, NotPossible
from nozle_server.coupons.operations import give_back_uses
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store
from nozle_server.invoicing.credit_notes import store as credit_notes_store
from nozle_server.invoicing.credit_notes.amounts import (
    ItemAmount,
    creditable_cents,
    creditable_of_line,
    note_amounts,
    refundable_cents,
    share_out,
)
from nozle_server.invoicing.credit_notes.model import CreditStatus, Reason
from nozle_server.invoicing.credit_notes.operations import (
    CreditNoteDraft,
    give_back_credit,
    issue_note,
    lock_invoice,
    void_remainder,
)
from nozle_server.invoicing.model import CreditKind, Invoice, InvoiceStatus, InvoiceType
from nozle_server.wallets.operations.invoices import give_back_to_wallet
from nozle_server.workflows.top_up_wallet import fail_invoice

INVOICE_VOIDED = "invoice.voided"
INVOICE_DISPUTE_LOST = "invoice.payment_dispute_lost"


@dataclass(frozen=True, slots=True)
class VoidingCredit:
    """What the customer gets of a voided invoice by a credit note, taxes included; the rest of it is taken back too, by
    a note that nobody can use."""

    credit_amount_cents: int
    refund_amount_cents: int


async def void_invoice(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, credit: VoidingCredit | None, now: datetime
) -> Invoice:
    """Void a final invoice. Without `credit` nothing of it may be paid, credited or lost in a dispute, and coupons,
    credit notes and wallets get back what they gave; with it coupons do, and credit notes stand for the rest.

    NotFound `invoice_not_found`; NotPossible `not_voidable`; InvalidInput `total_amount_exceeds_invoice_amount`.
    """
    invoice = await lock_invoice(tx, org_id, invoice_id)
    notes = await credit_notes_store.of_invoice(tx, org_id, invoice.id)
    untouched = (
        invoice.total_paid_amount_cents == 0
        and invoice.payment_dispute_lost_at is None
        and all(note.credit_status is CreditStatus.VOIDED for note in notes)
    )
    if invoice.status is not InvoiceStatus.FINALIZED or (credit is None and not untouched):
        raise NotPossible("this invoice cannot be voided", code="not_voidable")
    if credit is not None:
        await _check(tx, invoice, credit)
    await store.set_voided(tx, org_id, invoice.id, now)
    voided = replace(invoice, status=InvoiceStatus.VOIDED, voided_at=now, updated_at=now)
    await give_back_uses(tx, org_id, invoice.id)
    if credit is None:
        used = [one for one in invoice.credits if one.kind is CreditKind.CREDIT_NOTE]
        await give_back_credit(tx, org_id=org_id, credits=used, now=now)
        await give_back_to_wallet(tx, seams.change_bus, org_id=org_id, invoice_id=invoice.id, now=now)
    else:
        await _credit(tx, seams, voided, credit, now)
    await fail_invoice(tx, seams, org_id=org_id, invoice_id=invoice.id, now=now)
    await seams.change_bus.publish(tx, Change(org_id, INVOICE_VOIDED, str(invoice.id)))
    return voided


async def lose_dispute(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> Invoice:
    """The customer's bank took the money back for good: the invoice is not expected to be paid any more. Said twice, the
    first counts. NotPossible `not_disputable` for a draft or failed invoice."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    if invoice.status not in (InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED):
        raise NotPossible("only a final invoice can be disputed", code="not_disputable")
    await store.set_dispute_lost(tx, org_id, invoice.id, now)
    await seams.change_bus.publish(tx, Change(org_id, INVOICE_DISPUTE_LOST, str(invoice.id)))
    lost_at = invoice.payment_dispute_lost_at or now
    return replace(invoice, payment_dispute_lost_at=lost_at, updated_at=now)


async def _check(tx: Tx, invoice: Invoice, credit: VoidingCredit) -> None:
    taken = credit_notes_store.taken_by(await credit_notes_store.of_invoice(tx, invoice.org_id, invoice.id))
    credited, refunded = credit.credit_amount_cents, credit.refund_amount_cents
    if (
        min(credited, refunded) < 0
        or refunded > refundable_cents(invoice, taken)
        or credited + refunded > creditable_cents(invoice, taken)
    ):
        raise InvalidInput(
            "more than the invoice came to",
            details={"credit_refund_amount": ["total_amount_exceeds_invoice_amount"]},
        )


async def _credit(tx: Tx, seams: Seams, invoice: Invoice, credit: VoidingCredit, now: datetime) -> None:
    description = f"Credit note created due to voided invoice {invoice.number}"
    target = credit.credit_amount_cents + credit.refund_amount_cents
    taken = credit_notes_store.taken_by(await credit_notes_store.of_invoice(tx, invoice.org_id, invoice.id))
    if target:
        items = share_out(invoice, target, taken)
        draft = CreditNoteDraft(
            reason=Reason.OTHER,
            description=description,
            items=[(item.line.id, item.exact_amount_cents) for item in items],
            credit_amount_cents=credit.credit_amount_cents,
            refund_amount_cents=credit.refund_amount_cents,
        )
        await issue_note(tx, seams, invoice, draft, now=now)
        notes = await credit_notes_store.of_invoice(tx, invoice.org_id, invoice.id)
        taken = credit_notes_store.taken_by(notes)
    left = [ItemAmount(line, Decimal(creditable_of_line(line, taken))) for line in invoice.lines]
    total = note_amounts(invoice, left, taken).total_cents
    if total > 0 and invoice.invoice_type is not InvoiceType.CREDIT:
        draft = CreditNoteDraft(
            reason=Reason.OTHER,
            description=description,
            items=[(item.line.id, item.exact_amount_cents) for item in left if item.amount_cents],
            credit_amount_cents=total,
        )
        await void_remainder(tx, seams, invoice, draft, now)
