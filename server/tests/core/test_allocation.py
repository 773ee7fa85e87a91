"""A split loses no cent."""

import doctest
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core import allocation
from nozle_server.core.allocation import allocate, allocate_exact, settle
from nozle_server.core.rounding import to_cents

weights = st.lists(
    st.decimals(min_value=0, max_value=Decimal(10**18), places=12, allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=20,
)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(allocation).failed == 0


def _decimals(*texts):
    return [Decimal(text) for text in texts]


@pytest.mark.parametrize(
    ("total", "given_weights", "parts"),
    [
        (0, _decimals("1", "2"), (0, 0)),
        (100, _decimals("1"), (100,)),
        (100, _decimals("1", "1", "1"), (34, 33, 33)),
        (-100, _decimals("1", "1", "1"), (-34, -33, -33)),
        (5, _decimals("0.5", "0.2"), (4, 1)),
        (10, _decimals("0", "3", "0"), (0, 10, 0)),
        (10, _decimals("0", "0"), (10, 0)),
        (1, _decimals("0.000000000001", "0.000000000002"), (0, 1)),
    ],
)
def test_cents_go_to_the_largest_remainders(total, given_weights, parts):
    assert allocate(total, given_weights) == parts


@given(st.integers(-(10**18), 10**18), weights)
def test_parts_sum_to_the_whole_and_miss_their_share_by_less_than_a_cent(total, given_weights):
    """T05: largest-remainder drift is 0."""
    parts = allocate(total, given_weights)
    assert sum(parts) == total
    whole = sum(map(Fraction, given_weights))
    if whole:
        for part, weight in zip(parts, given_weights, strict=True):
            assert abs(part - total * Fraction(weight) / whole) < 1


@given(
    st.decimals(min_value=-(10**18), max_value=10**18, places=12, allow_nan=False, allow_infinity=False),
    weights,
)
def test_exact_parts_sum_exactly(total, given_weights):
    parts = allocate_exact(total, given_weights)
    assert sum(map(Fraction, parts)) == Fraction(total)


def test_what_the_quotients_miss_goes_to_the_largest_weight():
    third = Decimal("0.333333333333333333333333")
    assert allocate_exact(Decimal(1), _decimals("1", "1", "1")) == (third + Decimal("1E-24"), third, third)
    assert allocate_exact(Decimal(0), _decimals("0", "0")) == (0, 0)
    assert allocate_exact(Decimal(5), _decimals("0", "0")) == (5, 0)


@pytest.mark.parametrize("split", [allocate, allocate_exact])
@pytest.mark.parametrize("bad", [[], [Decimal(1), Decimal(-1)]])
def test_no_weights_and_negative_weights_are_refused(split, bad):
    with pytest.raises(ValueError, match=r"split|negative"):
        split(1, bad)


@pytest.mark.parametrize(
    ("amounts", "parts"),
    [
        (_decimals(), ()),
        (_decimals("0"), (0,)),
        (_decimals("0.5"), (1,)),
        (_decimals("0.5", "0.5"), (1, 0)),
        (_decimals("0.4", "0.4", "0.4"), (1, 0, 0)),
        (_decimals("3", "0.1", "0.4"), (3, 0, 1)),
        (_decimals("1.6", "1.6"), (2, 1)),
        (_decimals("-0.5", "-0.5"), (-1, 0)),
        (_decimals("2.5", "-2.5"), (2, -2)),
        (_decimals("10.7", "-0.9"), (10, 0)),
    ],
)
def test_settled_parts_sum_to_the_sum_rounded_once(amounts, parts):
    assert settle(amounts) == parts


@given(
    st.lists(
        st.decimals(min_value=-(10**6), max_value=10**6, places=3, allow_nan=False, allow_infinity=False),
        max_size=12,
    )
)
def test_settling_loses_nothing_and_moves_nobody_by_a_unit(amounts):
    """The parts sum to the exact sum rounded once; whole amounts stay; a credit mirrors its charge."""
    parts = settle(amounts)
    assert sum(parts) == to_cents(sum(amounts, Decimal(0)))
    assert all(abs(part - amount) < 1 for part, amount in zip(parts, amounts, strict=True))
    assert settle([-amount for amount in amounts]) == tuple(-part for part in parts)
