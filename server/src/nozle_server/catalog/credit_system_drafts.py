"""What a caller writes to make or change a credit system and its rates."""

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.fields import Amount


class CreditSystemDraft(msgspec.Struct, kw_only=True):
    """`POST /credit-systems`. `unit_name` is what one of its credits is called in the plural; `features` are labels whose
    check-and-deduct draws on this system when it names none."""

    code: str
    name: str | None = None
    description: str | None = None
    unit_name: str | None = None
    features: list[str] | None = None


class CreditSystemChange(msgspec.Struct, kw_only=True):
    """`PUT /credit-systems/{code}`: what is left out stays. `status` is active or archived."""

    code: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    unit_name: str | UnsetType | None = UNSET
    features: list[str] | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET


class CreditRateDraft(msgspec.Struct, kw_only=True):
    """`metric_amount` units of the metric cost `credit_amount` credits, from `effective_from` on (default: now)."""

    metric_amount: Amount
    credit_amount: Amount
    effective_from: object = None


class RateEntry(msgspec.Struct, kw_only=True):
    """A rate in a catalog file: `metric_amount` units of the metric cost `credit_amount` credits."""

    metric: str
    metric_amount: Amount
    credit_amount: Amount


class CreditSystemEntry(CreditSystemDraft, kw_only=True):
    """`credit_systems:` of a catalog file. `rates`, where they are said, are all that the system has."""

    rates: list[RateEntry] | None = None
