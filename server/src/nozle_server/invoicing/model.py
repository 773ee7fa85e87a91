"""Invoices and their lines (Core: fees). A finalized invoice is never rewritten.

Amounts are in minor units of the invoice's currency. They fit together the same way everywhere:

    fees - progressive_billing_credit - coupons = sub_total_excluding_taxes
    sub_total_excluding_taxes + taxes           = sub_total_including_taxes
    sub_total_including_taxes - credit_notes - prepaid_credit = total
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


class LineKind(StrEnum):
    """What a line is for: the plan's fixed fee, usage, a fixed charge, an add-on, a commitment's true-up, bought credits."""

    SUBSCRIPTION = "subscription"
    CHARGE = "charge"
    FIXED_CHARGE = "fixed_charge"
    ADD_ON = "add_on"
    COMMITMENT = "commitment"
    CREDIT = "credit"


class BillingReason(StrEnum):
    """Why a subscription is on an invoice."""

    STARTING = "subscription_starting"
    PERIODIC = "subscription_periodic"
    TERMINATING = "subscription_terminating"
    TRIAL_ENDED = "subscription_trial_ended"
    IN_ADVANCE_CHARGE = "in_advance_charge"
    PROGRESSIVE = "progressive_billing"
    LATE_USAGE = "late_usage"


class InvoiceType(StrEnum):
    """What kind of document: a subscription's bill, a one-off, bought credits, usage past a threshold, paid fees listed."""

    SUBSCRIPTION = "subscription"
    ADD_ON = "add_on"
    CREDIT = "credit"
    ONE_OFF = "one_off"
    PROGRESSIVE = "progressive_billing"
    ADVANCE_CHARGES = "advance_charges"


class InvoiceStatus(StrEnum):
    """A draft may still change; `failed` could not be made and may be retried; `closed` is a draft that came to nothing
    where invoices of zero are not wanted, and is not shown."""

    DRAFT = "draft"
    FINALIZED = "finalized"
    VOIDED = "voided"
    FAILED = "failed"
    CLOSED = "closed"


class CreditKind(StrEnum):
    """What reduced an invoice."""

    PROGRESSIVE = "progressive_billing"
    COUPON = "coupon"
    CREDIT_NOTE = "credit_note"
    WALLET = "wallet"


@dataclass(frozen=True, slots=True)
class AppliedTax:
    """A tax as it was when it was applied: `rate` percent of `base_cents` (exact on a line, settled on an invoice) made
    `amount_cents`, settled."""

    tax_id: UUID
    code: str
    name: str
    description: str | None
    rate: Decimal
    base_cents: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One priced thing. `amount_cents` is settled (rounded once, half away from zero); `exact_amount_cents` stands
    beside it. `steps` is the walk that made it (rating).

    `grouped_by` holds the values of the charge's pricing group keys. `true_up_of` names the line that a minimum was added
    to, `adjusts_invoice_id` the invoice of the closed period that this line corrects. A line paid in advance belongs to
    one event, and may have no invoice. `coupons_exact_amount_cents` is this line's share of the invoice's coupons.
    """

    org_id: UUID
    id: UUID
    kind: LineKind
    customer_id: UUID
    currency: str
    description: str
    units: Decimal
    exact_amount_cents: Decimal
    amount_cents: int
    created_at: datetime
    invoice_id: UUID | None = None
    position: int = 0
    events_count: int = 0
    subscription_id: UUID | None = None
    plan_id: UUID | None = None
    plan_version_id: UUID | None = None
    charge_id: UUID | None = None
    charge_filter_id: UUID | None = None
    metric_id: UUID | None = None
    metric_code: str | None = None
    fixed_charge_id: UUID | None = None
    add_on_id: UUID | None = None
    item_code: str | None = None
    item_name: str | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    grouped_by: Mapping[str, str | None] = field(default_factory=dict)
    pay_in_advance: bool = False
    event_transaction_id: str | None = None
    true_up_of: UUID | None = None
    adjusts_invoice_id: UUID | None = None
    wallet_transaction_id: UUID | None = None
    coupons_exact_amount_cents: Decimal = Decimal(0)
    taxes_rate: Decimal = Decimal(0)
    taxes_amount_cents: int = 0
    applied_taxes: tuple[AppliedTax, ...] = ()
    payment_status: str = "pending"


@dataclass(frozen=True, slots=True)
class InvoiceSubscription:
    """A subscription on an invoice: [period_start, period_end) is its fixed fee's, the other its usage's (None: no usage)."""

    subscription_id: UUID
    reason: BillingReason
    period_start: datetime
    period_end: datetime
    charges_start: datetime | None = None
    charges_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class InvoiceCredit:
    """What an invoice was reduced by, and by how much; `source_id` is the invoice, applied coupon, credit note or wallet
    transaction it came from."""

    id: UUID
    kind: CreditKind
    source_id: UUID
    label: str
    code: str | None
    amount_cents: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """The document. `number` and `sequential_id` are gapless within the organization and given when it is finalized.

    A draft is finalized at `finalize_at`, when the customer's grace period has passed. `timezone` is the customer's when
    the invoice was made: dates are written in it.
    """

    org_id: UUID
    id: UUID
    sequential_id: int | None
    number: str
    customer_id: UUID
    invoice_type: InvoiceType
    status: InvoiceStatus
    payment_status: str
    currency: str
    timezone: str
    fees_amount_cents: int
    progressive_billing_credit_amount_cents: int
    coupons_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    taxes_amount_cents: int
    taxes_rate: Decimal
    sub_total_including_taxes_amount_cents: int
    credit_notes_amount_cents: int
    prepaid_credit_amount_cents: int
    total_amount_cents: int
    total_paid_amount_cents: int
    net_payment_term: int
    issuing_date: date | None
    payment_due_date: date | None
    finalize_at: datetime | None
    created_at: datetime
    updated_at: datetime
    finalized_at: datetime | None
    voided_at: datetime | None = None
    payment_dispute_lost_at: datetime | None = None
    applied_taxes: tuple[AppliedTax, ...] = ()
    metadata: tuple[Mapping[str, Any], ...] = ()
    error_details: tuple[Mapping[str, Any], ...] = ()
    lines: tuple[InvoiceLine, ...] = ()
    subscriptions: tuple[InvoiceSubscription, ...] = ()
    credits: tuple[InvoiceCredit, ...] = ()
