"""What a coupon's terms must be, whether they are the coupon's own or agreed for one customer."""

from decimal import Decimal

from nozle_server.core.errors import InvalidInput
from nozle_server.core.money import is_currency
from nozle_server.core.numbers import parse_amount
from nozle_server.coupons.model import CouponType, Frequency, Terms

MAX_AMOUNT_CENTS = 10**15
MAX_DURATION = 10**6


def check_terms(kind: CouponType, terms: Terms, *, minimum_cents: int) -> Terms:
    """The terms without what a coupon of this kind has no use for; InvalidInput when something is missing or wrong."""
    fixed = kind is CouponType.FIXED_AMOUNT
    return Terms(
        amount_cents=_amount(terms.amount_cents, minimum_cents) if fixed else None,
        currency=_currency(terms.currency) if fixed else None,
        percentage_rate=None if fixed else _rate(terms.percentage_rate),
        frequency=terms.frequency,
        frequency_duration=_duration(terms.frequency_duration)
        if terms.frequency is Frequency.RECURRING
        else None,
    )


def _amount(amount_cents: int | None, minimum: int) -> int:
    if amount_cents is None:
        raise _mandatory("amount_cents")
    if not minimum <= amount_cents <= MAX_AMOUNT_CENTS:
        raise InvalidInput(
            f"amount_cents must be at least {minimum}", details={"amount_cents": ["value_is_out_of_range"]}
        )
    return amount_cents


def _currency(currency: str | None) -> str:
    if currency is None:
        raise _mandatory("amount_currency")
    if not is_currency(currency):
        raise InvalidInput(
            "amount_currency is not an ISO 4217 code", details={"amount_currency": ["value_is_invalid"]}
        )
    return currency


def _rate(rate: Decimal | None) -> Decimal:
    if rate is None:
        raise _mandatory("percentage_rate")
    return parse_amount(Decimal(rate), "percentage_rate", minimum=Decimal(0), exclusive=True)


def _duration(duration: int | None) -> int:
    if duration is None:
        raise _mandatory("frequency_duration")
    if not 0 < duration <= MAX_DURATION:
        raise InvalidInput(
            "frequency_duration must be more than 0",
            details={"frequency_duration": ["value_is_out_of_range"]},
        )
    return duration


def _mandatory(field: str) -> InvalidInput:
    return InvalidInput(f"{field} is required", details={field: ["value_is_mandatory"]})
