"""Credits and money. A wallet's money is kept exact; minor units and credits are how it is shown and spent.

As Lago: credits count to 5 decimals, what is bought is worth whole minor units
(https://getlago.com/docs/guide/wallet-and-prepaid-credits/wallet-top-up-and-void).
"""

from decimal import ROUND_FLOOR, Context, Decimal

from nozle_server.core.money import exponent, to_major, to_minor
from nozle_server.core.numbers import FRACTION_DIGITS, INTEGER_DIGITS
from nozle_server.core.rounding import EXACT, divide, round_half_away

CREDIT_PLACES = 5

_LIMIT = Decimal(10**INTEGER_DIGITS)
_CREDIT = Decimal(1).scaleb(-CREDIT_PLACES)
_CUTTING = Context(prec=130, rounding=ROUND_FLOOR)


def whole_credits(credits: Decimal) -> Decimal:
    """Credits as they count: what is behind the fifth decimal is cut off.

    >>> whole_credits(Decimal("1.000019"))
    Decimal('1.00001')
    """
    return credits.quantize(_CREDIT, context=_CUTTING)


def money_of(credits: Decimal, rate: Decimal) -> Decimal | None:
    """What credits are worth, in major units; None when the ledger cannot hold that exactly (12 decimals, 18 digits)."""
    amount = EXACT.multiply(credits, rate)
    if round_half_away(amount, FRACTION_DIGITS) != amount or amount >= _LIMIT:
        return None
    return amount


def price_of(credits: Decimal, rate: Decimal, currency: str) -> Decimal | None:
    """What credits cost, in major units that are whole minor ones; None for more than the ledger can hold."""
    amount = settled(EXACT.multiply(credits, rate), currency)
    return amount if amount < _LIMIT else None


def settled(amount: Decimal, currency: str) -> Decimal:
    """Major units rounded to whole minor units, halves away from zero: what can be invoiced.

    >>> settled(Decimal("0.125"), "USD"), settled(Decimal("0.5"), "JPY")
    (Decimal('0.13'), Decimal('1'))
    """
    return round_half_away(amount, exponent(currency))


def spendable_cents(amount: Decimal, currency: str) -> int:
    """The whole minor units in an amount of money: half a cent pays nothing.

    >>> spendable_cents(Decimal("0.999"), "USD"), spendable_cents(Decimal("0.005"), "USD")
    (99, 0)
    """
    return int(to_minor(amount, currency).to_integral_value(rounding=ROUND_FLOOR))


def from_cents(cents: int, currency: str) -> Decimal:
    """Major units from minor ones."""
    return to_major(Decimal(cents), currency)


def credits_of(amount: Decimal, rate: Decimal) -> Decimal:
    """Money as credits, to the ledger's 12 decimals."""
    return round_half_away(divide(amount, rate), FRACTION_DIGITS)


def shown_credits(amount: Decimal, rate: Decimal) -> Decimal:
    """Money as the credits that a wallet shows: to 5 decimals, halves away from zero.

    >>> shown_credits(Decimal(10), Decimal(3))
    Decimal('3.33333')
    """
    return round_half_away(divide(amount, rate), CREDIT_PLACES)
