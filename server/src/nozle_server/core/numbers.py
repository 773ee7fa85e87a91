"""Amounts from the outside, and amounts on their way out.

One rule for every amount in a request: at most 18 integer and 12 fractional digits, as the database's
NUMERIC(38, 12) can hold with room for sums. A JSON number with more fractional digits is rounded half even
to 12, because 0.1 + 0.2 of a JavaScript client is not an attempt to be that precise; a string with more
says so on purpose and is refused.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

from nozle_server.core.errors import InvalidInput

INTEGER_DIGITS = 18
FRACTION_DIGITS = 12

_LIMIT = 10**INTEGER_DIGITS
_STEP = Decimal(1).scaleb(-FRACTION_DIGITS)
_TO_STEP = Context(prec=INTEGER_DIGITS + FRACTION_DIGITS + 1, rounding=ROUND_HALF_EVEN)

# [0-9], not \d: the latter also takes Arabic-Indic and other digits.
_PLAIN_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,12})?")


def parse_amount(
    value: object, field: str, *, minimum: Decimal | None = None, exclusive: bool = False
) -> Decimal:
    """Read the amount in `field`: a JSON number (int or Decimal, as the strict reader yields) or a decimal
    string.

    `minimum` bounds it from below, itself allowed unless `exclusive`. InvalidInput with details `{field:
    [code]}`: `invalid_amount` for what is no such number (a boolean, NaN, "1e3", " 1", 13 decimals in a
    string), `value_is_out_of_range` for more than 18 integer digits or less than the minimum.

    >>> parse_amount("0.12", "amount"), parse_amount(Decimal("0.30000000000000004"), "amount")
    (Decimal('0.12'), Decimal('0.300000000000'))
    """
    amount = _to_decimal(value, field)
    return amount if minimum is None else bounded(amount, field, minimum=minimum, exclusive=exclusive)


def bounded(amount: Decimal, field: str, *, minimum: Decimal, exclusive: bool = False) -> Decimal:
    """An amount that was read already, unless it is below its bound, as in `parse_amount`."""
    if amount <= minimum if exclusive else amount < minimum:
        bound = "more than" if exclusive else "at least"
        raise _out_of_range(field, f"{bound} {to_plain(minimum)}")
    return amount


def to_plain(value: Decimal) -> str:
    """Write a finite number without exponent and trailing zeros: "100", "0.12", "0" for minus zero.

    >>> to_plain(Decimal("1E+2")), to_plain(Decimal("0.1200")), to_plain(Decimal("-0.0"))
    ('100', '0.12', '0')
    """
    assert value.is_finite(), "only finite numbers are stored or shown"
    if not value:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _to_decimal(value: object, field: str) -> Decimal:
    if type(value) is int:
        if not -_LIMIT < value < _LIMIT:
            raise _too_large(field)
        return Decimal(value)
    if isinstance(value, str):
        if not _PLAIN_DECIMAL.fullmatch(value):
            raise _invalid(field)
        return Decimal(value) or Decimal(0)  # "-0" is 0
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _invalid(field)
    number = Decimal(value)
    if not number.is_finite():
        raise _invalid(field)
    # Before any arithmetic: 1E+999999 is cheap to compare and expensive to work with.
    _refuse_too_large(number, field)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "a finite number has an exponent"
    if exponent < -FRACTION_DIGITS:
        number = number.quantize(_STEP, context=_TO_STEP)
        _refuse_too_large(number, field)
    elif exponent > 0:
        number = Decimal(int(number))  # "1E+2" is 100
    return number or Decimal(0)


def _refuse_too_large(number: Decimal, field: str) -> None:
    if number.copy_abs() >= _LIMIT:
        raise _too_large(field)


def _too_large(field: str) -> InvalidInput:
    return _out_of_range(field, f"less than 1e{INTEGER_DIGITS}")


def _invalid(field: str) -> InvalidInput:
    return InvalidInput(
        f"{field} must be a decimal number with at most {INTEGER_DIGITS} integer"
        f" and {FRACTION_DIGITS} fractional digits.",
        details={field: ["invalid_amount"]},
    )


def _out_of_range(field: str, bound: str) -> InvalidInput:
    return InvalidInput(f"{field} must be {bound}.", details={field: ["value_is_out_of_range"]})


def to_decimal_text(value: Decimal) -> str:
    """A number as Lago writes decimals in JSON: text in plain digits with at least one after the point.

    >>> to_decimal_text(Decimal("2")), to_decimal_text(Decimal("0.250"))
    ('2.0', '0.25')
    """
    text = to_plain(value)
    return text if "." in text else f"{text}.0"
