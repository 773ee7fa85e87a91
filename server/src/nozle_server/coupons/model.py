"""Discounts: coupons as the merchant defines them, and as customers have them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID


class CouponType(StrEnum):
    """Whether a coupon takes an amount or a part off."""

    FIXED_AMOUNT = "fixed_amount"
    PERCENTAGE = "percentage"


class Frequency(StrEnum):
    """How often: once (a fixed amount until it is used up), on a number of invoices, or on every invoice."""

    ONCE = "once"
    RECURRING = "recurring"
    FOREVER = "forever"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a coupon takes off: an amount in minor units of its currency, or percent; `frequency_duration` is the number
    of invoices of a recurring one."""

    amount_cents: int | None
    currency: str | None
    percentage_rate: Decimal | None
    frequency: Frequency
    frequency_duration: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a coupon is good for: these plans, or these metrics; without either, everything.

    Codes are those of plans and metrics that still exist. A limit whose plans are all gone is still one.
    """

    limited_plans: bool = False
    limited_billable_metrics: bool = False
    plan_ids: frozenset[UUID] = frozenset()
    plan_codes: tuple[str, ...] = ()
    metric_ids: frozenset[UUID] = frozenset()
    metric_codes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.limited_plans or self.limited_billable_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A discount that customers may be given, until `expiration_at`; more than once to the same when `reusable`."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    coupon_type: CouponType
    terms: Terms
    limits: Limits
    expiration_at: datetime | None
    reusable: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    def terminated_at(self, now: datetime) -> datetime | None:
        """When it ceased to be given; None as long as it may be."""
        return self.expiration_at if self.expiration_at is not None and self.expiration_at <= now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedCoupon:
    """A coupon that a customer has, on terms agreed for this customer. It outlives the coupon's expiration.

    `used_cents` is what invoices took of it, those that were voided aside.
    """

    org_id: UUID
    id: UUID
    coupon: Coupon
    customer_id: UUID
    external_customer_id: str
    terms: Terms
    frequency_duration_remaining: int | None
    used_cents: int
    status: str
    terminated_at: datetime | None
    created_at: datetime

    @property
    def remaining_cents(self) -> int | None:
        """What is left of a fixed amount that is given once; None for the others, which do not run down."""
        if self.terms.amount_cents is None or self.terms.frequency is not Frequency.ONCE:
            return None
        return self.terms.amount_cents - self.used_cents


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponUse:
    """What one invoice took of an applied coupon, in minor units of the invoice's currency."""

    id: UUID
    applied_coupon_id: UUID
    invoice_id: UUID
    amount_cents: int
    currency: str
    payment_status: str
    created_at: datetime
