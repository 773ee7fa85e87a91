"""One rounding rule, half away from zero, that no caller's decimal context can change (T06)."""

import doctest
from decimal import ROUND_DOWN, Context, Decimal, Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core import rounding
from nozle_server.core.rounding import EXACT, divide, round_half_away, to_cents

amounts = st.decimals(
    min_value=Decimal(-(10**26)), max_value=Decimal(10**26), places=12, allow_nan=False, allow_infinity=False
)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(rounding).failed == 0


@pytest.mark.parametrize(
    ("value", "settled"),
    [
        ("0", 0),
        ("0.4999999999", 0),
        ("0.5", 1),
        ("-0.5", -1),
        ("1.5", 2),
        ("2.5", 3),
        ("-2.5", -3),
        ("2.4999", 2),
        ("99999999999999999999999999999.5", 10**29),
    ],
)
def test_half_cents_round_away_from_zero(value, settled):
    """T06: one rounding rule, stated."""
    assert to_cents(Decimal(value)) == settled


@pytest.mark.parametrize(
    ("places", "rounded"),
    [(-3, "0"), (-2, "100"), (-1, "140"), (0, "144"), (1, "143.6"), (2, "143.56"), (5, "143.55500")],
)
def test_places_count_to_both_sides_of_the_point(places, rounded):
    result = round_half_away(Decimal("143.555"), places)
    assert str(result) == rounded, "and no exponent is left behind"


@given(amounts)
def test_a_credit_mirrors_its_charge(amount):
    assert to_cents(-amount) == -to_cents(amount)


@given(amounts, amounts.filter(bool))
def test_quotients_are_the_nearest_at_24_places(a, b):
    true = Fraction(a) / Fraction(b)
    assert abs(Fraction(divide(a, b)) - true) <= Fraction(1, 2 * 10**24)


def test_a_quotient_just_below_a_half_is_not_rounded_twice():
    """Rounding 4.99...E-25 to the working precision first would make 5E-25 of it, and then 1E-24."""
    assert divide(Decimal("4" + 140 * "9"), Decimal("1E+165")) == 0


@pytest.mark.parametrize("dividend", ["0", "1", "-1"])
def test_dividing_by_zero_raises(dividend):
    with pytest.raises(ZeroDivisionError):
        divide(Decimal(dividend), Decimal(0))


def test_the_callers_context_does_not_matter():
    with localcontext(Context(prec=3, rounding=ROUND_DOWN)):
        assert divide(Decimal(2), Decimal(3)) == Decimal("0.666666666666666666666667")
        assert to_cents(Decimal("123456.5")) == 123457


@given(amounts, amounts, amounts)
def test_sums_and_products_of_stored_amounts_are_exact(a, b, c):
    with localcontext(EXACT):
        assert Fraction(a * b + c) == Fraction(a) * Fraction(b) + Fraction(c)


def test_what_would_lose_a_digit_raises():
    with localcontext(EXACT), pytest.raises(Inexact):
        Decimal(1).scaleb(200) + 1  # the sum itself is what raises
