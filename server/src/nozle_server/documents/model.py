"""What a document shows, as values: everything that a page of it says is here, nothing is looked up while drawing.

Settled amounts are whole minor units of the document's currency (cents, yen, fils) and positive, also where they reduce
the total: the page gives them their sign. Unit prices are in major units, as plans write them. Days are included at both
ends, as people read them, and already in the customer's time zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who bills, or who is billed. `logo` is a PNG, JPEG, GIF, WebP or SVG file's bytes."""

    name: str
    address: tuple[str, ...] = ()
    email: str | None = None
    tax_number: str | None = None
    logo: bytes | None = None


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last day, both included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkStep:
    """One step of how a line's amount came about, such as a tier. `amount_cents` is exact, in minor units."""

    label: str
    amount_cents: Decimal
    units: Decimal | None = None
    unit_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLine:
    """One priced thing. `adjusts` says which closed period it corrects, in words; `tax_rate` is in percent."""

    label: str
    amount_cents: int
    days: Days | None = None
    units: Decimal | None = None
    unit_price: Decimal | None = None
    grouped_by: Mapping[str, str] = field(default_factory=dict)
    adjusts: str | None = None
    tax_rate: Decimal | None = None
    steps: tuple[WalkStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The lines of one subscription (its name and id), of a one-off, or the adjustments of closed periods."""

    title: str
    reference: str | None = None
    days: Days | None = None
    lines: tuple[DocumentLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Reduction:
    """What takes an amount off: a coupon, a credit note, prepaid credits, what progressive invoices billed before."""

    label: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class TaxRow:
    """`rate` percent of `base_cents` made `amount_cents`."""

    name: str
    rate: Decimal
    base_cents: int
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDocument:
    """An invoice as it is printed. `kind` heads it: Invoice, Draft invoice, Voided invoice, Advance invoice ...

    `fees - progressive_credits - coupons = sub_total_excluding_taxes`, plus taxes `sub_total_including_taxes`, minus credit
    notes and prepaid credits `total`. `watermark` stands across each page, for what must not be taken for an invoice.
    """

    kind: str
    number: str
    currency: str
    issuing_date: date | None
    payment_due_date: date | None
    merchant: Party
    customer: Party
    fees_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    sub_total_including_taxes_amount_cents: int
    total_amount_cents: int
    paid_amount_cents: int = 0
    days: Days | None = None
    sections: tuple[Section, ...] = ()
    progressive_credits: tuple[Reduction, ...] = ()
    coupons: tuple[Reduction, ...] = ()
    taxes: tuple[TaxRow, ...] = ()
    credit_notes: tuple[Reduction, ...] = ()
    prepaid_credits: tuple[Reduction, ...] = ()
    watermark: str | None = None
    notes: tuple[str, ...] = ()
    footer: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteDocument:
    """A credit note as it is printed. Its total comes back as credit, refund and offset of the invoice, together."""

    kind: str
    number: str
    invoice_number: str
    currency: str
    issuing_date: date
    merchant: Party
    customer: Party
    sub_total_excluding_taxes_amount_cents: int
    total_amount_cents: int
    coupons_adjustment_amount_cents: int = 0
    credit_amount_cents: int = 0
    refund_amount_cents: int = 0
    offset_amount_cents: int = 0
    reason: str | None = None
    description: str | None = None
    sections: tuple[Section, ...] = ()
    taxes: tuple[TaxRow, ...] = ()
    watermark: str | None = None
    footer: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
