"""Invoices in Core's form."""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

from nozle_server.api.core_fees import applied_tax_json, fees_json, last_second
from nozle_server.api.endpoint import Call
from nozle_server.api.links import invoice_file_urls
from nozle_server.api.routes.customers import core_customer
from nozle_server.api.subscription_shapes import core_json
from nozle_server.core.periods import local_date
from nozle_server.customers.drafts import ONLY_BILLING_ENTITY
from nozle_server.customers.store import get_many
from nozle_server.identity.queries import get_organization
from nozle_server.invoicing.credit_notes import store as credit_notes_store
from nozle_server.invoicing.model import (
    CreditKind,
    Invoice,
    InvoiceCredit,
    InvoiceStatus,
    InvoiceSubscription,
)
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription

VERSION = 4
_CREDIT_TYPES = {
    CreditKind.COUPON: "coupon",
    CreditKind.CREDIT_NOTE: "credit_note",
    CreditKind.PROGRESSIVE: "invoice",
}


async def invoice_json(call: Call, invoice: Invoice) -> dict[str, object]:
    """An invoice with all its parts."""
    [shown] = await invoices_json(call, [invoice], whole=True)
    return shown


async def invoices_json(call: Call, invoices: Sequence[Invoice], *, whole: bool) -> list[dict[str, object]]:
    """Core's invoice objects, in the order given; `whole` with fees, subscriptions and credits, as one by itself is shown."""
    settled = await credit_notes_store.offset_cents(call.tx, call.org_id, [one.id for one in invoices])
    subscriptions = await _subscriptions(call, invoices)
    organization = await get_organization(call.tx, call.org_id)
    urls = await invoice_file_urls(call, list(invoices))
    billed = await get_many(call.tx, call.org_id, list({one.customer_id for one in invoices}))
    customers = {one.id: core_customer(one, organization.timezone) for one in billed}
    shown = []
    for invoice in invoices:
        one = {
            **_head(call, invoice, settled.get(invoice.id, 0)),
            "file_url": urls[invoice.id],
            "customer": customers[invoice.customer_id],
            **_parts(invoice, subscriptions),
        }
        if whole:
            one |= await _whole(
                call, invoice, subscriptions, str(customers[invoice.customer_id]["external_id"])
            )
        shown.append(one)
    return shown


def _head(call: Call, invoice: Invoice, settled_cents: int) -> dict[str, object]:
    prepaid = invoice.prepaid_credit_amount_cents
    return {
        "lago_id": invoice.id,
        "nozle_id": invoice.id,
        "billing_entity_code": ONLY_BILLING_ENTITY,
        "sequential_id": invoice.sequential_id,
        "number": invoice.number,
        "issuing_date": date_text(invoice.issuing_date),
        "payment_due_date": date_text(invoice.payment_due_date),
        "net_payment_term": invoice.net_payment_term,
        "invoice_type": invoice.invoice_type,
        "status": invoice.status,
        "payment_status": invoice.payment_status,
        "payment_dispute_lost_at": invoice.payment_dispute_lost_at,
        "payment_overdue": is_overdue(invoice, local_date(call.now, invoice.timezone)),
        "currency": invoice.currency,
        "fees_amount_cents": invoice.fees_amount_cents,
        "taxes_amount_cents": invoice.taxes_amount_cents,
        "taxes_rate": invoice.taxes_rate,
        "progressive_billing_credit_amount_cents": invoice.progressive_billing_credit_amount_cents,
        "coupons_amount_cents": invoice.coupons_amount_cents,
        "credit_notes_amount_cents": invoice.credit_notes_amount_cents,
        "sub_total_excluding_taxes_amount_cents": invoice.sub_total_excluding_taxes_amount_cents,
        "sub_total_including_taxes_amount_cents": invoice.sub_total_including_taxes_amount_cents,
        "total_amount_cents": invoice.total_amount_cents,
        "total_due_amount_cents": invoice.total_amount_cents
        - invoice.total_paid_amount_cents
        - settled_cents,
        "total_paid_amount_cents": invoice.total_paid_amount_cents,
        "total_offsetted_credit_note_amount_cents": settled_cents,
        "prepaid_credit_amount_cents": prepaid,
        "prepaid_granted_credit_amount_cents": None,
        "prepaid_purchased_credit_amount_cents": None,
        "xml_url": None,
        "version_number": VERSION,
        "self_billed": False,
        "created_at": invoice.created_at,
        "updated_at": invoice.updated_at,
        "voided_at": invoice.voided_at,
    }


def is_overdue(invoice: Invoice, today: date) -> bool:
    """Whether the day to pay by has passed, for an invoice that is owed and not written off."""
    return (
        invoice.status is InvoiceStatus.FINALIZED
        and invoice.payment_status != "succeeded"
        and invoice.payment_dispute_lost_at is None
        and invoice.payment_due_date is not None
        and invoice.payment_due_date < today
    )


def _parts(invoice: Invoice, subscriptions: Mapping[UUID, Subscription]) -> dict[str, object]:
    """What lists show too."""
    return {
        "metadata": [
            {
                "lago_id": one.get("id"),
                "key": one["key"],
                "value": one["value"],
                "created_at": one.get("created_at"),
            }
            for one in invoice.metadata
        ],
        "applied_taxes": [
            {
                "lago_invoice_id": invoice.id,
                **applied_tax_json(tax, invoice.currency),
                "fees_amount_cents": int(tax.base_cents),
                "taxable_amount_cents": int(tax.base_cents),
                "created_at": invoice.created_at,
            }
            for tax in invoice.applied_taxes
        ],
        "billing_periods": [
            _billing_period_json(one, subscriptions[one.subscription_id]) for one in invoice.subscriptions
        ],
    }


def _billing_period_json(part: InvoiceSubscription, subscription: Subscription) -> dict[str, object]:
    """What an invoice bills of a subscription. Lago's clients read instants everywhere: where no usage is billed, its
    period is the instant at which the fee's begins."""
    charges_start = part.charges_start or part.period_start
    end = last_second(part.period_end)
    return {
        "lago_subscription_id": part.subscription_id,
        "external_subscription_id": subscription.external_id,
        "lago_plan_id": subscription.plan_id,
        "subscription_from_datetime": part.period_start,
        "subscription_to_datetime": end,
        "charges_from_datetime": charges_start,
        "charges_to_datetime": last_second(part.charges_end) or charges_start,
        "fixed_charges_from_datetime": part.period_start,
        "fixed_charges_to_datetime": end,
        "invoicing_reason": part.reason,
    }


async def _whole(
    call: Call,
    invoice: Invoice,
    subscriptions: Mapping[UUID, Subscription],
    external_customer_id: str,
) -> dict[str, object]:
    return {
        "subscriptions": [
            await core_json(call.tx, subscriptions[one.subscription_id], external_customer_id, call.now)
            for one in invoice.subscriptions
        ],
        "fees": await fees_json(call.tx, call.org_id, invoice.lines),
        "credits": [_credit_json(invoice, one) for one in invoice.credits if one.kind in _CREDIT_TYPES],
        "error_details": list(invoice.error_details),
        "applied_usage_thresholds": [],
        "applied_invoice_custom_sections": [],
    }


def _credit_json(invoice: Invoice, credit: InvoiceCredit) -> dict[str, object]:
    """What reduced the invoice, but for wallets, which Core shows as one amount."""
    return {
        "lago_id": credit.id,
        "nozle_id": credit.id,
        "amount_cents": credit.amount_cents,
        "amount_currency": invoice.currency,
        "before_taxes": credit.kind is not CreditKind.CREDIT_NOTE,
        "item": {
            "lago_item_id": credit.source_id,
            "type": _CREDIT_TYPES[credit.kind],
            "code": credit.code or credit.label,
            "name": credit.label,
        },
        "invoice": {"lago_id": invoice.id, "payment_status": invoice.payment_status},
    }


async def _subscriptions(call: Call, invoices: Sequence[Invoice]) -> dict[UUID, Subscription]:
    """The subscriptions on these invoices."""
    ids = {one.subscription_id for invoice in invoices for one in invoice.subscriptions}
    return {one.id: one for one in await subscriptions_store.get_many(call.tx, call.org_id, list(ids))}


def date_text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
