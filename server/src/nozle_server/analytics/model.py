"""Figures by month. A month is named by its first day; amounts are in minor units of `currency`."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from nozle_server.core.periods import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The months from `first` to `last`, both included; None restricts nothing."""

    first: date
    last: date
    currency: str | None = None
    customer_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Revenue:
    """What was invoiced less what was refunded of it."""

    month: date
    currency: str
    amount_cents: int
    invoices_count: int


@dataclass(frozen=True, slots=True)
class Collection:
    """What was invoiced, by whether it has been paid; a month without invoices has no status and no currency."""

    month: date
    payment_status: str | None
    currency: str | None
    invoices_count: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class InvoicedUsage:
    """What a metric's usage brought, coupons taken off, which need not be whole minor units."""

    month: date
    code: str
    currency: str
    amount_cents: Decimal


@dataclass(frozen=True, slots=True)
class Overdue:
    """What is still to be paid of invoices that were due in a month."""

    month: date
    currency: str
    amount_cents: int
    invoice_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class RecurringRevenue:
    """Subscription fees as a month's; None where a month has none."""

    month: date
    currency: str | None
    amount_cents: int | None


@dataclass(frozen=True, slots=True)
class SubscriptionFees:
    """Subscription fees that are alike: issued on one day for `days` local days, in advance or in arrears. The amount is
    after coupons and with tax."""

    issued_on: date
    interval: Interval
    pay_in_advance: bool
    days: int
    currency: str
    amount_cents: int
    count: int
