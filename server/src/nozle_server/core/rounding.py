"""Decimal arithmetic whose result does not depend on the caller's decimal context.

Sums and products are exact: `EXACT` raises `decimal.Inexact` before it would lose a digit. Quotients are
kept to 24 decimal places. Money is rounded once, on the line, half away from zero, so that a credit mirrors
its charge.
"""

from decimal import (
    ROUND_05UP,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

QUOTIENT_PLACES = 24

# A NUMERIC(38, 12) has 38 digits and a quotient at most 42 of use, so a product of three of them still fits.
_PRECISION = 130

EXACT = Context(
    prec=_PRECISION, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact]
)
"""For `with localcontext(EXACT):` around sums and products; raises `Inexact` for what does not fit."""

_ROUNDING = Context(
    prec=_PRECISION, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow]
)

# 05UP never ends a truncated quotient in 0 or 5, so rounding it again gives what rounding the true quotient
# would have given: https://docs.python.org/3/library/decimal.html#decimal.ROUND_05UP
_DIVIDING = Context(prec=_PRECISION, rounding=ROUND_05UP, traps=[InvalidOperation, DivisionByZero, Overflow])

_ONE = Decimal(1)


def round_half_away(value: Decimal, places: int = 0) -> Decimal:
    """`value` to `places` decimals, halves away from zero; negative places round to tens, hundreds, ...

    >>> round_half_away(Decimal("-2.5")), round_half_away(Decimal("14.235"), 2)
    (Decimal('-3'), Decimal('14.24'))
    >>> round_half_away(Decimal(15), -1)
    Decimal('20')
    """
    rounded = value.quantize(_ONE.scaleb(-places, context=_ROUNDING), context=_ROUNDING)
    # A negative number of places leaves an exponent behind ("2E+1"), which would leak into what is stored
    # and shown.
    return rounded if places >= 0 else rounded.quantize(_ONE, context=_ROUNDING)


def to_cents(value: Decimal) -> int:
    """Settle an amount of minor units: the one rounding of a line, half away from zero."""
    return int(round_half_away(value))


def divide(a: Decimal, b: Decimal, places: int = QUOTIENT_PLACES) -> Decimal:
    """`a / b` to 24 decimal places, or to `places`, rounded once, half away from zero; ZeroDivisionError when `b` is 0.

    >>> divide(Decimal(2), Decimal(3))
    Decimal('0.666666666666666666666667')
    >>> divide(Decimal(10), Decimal(4))
    Decimal('2.5')
    """
    if not b:
        raise ZeroDivisionError("division by zero")
    quotient = _DIVIDING.divide(a, b)
    exponent = quotient.as_tuple().exponent
    assert isinstance(exponent, int), "a quotient of finite numbers is finite"
    return quotient if exponent >= -places else round_half_away(quotient, places)
