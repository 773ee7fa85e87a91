"""Credit notes as Core shows them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from nozle_server.api.core_fees import applied_tax_json, fees_json
from nozle_server.api.core_invoices import date_text
from nozle_server.api.endpoint import Call
from nozle_server.api.links import credit_note_file_urls
from nozle_server.api.routes.customers import core_customer
from nozle_server.core.numbers import to_decimal_text
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.customers import store as customers_store
from nozle_server.customers.drafts import ONLY_BILLING_ENTITY
from nozle_server.identity.queries import get_organization
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.credit_notes.model import CreditNote
from nozle_server.invoicing.credit_notes.operations import Estimate
from nozle_server.invoicing.model import AppliedTax


async def credit_note_json(call: Call, note: CreditNote) -> dict[str, object]:
    """Core's credit note object with its items."""
    [shown] = await credit_notes_json(call, [note])
    return shown


async def credit_notes_json(call: Call, notes: Sequence[CreditNote]) -> list[dict[str, object]]:
    """Core's credit note objects, in the order given: as many queries for a page of them as for one."""
    invoices = await invoicing_store.get_many(call.tx, call.org_id, list({note.invoice_id for note in notes}))
    wanted = {item.line_id for note in notes for item in note.items}
    lines = [line for invoice in invoices.values() for line in invoice.lines if line.id in wanted]
    shown = await fees_json(call.tx, call.org_id, lines)
    fees = {line.id: fee for line, fee in zip(lines, shown, strict=True)}
    organization = await get_organization(call.tx, call.org_id)
    held_by = await customers_store.get_many(call.tx, call.org_id, list({note.customer_id for note in notes}))
    customers = {one.id: core_customer(one, organization.timezone) for one in held_by}
    urls = await credit_note_file_urls(call, [note.id for note in notes])
    return [
        _note_json(
            note,
            invoice_number=invoices[note.invoice_id].number,
            customer=customers[note.customer_id],
            fees=fees,
            file_url=urls[note.id],
        )
        for note in notes
    ]


def _note_json(
    note: CreditNote,
    *,
    invoice_number: str,
    customer: dict[str, object],
    fees: Mapping[UUID, dict[str, object]],
    file_url: str | None,
) -> dict[str, object]:
    exact_items = sum((item.exact_amount_cents for item in note.items), start=EXACT.create_decimal(0))
    exact_net = EXACT.subtract(exact_items, note.coupons_adjustment_exact_amount_cents)
    return {
        "lago_id": note.id,
        "nozle_id": note.id,
        "billing_entity_code": ONLY_BILLING_ENTITY,
        "sequential_id": note.sequential_id,
        "number": note.number,
        "lago_invoice_id": note.invoice_id,
        "invoice_number": invoice_number,
        "issuing_date": date_text(note.issuing_date),
        "credit_status": note.credit_status,
        "refund_status": note.refund_status,
        "reason": note.reason,
        "description": note.description,
        "currency": note.currency,
        "total_amount_cents": note.total_amount_cents,
        "precise_total_amount_cents": to_decimal_text(EXACT.add(exact_net, note.taxes_exact_amount_cents)),
        "taxes_amount_cents": note.taxes_amount_cents,
        "precise_taxes_amount_cents": to_decimal_text(note.taxes_exact_amount_cents),
        "sub_total_excluding_taxes_amount_cents": note.sub_total_excluding_taxes_amount_cents,
        "balance_amount_cents": note.balance_amount_cents,
        "credit_amount_cents": note.credit_amount_cents,
        "refund_amount_cents": note.refund_amount_cents,
        "offset_amount_cents": note.offset_amount_cents,
        "applied_to_source_invoice_amount_cents": note.offset_amount_cents,
        "coupons_adjustment_amount_cents": note.coupons_adjustment_amount_cents,
        "taxes_rate": note.taxes_rate,
        "created_at": note.created_at,
        "updated_at": note.updated_at,
        "refunded_at": note.refunded_at,
        "voided_at": note.voided_at,
        "file_url": file_url,
        "xml_url": None,
        "self_billed": False,
        "customer": customer,
        "items": [
            {
                "lago_id": item.id,
                "nozle_id": item.id,
                "amount_cents": item.amount_cents,
                "precise_amount_cents": to_decimal_text(item.exact_amount_cents),
                "amount_currency": note.currency,
                "fee": fees[item.line_id],
            }
            for item in note.items
        ],
        "applied_taxes": [
            {"lago_credit_note_id": note.id, "created_at": note.created_at, **_tax_json(tax, note.currency)}
            for tax in note.applied_taxes
        ],
        "error_details": [],
        "metadata": note.metadata or None,
    }


def estimate_json(estimated: Estimate) -> dict[str, object]:
    """Core's estimate: what a note of these items would come to."""
    amounts, currency = estimated.amounts, estimated.invoice.currency
    return {
        "lago_invoice_id": estimated.invoice.id,
        "invoice_number": estimated.invoice.number,
        "currency": currency,
        "taxes_amount_cents": amounts.taxes_cents,
        "precise_taxes_amount_cents": to_decimal_text(amounts.taxes_exact_cents),
        "sub_total_excluding_taxes_amount_cents": amounts.sub_total_cents,
        "max_creditable_amount_cents": estimated.max_creditable_cents,
        "max_refundable_amount_cents": estimated.max_refundable_cents,
        "max_offsettable_amount_cents": estimated.max_offsettable_cents,
        "coupons_adjustment_amount_cents": amounts.coupons_cents,
        "precise_coupons_adjustment_amount_cents": to_decimal_text(amounts.coupons_exact_cents),
        "taxes_rate": amounts.taxes_rate,
        "items": [
            {"lago_fee_id": item.line.id, "amount_cents": item.amount_cents} for item in estimated.items
        ],
        "applied_taxes": [_tax_json(tax, currency) for tax in amounts.applied_taxes],
    }


def _tax_json(tax: AppliedTax, currency: str) -> dict[str, object]:
    return {**applied_tax_json(tax, currency), "base_amount_cents": to_cents(tax.base_cents)}
