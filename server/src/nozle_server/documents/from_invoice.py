"""An invoice, whom it is for and who sends it, as the document that is printed. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from nozle_server.core.money import to_major
from nozle_server.core.rounding import to_cents
from nozle_server.customers.model import Customer
from nozle_server.documents.model import (
    Days,
    DocumentLine,
    InvoiceDocument,
    Party,
    Reduction,
    Section,
    TaxRow,
    WalkStep,
)
from nozle_server.documents.money_text import days_text, exact_amount_text
from nozle_server.identity.model import Organization
from nozle_server.invoicing.model import (
    CreditKind,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    InvoiceType,
    LineKind,
)

_ADJUSTMENTS = "Adjustments of closed periods"

# What stands above the page and across it, for documents that must not be taken for a valid invoice.
_STANDING = {
    InvoiceStatus.DRAFT: ("Draft invoice", "DRAFT"),
    InvoiceStatus.VOIDED: ("Voided invoice", "VOID"),
    InvoiceStatus.FAILED: ("Failed invoice", "FAILED"),
    InvoiceStatus.CLOSED: ("Closed invoice", "CLOSED"),
}
# Credits are paid before they are used; Lago heads such invoices this way too.
_HEADS = {InvoiceType.CREDIT: "Advance invoice"}

_STEPS = {
    "units": "Units",
    "prorated_units": "Units, by the time they were there",
    "free_units": "Free units",
    "tier": "Tier",
    "volume_tier": "Volume tier",
    "packages": "Packages",
    "percentage": "Percentage",
    "fixed_fee": "Fixed fee",
    "transaction_minimum": "Minimum for each transaction",
    "transaction_maximum": "Maximum for each transaction",
    "floor_at_zero": "Raised to zero",
    "before_event": "Charged for the units before",
}


@dataclass(frozen=True, slots=True)
class SubscriptionName:
    """How a subscription is called on paper: its own name, else its plan's; and the merchant's id for it."""

    title: str
    external_id: str


def invoice_document(
    invoice: Invoice,
    customer: Customer,
    organization: Organization,
    *,
    subscriptions: Mapping[UUID, SubscriptionName],
    invoice_numbers: Mapping[UUID, str],
) -> InvoiceDocument:
    """`subscriptions` names those on the invoice's lines, `invoice_numbers` the invoices that its lines adjust."""
    kind, watermark = _STANDING.get(invoice.status, (_HEADS.get(invoice.invoice_type, "Invoice"), None))
    return InvoiceDocument(
        kind=kind,
        number=invoice.number,
        currency=invoice.currency,
        issuing_date=invoice.issuing_date,
        payment_due_date=invoice.payment_due_date,
        days=_whole_period(invoice),
        merchant=merchant_party(organization),
        customer=customer_party(customer),
        sections=tuple(_sections(invoice, subscriptions, invoice_numbers)),
        fees_amount_cents=invoice.fees_amount_cents,
        progressive_credits=_reductions(invoice, CreditKind.PROGRESSIVE, "Billed before on"),
        coupons=_reductions(invoice, CreditKind.COUPON, "Coupon"),
        sub_total_excluding_taxes_amount_cents=invoice.sub_total_excluding_taxes_amount_cents,
        taxes=tax_rows(invoice.applied_taxes),
        sub_total_including_taxes_amount_cents=invoice.sub_total_including_taxes_amount_cents,
        credit_notes=_reductions(invoice, CreditKind.CREDIT_NOTE, "Credit note"),
        prepaid_credits=_reductions(invoice, CreditKind.WALLET, "Prepaid credits"),
        total_amount_cents=invoice.total_amount_cents,
        paid_amount_cents=invoice.total_paid_amount_cents,
        watermark=watermark,
        footer=document_footer(organization),
        metadata=shown_metadata(customer),
    )


def merchant_party(organization: Organization) -> Party:
    return _party(organization.details, organization.name, _text(organization.details, "email"))


def customer_party(customer: Customer) -> Party:
    """The legal name before the name before the person's; the merchant's id where there is no name at all."""
    person = " ".join(_text(customer.details, part) or "" for part in ("firstname", "lastname")).strip()
    return _party(customer.details, customer.name or person or customer.external_id, customer.email)


def document_footer(organization: Organization) -> str | None:
    """The text that the merchant wants at the foot of each page (Core: billing_configuration.invoice_footer)."""
    configuration = organization.details.get("billing_configuration")
    return _text(configuration, "invoice_footer") if isinstance(configuration, Mapping) else None


def shown_metadata(customer: Customer) -> tuple[tuple[str, str], ...]:
    """The customer's metadata that is meant for its invoices."""
    entries = customer.details.get("metadata") or ()
    return tuple(
        (str(entry["key"]), str(entry["value"]))
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("display_in_invoice") and entry.get("value") is not None
    )


def tax_rows(taxes: Iterable[Any]) -> tuple[TaxRow, ...]:
    """Of applied taxes, of an invoice or a credit note."""
    return tuple(
        TaxRow(tax.name, tax.rate, to_cents(Decimal(tax.base_cents)), tax.amount_cents) for tax in taxes
    )


def days_of(start: datetime, end: datetime, timezone: str) -> Days:
    """The days of the half-open period [start, end) on the calendar of a zone; the day of `start` for an empty one.

    >>> from datetime import UTC
    >>> days_of(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), "UTC").last
    datetime.date(2026, 1, 31)
    """
    zone = ZoneInfo(timezone)
    first = start.astimezone(zone).date()
    return Days(first, max(first, (end - timedelta(microseconds=1)).astimezone(zone).date()))


def walk_of(line: InvoiceLine) -> tuple[Decimal | None, tuple[WalkStep, ...]]:
    """The one price of all units of a line, in major units, if there is one; else the steps that explain the amount."""
    if len(line.steps) == 1:
        (step,) = line.steps
        if step.get("kind") == "units" and not step.get("flat_cents"):
            return to_major(Decimal(step["unit_price_cents"]), line.currency), ()
        if "whole_days" in step and step["days"] == step["whole_days"] and step.get("kind") == "fixed_fee":
            return to_major(Decimal(step["full_amount_cents"]), line.currency), ()
    return None, tuple(_step(step, line.currency) for step in line.steps)


def _step(step: Mapping[str, Any], currency: str) -> WalkStep:
    amount = Decimal(step.get("amount_cents", 0))
    kind = str(step.get("kind", ""))
    if kind == "commitment":
        committed, billed = (
            exact_amount_text(Decimal(step[name]), currency) for name in ("committed_cents", "billed_cents")
        )
        return WalkStep(label=f"Committed {committed}, billed {billed}", amount_cents=amount)
    if "whole_days" in step:
        full = exact_amount_text(Decimal(step["full_amount_cents"]), currency)
        return WalkStep(label=f"{step['days']} of {step['whole_days']} days of {full}", amount_cents=amount)
    label = " ".join(part for part in (_STEPS.get(kind, kind.replace("_", " ")), step.get("label")) if part)
    units, price, flat = (
        Decimal(step.get(name) or 0) for name in ("units", "unit_price_cents", "flat_cents")
    )
    if flat and (units or price):
        label += f", and {exact_amount_text(flat, currency)} flat"
    has_price = bool(units or price)
    return WalkStep(
        label=label,
        amount_cents=amount,
        units=units if has_price else None,
        unit_price=to_major(price, currency) if has_price else None,
    )


def _sections(
    invoice: Invoice, subscriptions: Mapping[UUID, SubscriptionName], invoice_numbers: Mapping[UUID, str]
) -> Iterable[Section]:
    """By subscription in the order of the lines, then what belongs to none, then the adjustments."""
    adjustments = [line for line in invoice.lines if line.adjusts_invoice_id]
    others = [line for line in invoice.lines if not line.adjusts_invoice_id]
    spans = {one.subscription_id: one for one in invoice.subscriptions}
    for subscription_id in dict.fromkeys(line.subscription_id for line in others):
        lines = tuple(
            _line(line, invoice, None) for line in others if line.subscription_id == subscription_id
        )
        if subscription_id is None:
            yield Section(title="", lines=lines)
            continue
        name, span = subscriptions[subscription_id], spans.get(subscription_id)
        days = days_of(span.period_start, span.period_end, invoice.timezone) if span else None
        yield Section(title=name.title, reference=name.external_id, days=days, lines=lines)
    if adjustments:
        lines = tuple(
            _line(line, invoice, _adjusted(line, invoice, subscriptions, invoice_numbers))
            for line in adjustments
        )
        yield Section(title=_ADJUSTMENTS, lines=lines)


def _line(line: InvoiceLine, invoice: Invoice, adjusts: str | None) -> DocumentLine:
    unit_price, steps = walk_of(line)
    days = None
    if adjusts is None and line.period_start and line.period_end:
        days = days_of(line.period_start, line.period_end, invoice.timezone)
    return DocumentLine(
        label=line.description,
        amount_cents=line.amount_cents,
        days=days,
        units=None if line.kind is LineKind.COMMITMENT else line.units,
        unit_price=unit_price,
        grouped_by={key: value for key, value in line.grouped_by.items() if value is not None},
        adjusts=adjusts,
        tax_rate=line.taxes_rate if invoice.applied_taxes else None,
        steps=steps,
    )


def _adjusted(
    line: InvoiceLine,
    invoice: Invoice,
    subscriptions: Mapping[UUID, SubscriptionName],
    invoice_numbers: Mapping[UUID, str],
) -> str:
    assert line.adjusts_invoice_id is not None
    period = ""
    if line.period_start and line.period_end:
        days = days_of(line.period_start, line.period_end, invoice.timezone)
        period = f" of {days_text(days.first, days.last)}"
    of = subscriptions.get(line.subscription_id) if line.subscription_id else None
    parts = [
        f"Late usage{period}",
        f"invoice {invoice_numbers[line.adjusts_invoice_id]}",
        of.external_id if of else None,
    ]
    return ", ".join(part for part in parts if part)


def _reductions(invoice: Invoice, kind: CreditKind, word: str) -> tuple[Reduction, ...]:
    return tuple(
        Reduction(f"{word} {credit.label}".strip(), credit.amount_cents)
        for credit in invoice.credits
        if credit.kind is kind
    )


def _whole_period(invoice: Invoice) -> Days | None:
    """From the first to the last day of the subscriptions on it."""
    if not invoice.subscriptions:
        return None
    spans = [days_of(one.period_start, one.period_end, invoice.timezone) for one in invoice.subscriptions]
    return Days(min(span.first for span in spans), max(span.last for span in spans))


def _party(details: Mapping[str, Any], name: str, email: str | None) -> Party:
    place = " ".join(part for part in (_text(details, "zipcode"), _text(details, "city")) if part)
    lines = (
        _text(details, "address_line1"),
        _text(details, "address_line2"),
        place,
        _text(details, "state"),
        _text(details, "country"),
        _text(details, "phone"),
    )
    number = _text(details, "legal_number")
    return Party(
        name=_text(details, "legal_name") or name,
        address=tuple(line for line in (*lines, f"No. {number}" if number else None) if line),
        email=email,
        tax_number=_text(details, "tax_identification_number"),
    )


def _text(details: Mapping[str, Any], key: str) -> str | None:
    value = details.get(key)
    return value if isinstance(value, str) and value.strip() else None
