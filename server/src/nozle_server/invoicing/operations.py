"""Use cases that make invoices, and keep the place of those that could not be made."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.periods import local_date, start_of_day
from nozle_server.core.values import replace
from nozle_server.coupons.operations import record_uses
from nozle_server.infra import due
from nozle_server.infra.batch import write_out
from nozle_server.infra.change_bus import Change
from nozle_server.infra.counters import next_number
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import advance_store, store
from nozle_server.invoicing.amounts import (
    with_taxes_of_lines,
    with_totals,
)
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.model import (
    BillingReason,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    InvoiceSubscription,
    InvoiceType,
)
from nozle_server.invoicing.reductions import pay_from_wallets, reduce_and_tax, use_credit_notes
from nozle_server.invoicing.terms import Terms, lock_terms

INVOICE_FINALIZED = "invoice.finalized"
INVOICE_DRAFTED = "invoice.drafted"
FINALIZE_INVOICE = "finalize_invoice"
INVOICE_FAILED = "invoice.failed"
DRAFT_NUMBER = "DRAFT"
MAX_ERROR_LENGTH = 1_000


async def issue_invoice(
    tx: Tx,
    seams: Seams,
    draft: InvoiceDraft,
    *,
    now: datetime,
    rewrite: Invoice | None = None,
    final: bool = False,
) -> Invoice | None:
    """Make an invoice of these lines: with coupons and taxes; final with a number, credits and wallets, or a draft while
    the customer's grace period lasts. None where it comes to zero and such invoices are not wanted.

    `rewrite` is the draft, held by the caller, that it takes the place of; `final` ends that draft's grace. Dated by the
    day of `now` in the customer's zone. A unique key keeps a second invoice of one period out.
    """
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    waits = draft.may_wait and terms.invoice_grace_period > 0 and not final
    invoice = _new_invoice(draft, terms, now, rewrite)
    fees = sum(line.amount_cents for line in invoice.lines)
    if fees == 0 and not terms.finalize_zero_invoices and not waits:
        closed = with_totals(replace(invoice, status=InvoiceStatus.CLOSED))
        await (store.insert(tx, closed) if rewrite is None else store.replace_draft(tx, closed))
        return None
    invoice, discounts = await reduce_and_tax(tx, invoice, draft, now)
    invoice = with_totals(invoice)
    if waits:
        invoice = _wait(invoice, terms, now, rewrite)
    else:
        if draft.credits:
            invoice = await use_credit_notes(tx, invoice, now)
            invoice = await pay_from_wallets(tx, seams, invoice, now)
        invoice = await _finalize(tx, invoice, terms, now)
    if rewrite is None:
        await store.insert(tx, invoice)
    else:
        await store.replace_draft(tx, invoice)
    if discounts and not waits:
        await write_out(tx)
        await record_uses(tx, invoice.org_id, invoice.id, discounts, now)
    if waits:
        assert invoice.finalize_at is not None, "a draft knows when it ends"
        await due.schedule(
            tx,
            org_id=invoice.org_id,
            kind=FINALIZE_INVOICE,
            subject_id=invoice.id,
            due_at=invoice.finalize_at,
            now=now,
        )
    await _announce(tx, seams, invoice, INVOICE_DRAFTED if waits else INVOICE_FINALIZED)
    return invoice


async def issue_advance_charges(
    tx: Tx, seams: Seams, lines: Sequence[InvoiceLine], *, now: datetime
) -> Invoice:
    """Put paid fees of one customer and currency, which the caller holds and which are on no invoice, on one that says so.
    Nothing is computed anew: their taxes are what was paid. The caller records the payment."""
    first = lines[0]
    periods: dict[UUID, InvoiceSubscription] = {}
    for line in lines:
        assert line.subscription_id, "a fee in advance is of a subscription"
        assert line.period_start, "a fee in advance has a period"
        assert line.period_end, "a fee in advance has a period"
        known = periods.get(line.subscription_id)
        start = min(known.period_start, line.period_start) if known else line.period_start
        end = max(known.period_end, line.period_end) if known else line.period_end
        periods[line.subscription_id] = InvoiceSubscription(
            line.subscription_id, BillingReason.IN_ADVANCE_CHARGE, start, end, start, end
        )
    draft = InvoiceDraft(
        org_id=first.org_id,
        customer_id=first.customer_id,
        currency=first.currency,
        lines=tuple(lines),
        invoice_type=InvoiceType.ADVANCE_CHARGES,
        subscriptions=tuple(periods.values()),
    )
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    made = _new_invoice(draft, terms, now, None)
    lines = made.lines
    invoice = await _finalize(tx, with_totals(with_taxes_of_lines(made)), terms, now)
    await store.insert(tx, replace(invoice, lines=()))
    await write_out(tx)
    await advance_store.put_on_invoice(tx, lines)
    invoice = replace(invoice, lines=lines)
    await _announce(tx, seams, invoice, INVOICE_FINALIZED)
    return invoice


async def _announce(tx: Tx, seams: Seams, invoice: Invoice, kind: str) -> None:
    payload = {
        "number": invoice.number,
        "total_amount_cents": invoice.total_amount_cents,
        "currency": invoice.currency,
    }
    await seams.change_bus.publish(tx, Change(invoice.org_id, kind, str(invoice.id), payload))


async def store_failed(tx: Tx, seams: Seams, draft: InvoiceDraft, *, error: str, now: datetime) -> Invoice:
    """Keep the place of an invoice that could not be made, and why."""
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    details = ({"error_code": "invoice_not_made", "details": error[:MAX_ERROR_LENGTH]},)
    invoice = replace(
        _new_invoice(draft, terms, now, None), status=InvoiceStatus.FAILED, error_details=details
    )
    await store.insert(tx, invoice)
    await seams.change_bus.publish(tx, Change(invoice.org_id, INVOICE_FAILED, str(invoice.id)))
    return invoice


async def fail_draft(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, error: str, now: datetime
) -> None:
    """A draft could not be made final: it is kept as failed, with the reason, and can be retried."""
    await store.set_failed(tx, org_id, invoice_id, error[:MAX_ERROR_LENGTH], now)
    await seams.change_bus.publish(tx, Change(org_id, INVOICE_FAILED, str(invoice_id)))


def _new_invoice(draft: InvoiceDraft, terms: Terms, now: datetime, rewrite: Invoice | None) -> Invoice:
    invoice_id = rewrite.id if rewrite else new_id()
    lines = tuple(
        replace(line, invoice_id=invoice_id, position=position) for position, line in enumerate(draft.lines)
    )
    return Invoice(
        org_id=draft.org_id,
        id=invoice_id,
        sequential_id=None,
        number=DRAFT_NUMBER,
        customer_id=draft.customer_id,
        invoice_type=draft.invoice_type,
        status=InvoiceStatus.DRAFT,
        payment_status="pending",
        currency=draft.currency,
        timezone=terms.timezone,
        fees_amount_cents=sum(line.amount_cents for line in lines),
        progressive_billing_credit_amount_cents=0,
        coupons_amount_cents=0,
        sub_total_excluding_taxes_amount_cents=0,
        taxes_amount_cents=0,
        taxes_rate=Decimal(0),
        sub_total_including_taxes_amount_cents=0,
        credit_notes_amount_cents=0,
        prepaid_credit_amount_cents=0,
        total_amount_cents=0,
        total_paid_amount_cents=0,
        net_payment_term=terms.net_payment_term if draft.net_payment_term is None else draft.net_payment_term,
        issuing_date=None,
        payment_due_date=None,
        finalize_at=None,
        created_at=rewrite.created_at if rewrite else now,
        updated_at=now,
        finalized_at=None,
        metadata=rewrite.metadata if rewrite else (),
        lines=lines,
        subscriptions=draft.subscriptions,
    )


def _wait(invoice: Invoice, terms: Terms, now: datetime, rewrite: Invoice | None) -> Invoice:
    """A draft, and when its grace ends: at the start of the day that it will be dated with."""
    if rewrite is not None and rewrite.finalize_at is not None:
        return replace(
            invoice,
            finalize_at=rewrite.finalize_at,
            issuing_date=rewrite.issuing_date,
            payment_due_date=rewrite.payment_due_date,
        )
    issued_on = local_date(now, terms.timezone) + timedelta(days=terms.invoice_grace_period)
    return replace(
        invoice,
        finalize_at=start_of_day(issued_on, terms.timezone),
        issuing_date=issued_on,
        payment_due_date=issued_on + timedelta(days=invoice.net_payment_term),
    )


async def _finalize(tx: Tx, invoice: Invoice, terms: Terms, now: datetime) -> Invoice:
    number = await next_number(tx, invoice.org_id, "invoices")
    payment_status = "pending" if invoice.total_amount_cents > 0 else "succeeded"
    issued_on = local_date(now, terms.timezone)
    return replace(
        invoice,
        sequential_id=number,
        number=f"{terms.document_number_prefix}-{number:03d}",
        status=InvoiceStatus.FINALIZED,
        payment_status=payment_status,
        issuing_date=issued_on,
        payment_due_date=issued_on + timedelta(days=invoice.net_payment_term),
        finalized_at=now,
        lines=tuple(
            line if line.payment_status == payment_status else replace(line, payment_status=payment_status)
            for line in invoice.lines
        ),
    )
