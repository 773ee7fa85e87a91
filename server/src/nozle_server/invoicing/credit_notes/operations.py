"""Use cases of credit notes. What they need to know of payments stands on the invoice itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.core.errors import InvalidInput, NotFound, NotPossible
from nozle_server.core.ids import new_id
from nozle_server.core.periods import local_date
from nozle_server.core.text import parse_text
from nozle_server.customers import store as customers_store
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.credit_notes import store
from nozle_server.invoicing.credit_notes.amounts import (
    ItemAmount,
    NoteAmounts,
    Taken,
    creditable_cents,
    creditable_of_line,
    note_amounts,
    offsettable_cents,
    refundable_cents,
)
from nozle_server.invoicing.credit_notes.model import (
    CreditNote,
    CreditNoteItem,
    CreditNoteUse,
    CreditStatus,
    Reason,
    RefundStatus,
)
from nozle_server.invoicing.model import Invoice, InvoiceCredit, InvoiceStatus, InvoiceType

CREDIT_NOTE_CREATED = "credit_note.created"
CREDIT_NOTE_VOIDED = "credit_note.voided"
PAYMENT_STATUS_UPDATED = "invoice.payment_status_updated"

_CREDITABLE = (InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteDraft:
    """What is asked for: items as (line, amount before coupons and taxes), and how the total, taxes included, is given
    back. The amounts may miss the total by one minor unit, which the credit, else the refund, takes or gives."""

    reason: Reason
    items: Sequence[tuple[UUID, Decimal]]
    credit_amount_cents: int = 0
    refund_amount_cents: int = 0
    offset_amount_cents: int = 0
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a note of these items would come to, and how much of it could be given back in which way."""

    invoice: Invoice
    items: tuple[ItemAmount, ...]
    amounts: NoteAmounts
    max_creditable_cents: int
    max_refundable_cents: int
    max_offsettable_cents: int


async def create_credit_note(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, draft: CreditNoteDraft, now: datetime
) -> CreditNote:
    """Take back fees of a final invoice. Dated by the day of `now` in the customer's zone.

    NotFound `invoice_not_found`, `fee_not_found`; NotPossible `invalid_type_or_status` for a draft or failed invoice;
    InvalidInput with Core's codes by field for more than the invoice allows.
    """
    invoice = await lock_invoice(tx, org_id, invoice_id)
    return await issue_note(tx, seams, invoice, draft, now=now)


async def issue_note(
    tx: Tx, seams: Seams, invoice: Invoice, draft: CreditNoteDraft, *, now: datetime
) -> CreditNote:
    """As `create_credit_note`, for an invoice (and its customer) that the caller holds."""
    notes = await _check_creditable(tx, invoice)
    taken = store.taken_by(notes)
    items = _items(invoice, draft.items, taken)
    amounts = note_amounts(invoice, items, taken)
    credit, refund, offset = _parts(invoice, draft, amounts, taken)
    number = len(notes) + 1
    note = CreditNote(
        org_id=invoice.org_id,
        id=new_id(),
        invoice_id=invoice.id,
        customer_id=invoice.customer_id,
        sequential_id=number,
        number=f"{invoice.number}-CN{number:03d}",
        currency=invoice.currency,
        reason=draft.reason,
        description=parse_text(draft.description, "description"),
        issuing_date=local_date(now, invoice.timezone),
        credit_status=CreditStatus.AVAILABLE if credit else None,
        refund_status=RefundStatus.PENDING if refund else None,
        coupons_adjustment_amount_cents=amounts.coupons_cents,
        coupons_adjustment_exact_amount_cents=amounts.coupons_exact_cents,
        sub_total_excluding_taxes_amount_cents=amounts.sub_total_cents,
        taxes_amount_cents=amounts.taxes_cents,
        taxes_exact_amount_cents=amounts.taxes_exact_cents,
        taxes_rate=amounts.taxes_rate,
        total_amount_cents=amounts.total_cents,
        credit_amount_cents=credit,
        refund_amount_cents=refund,
        offset_amount_cents=offset,
        balance_amount_cents=credit,
        created_at=now,
        updated_at=now,
        applied_taxes=amounts.applied_taxes,
        metadata=draft.metadata,
        items=tuple(
            CreditNoteItem(new_id(), item.line.id, n, item.amount_cents, item.exact_amount_cents, now)
            for n, item in enumerate(items)
        ),
    )
    await store.insert(tx, note)
    payload = {
        "number": note.number,
        "total_amount_cents": note.total_amount_cents,
        "currency": note.currency,
    }
    await seams.change_bus.publish(tx, Change(note.org_id, CREDIT_NOTE_CREATED, str(note.id), payload))
    if offset:
        await _close_settled(tx, seams, invoice, taken.offset_cents + offset, now)
    return note


async def estimate_credit_note(
    tx: Tx, *, org_id: UUID, invoice_id: UUID, items: Sequence[tuple[UUID, Decimal]]
) -> Estimate:
    """What a note of these items would come to; errors as `create_credit_note`."""
    invoice = await invoicing_store.find(tx, org_id, invoice_id)
    if invoice is None or invoice.status is InvoiceStatus.CLOSED:
        raise unknown_invoice()
    taken = store.taken_by(await _check_creditable(tx, invoice))
    chosen = _items(invoice, items, taken)
    amounts = note_amounts(invoice, chosen, taken)
    total = min(amounts.total_cents, creditable_cents(invoice, taken))
    return Estimate(
        invoice=invoice,
        items=tuple(chosen),
        amounts=amounts,
        max_creditable_cents=0 if invoice.invoice_type is InvoiceType.CREDIT else total,
        max_refundable_cents=min(total, refundable_cents(invoice, taken)),
        max_offsettable_cents=min(total, offsettable_cents(invoice, taken)),
    )


async def update_credit_note(
    tx: Tx,
    *,
    org_id: UUID,
    note_id: UUID,
    refund_status: RefundStatus | None,
    metadata: Mapping[str, Any] | None,
    now: datetime,
) -> CreditNote:
    """Say where the refund stands, or replace the metadata; what is None stays."""
    note = await lock_note(tx, org_id, note_id)
    if refund_status is not None:
        if note.refund_status is None:
            raise InvalidInput("nothing is refunded", details={"refund_status": ["value_is_invalid"]})
        refunded_at = now if refund_status is RefundStatus.SUCCEEDED else None
        note = replace(note, refund_status=refund_status, refunded_at=refunded_at)
    if metadata is not None:
        note = replace(note, metadata=metadata)
    note = replace(note, updated_at=now)
    await store.update(tx, note)
    return note


async def void_credit_note(tx: Tx, seams: Seams, *, org_id: UUID, note_id: UUID, now: datetime) -> CreditNote:
    """Call off what is left of the credit; NotPossible `no_voidable_amount` when nothing is."""
    return await _void(tx, seams, await lock_note(tx, org_id, note_id), now)


async def _void(tx: Tx, seams: Seams, note: CreditNote, now: datetime) -> CreditNote:
    if note.balance_amount_cents == 0:
        raise NotPossible("nothing of the credit is left", code="no_voidable_amount")
    note = replace(
        note, credit_status=CreditStatus.VOIDED, balance_amount_cents=0, voided_at=now, updated_at=now
    )
    await store.update(tx, note)
    await seams.change_bus.publish(tx, Change(note.org_id, CREDIT_NOTE_VOIDED, str(note.id)))
    return note


async def apply_credit_notes(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    invoice_id: UUID,
    currency: str,
    amount_cents: int,
    now: datetime,
) -> tuple[CreditNoteUse, ...]:
    """Pay up to `amount_cents` of an invoice with the customer's credit, the oldest first. The caller holds the customer
    and puts what was used on the invoice."""
    uses = []
    for note in await store.lock_available(tx, org_id, customer_id, currency):
        used = min(note.balance_amount_cents, amount_cents)
        if used <= 0 or note.invoice_id == invoice_id:
            continue
        amount_cents -= used
        left = note.balance_amount_cents - used
        status = CreditStatus.AVAILABLE if left else CreditStatus.CONSUMED
        await store.update(tx, replace(note, balance_amount_cents=left, credit_status=status, updated_at=now))
        uses.append(CreditNoteUse(note.id, note.number, used))
    return tuple(uses)


async def give_back_credit(tx: Tx, *, org_id: UUID, credits: Sequence[InvoiceCredit], now: datetime) -> None:
    """Give credit back that an invoice used and does not need any more. A voided note stays voided."""
    for credit in sorted(credits, key=lambda one: one.source_id):
        note = await store.lock(tx, org_id, credit.source_id)
        assert note is not None, "credit notes are never deleted"
        if note.credit_status is CreditStatus.VOIDED:
            continue
        balance = note.balance_amount_cents + credit.amount_cents
        await store.update(
            tx,
            replace(note, balance_amount_cents=balance, credit_status=CreditStatus.AVAILABLE, updated_at=now),
        )


async def void_remainder(
    tx: Tx, seams: Seams, invoice: Invoice, draft: CreditNoteDraft, now: datetime
) -> None:
    """Take back what is left of a voided invoice, by a note that nobody can use: the books close on it."""
    await _void(tx, seams, await issue_note(tx, seams, invoice, draft, now=now), now)


async def lock_invoice(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice:
    """The invoice, held together with its customer; NotFound `invoice_not_found`."""
    invoice = await invoicing_store.find(tx, org_id, invoice_id)
    if invoice is None or invoice.status is InvoiceStatus.CLOSED:
        raise unknown_invoice()
    await customers_store.lock_by_id(tx, org_id, invoice.customer_id)
    held = await invoicing_store.lock(tx, org_id, invoice_id)
    assert held is not None, "invoices are never deleted"
    return held


async def lock_note(tx: Tx, org_id: UUID, note_id: UUID) -> CreditNote:
    """The note, held; NotFound `credit_note_not_found`."""
    note = await store.find(tx, org_id, note_id)
    if note is None:
        raise unknown_note()
    await customers_store.lock_by_id(tx, org_id, note.customer_id)
    held = await store.lock(tx, org_id, note_id)
    assert held is not None, "credit notes are never deleted"
    return held


def unknown_invoice() -> NotFound:
    return NotFound("invoice not found", code="invoice_not_found")


def unknown_note() -> NotFound:
    return NotFound("credit note not found", code="credit_note_not_found")


async def _check_creditable(tx: Tx, invoice: Invoice) -> list[CreditNote]:
    """The notes there are of it already."""
    if invoice.status not in _CREDITABLE:
        raise NotPossible("only a final invoice can be credited", code="invalid_type_or_status")
    return await store.of_invoice(tx, invoice.org_id, invoice.id)


def _items(invoice: Invoice, wanted: Sequence[tuple[UUID, Decimal]], taken: Taken) -> list[ItemAmount]:
    lines = {line.id: line for line in invoice.lines}
    used: dict[UUID, int] = {}
    items = []
    for line_id, amount in wanted:
        line = lines.get(line_id)
        if line is None:
            raise NotFound("fee not found", code="fee_not_found")
        if amount < 0:
            raise _invalid("amount_cents", "invalid_value", "an item must not be negative")
        item = ItemAmount(line, amount)
        used[line_id] = used.get(line_id, 0) + item.amount_cents
        if used[line_id] > creditable_of_line(line, taken):
            raise _invalid("amount_cents", "higher_than_remaining_fee_amount", "more than is left of the fee")
        items.append(item)
    return items


def _parts(
    invoice: Invoice, draft: CreditNoteDraft, amounts: NoteAmounts, taken: Taken
) -> tuple[int, int, int]:
    """The total as (credit, refund, offset)."""
    credit, refund, offset = (
        draft.credit_amount_cents,
        draft.refund_amount_cents,
        draft.offset_amount_cents,
    )
    asked = credit + refund + offset
    errors: dict[str, list[str]] = {}
    for name, amount in (
        ("credit_amount_cents", credit),
        ("refund_amount_cents", refund),
        ("offset_amount_cents", offset),
    ):
        if amount < 0:
            errors[name] = ["value_is_out_of_range"]
    if invoice.invoice_type is InvoiceType.CREDIT and credit > 0:
        errors["credit_amount_cents"] = ["cannot_credit_invoice"]
    if amounts.exceeds:
        errors["base"] = ["higher_than_remaining_invoice_amount"]
    elif asked <= 0 or amounts.total_cents <= 0:
        errors["base"] = ["total_amount_must_be_positive"]
    elif abs(asked - amounts.total_cents) > 1 and abs(asked - amounts.naive_total_cents) > 1:
        errors["base"] = ["does_not_match_item_amounts"]
    else:
        credit, refund, offset = _fit(credit, refund, offset, amounts.total_cents - asked)
    if refund > 0 and invoice.total_paid_amount_cents == 0:
        errors["refund_amount_cents"] = ["cannot_refund_unpaid_invoice"]
    elif refund > invoice.total_paid_amount_cents - taken.refund_cents:
        errors["refund_amount_cents"] = ["higher_than_remaining_invoice_amount"]
    if offset > offsettable_cents(invoice, taken):
        errors["offset_amount_cents"] = ["higher_than_remaining_invoice_amount"]
    if errors:
        raise InvalidInput("the invoice does not allow this credit note", details=errors)
    return credit, refund, offset


def _fit(credit: int, refund: int, offset: int, missing: int) -> tuple[int, int, int]:
    """The parts with what they miss of the total, or have too much: on the credit, else the refund, else the offset."""
    if credit and credit + missing >= 0:
        return credit + missing, refund, offset
    if refund and refund + missing >= 0:
        return credit, refund + missing, offset
    return credit, refund, offset + missing


async def _close_settled(tx: Tx, seams: Seams, invoice: Invoice, offset_cents: int, now: datetime) -> None:
    """An invoice of which nothing is open any more counts as paid."""
    if (
        invoice.status is not InvoiceStatus.FINALIZED
        or invoice.payment_status == "succeeded"
        or invoice.total_paid_amount_cents + offset_cents < invoice.total_amount_cents
    ):
        return
    await invoicing_store.set_payment(
        tx,
        invoice.org_id,
        invoice.id,
        payment_status="succeeded",
        total_paid_amount_cents=invoice.total_paid_amount_cents,
        now=now,
    )
    payload = {"payment_status": "succeeded"}
    await seams.change_bus.publish(
        tx, Change(invoice.org_id, PAYMENT_STATUS_UPDATED, str(invoice.id), payload)
    )


def _invalid(field_name: str, code: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, details={field_name: [code]})
