"""Invoices and their lines. A finalized invoice is never rewritten."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


class LineKind(StrEnum):
    """The plan's fixed fee, or a charge for usage."""

    SUBSCRIPTION = "subscription"
    CHARGE = "charge"


class BillingReason(StrEnum):
    """Why an invoice was made: a plan paid in advance started, a period ended, a subscription ended."""

    STARTING = "subscription_starting"
    PERIODIC = "subscription_periodic"
    TERMINATING = "subscription_terminating"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One priced thing. `amount_cents` is settled (rounded once, half away from zero); `exact_amount_cents` stands
    beside it. `steps` is the walk that made it (rating)."""

    id: UUID
    position: int
    kind: LineKind
    subscription_id: UUID
    plan_id: UUID
    plan_version_id: UUID
    charge_id: UUID | None
    charge_filter_id: UUID | None
    metric_id: UUID | None
    metric_code: str | None
    description: str
    units: Decimal
    events_count: int
    exact_amount_cents: Decimal
    amount_cents: int
    period_start: datetime
    period_end: datetime
    steps: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Invoice:
    """The document. Amounts in minor units of `currency`; `number` is gapless within the organization."""

    org_id: UUID
    id: UUID
    sequential_id: int
    number: str
    customer_id: UUID
    subscription_id: UUID | None
    invoice_type: str
    billing_reason: BillingReason
    status: str
    payment_status: str
    currency: str
    period_start: datetime
    period_end: datetime
    fees_amount_cents: int
    total_amount_cents: int
    issuing_date: date
    payment_due_date: date
    created_at: datetime
    finalized_at: datetime | None
    lines: tuple[InvoiceLine, ...] = ()
