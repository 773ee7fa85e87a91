"""What a caller writes to make, change or give a coupon; the names are Lago's."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.fields import Amount

Kind = Literal["fixed_amount", "percentage"]
HowOften = Literal["once", "recurring", "forever"]
Expiration = Literal["no_expiration", "time_limit"]


class AppliesTo(msgspec.Struct, kw_only=True):
    """Limits a coupon to plans, or to billable metrics."""

    plan_codes: list[str] | None = None
    billable_metric_codes: list[str] | None = None


class CouponDraft(msgspec.Struct, kw_only=True):
    """`POST /coupons`. A fixed amount needs `amount_cents` and `amount_currency`, a percentage `percentage_rate`, a
    recurring one `frequency_duration`, one with a time limit `expiration_at`."""

    code: str
    name: str
    coupon_type: Kind
    frequency: HowOften
    expiration: Expiration
    description: str | None = None
    amount_cents: int | None = None
    amount_currency: str | None = None
    percentage_rate: Amount | None = None
    frequency_duration: int | None = None
    expiration_at: Any = None
    reusable: bool = True
    applies_to: AppliesTo | None = None


class CouponChanges(msgspec.Struct, kw_only=True):
    """`PUT /coupons/{code}`: what is left out stays."""

    code: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    coupon_type: Kind | UnsetType = UNSET
    frequency: HowOften | UnsetType = UNSET
    expiration: Expiration | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    amount_cents: int | UnsetType | None = UNSET
    amount_currency: str | UnsetType | None = UNSET
    percentage_rate: Amount | UnsetType | None = UNSET
    frequency_duration: int | UnsetType | None = UNSET
    expiration_at: Any = UNSET
    reusable: bool | UnsetType = UNSET
    applies_to: AppliesTo | UnsetType | None = UNSET


class AppliedCouponDraft(msgspec.Struct, kw_only=True):
    """`POST /applied_coupons`: what is given stands above the coupon's own terms."""

    external_customer_id: str
    coupon_code: str
    amount_cents: int | None = None
    amount_currency: str | None = None
    percentage_rate: Amount | None = None
    frequency: HowOften | None = None
    frequency_duration: int | None = None
