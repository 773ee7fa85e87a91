"""A credit note, its invoice, whom it is for and who sends it, as the document that is printed. Pure.

What is left of the credit is not printed: it changes, and the document does not.
"""

from collections.abc import Mapping
from uuid import UUID

from nozle_server.customers.model import Customer
from nozle_server.documents.from_invoice import (
    SubscriptionName,
    customer_party,
    days_of,
    document_footer,
    merchant_party,
    shown_metadata,
    tax_rows,
)
from nozle_server.documents.model import CreditNoteDocument, DocumentLine, Section
from nozle_server.identity.model import Organization
from nozle_server.invoicing.credit_notes.model import CreditNote, CreditNoteItem
from nozle_server.invoicing.model import Invoice, InvoiceLine


def credit_note_document(
    note: CreditNote,
    invoice: Invoice,
    lines: Mapping[UUID, InvoiceLine],
    customer: Customer,
    organization: Organization,
    *,
    subscriptions: Mapping[UUID, SubscriptionName],
) -> CreditNoteDocument:
    """`lines` are the invoice's that the items take back, `subscriptions` names those of these lines."""
    return CreditNoteDocument(
        kind="Credit note",
        number=note.number,
        invoice_number=invoice.number,
        currency=note.currency,
        issuing_date=note.issuing_date,
        merchant=merchant_party(organization),
        customer=customer_party(customer),
        sections=_sections(note, invoice, lines, subscriptions),
        coupons_adjustment_amount_cents=note.coupons_adjustment_amount_cents,
        sub_total_excluding_taxes_amount_cents=note.sub_total_excluding_taxes_amount_cents,
        taxes=tax_rows(note.applied_taxes),
        total_amount_cents=note.total_amount_cents,
        credit_amount_cents=note.credit_amount_cents,
        refund_amount_cents=note.refund_amount_cents,
        offset_amount_cents=note.offset_amount_cents,
        reason=note.reason.value.replace("_", " ").capitalize(),
        description=note.description,
        footer=document_footer(organization),
        metadata=shown_metadata(customer),
    )


def _sections(
    note: CreditNote,
    invoice: Invoice,
    lines: Mapping[UUID, InvoiceLine],
    subscriptions: Mapping[UUID, SubscriptionName],
) -> tuple[Section, ...]:
    """By subscription, in the order of the items."""
    by_subscription: dict[UUID | None, list[CreditNoteItem]] = {}
    for item in note.items:
        by_subscription.setdefault(lines[item.line_id].subscription_id, []).append(item)
    sections = []
    for subscription_id, items in by_subscription.items():
        name = subscriptions[subscription_id] if subscription_id else None
        sections.append(
            Section(
                title=name.title if name else "",
                reference=name.external_id if name else None,
                lines=tuple(_line(item, lines[item.line_id], note, invoice) for item in items),
            )
        )
    return tuple(sections)


def _line(item: CreditNoteItem, line: InvoiceLine, note: CreditNote, invoice: Invoice) -> DocumentLine:
    days = None
    if line.period_start and line.period_end:
        days = days_of(line.period_start, line.period_end, invoice.timezone)
    return DocumentLine(
        label=line.description,
        amount_cents=item.amount_cents,
        days=days,
        grouped_by={key: value for key, value in line.grouped_by.items() if value is not None},
        tax_rate=line.taxes_rate if note.applied_taxes else None,
    )
