import doctest
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core import numbers
from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount, to_plain

LARGEST = "999999999999999999.999999999999"

amounts = st.decimals(
    min_value=Decimal("-" + LARGEST),
    max_value=Decimal(LARGEST),
    places=12,
    allow_nan=False,
    allow_infinity=False,
)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0, "0"),
        (12, "12"),
        (-12, "-12"),
        (Decimal("0.12"), "0.12"),
        ("0.12", "0.12"),
        ("+5", "5"),
        ("-0", "0"),
        (Decimal("-0.0"), "0"),
        ("007", "7"),
        (LARGEST, LARGEST),
        ("0.000000000001", "0.000000000001"),
        (Decimal("1E+2"), "100"),
        (Decimal("1E-999999"), "0"),
        # 0.1 + 0.2 in JavaScript, and the two sides of half even at the 12th place.
        (Decimal("0.30000000000000004"), "0.3"),
        (Decimal("0.0000000000005"), "0"),
        (Decimal("0.0000000000015"), "0.000000000002"),
    ],
)
def test_amounts_are_kept_to_the_digit(sent, kept):
    assert to_plain(parse_amount(sent, "amount")) == kept


@pytest.mark.parametrize(
    "sent",
    [
        None,
        True,
        False,
        0.12,
        [],
        {},
        b"1",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        "",
        " 1",
        "1\n",
        "1e3",
        "1_000",
        "1,5",
        ".5",
        "5.",
        "--1",
        "0x10",
        "NaN",
        "٣",  # ARABIC-INDIC DIGIT THREE
        "１",  # FULLWIDTH DIGIT ONE
        "0.0000000000001",
        "1234567890123456789",
        "9" * 1_000_000,
    ],
)
def test_what_is_no_plain_amount_is_refused(sent):
    with pytest.raises(InvalidInput) as refused:
        parse_amount(sent, "amount")
    assert refused.value.details == {"amount": ["invalid_amount"]}


@pytest.mark.parametrize(
    "sent",
    [10**18, -(10**18), Decimal("1E+999999"), Decimal("999999999999999999.9999999999999"), 10**4000],
)
def test_more_than_18_integer_digits_are_out_of_range(sent):
    with pytest.raises(InvalidInput) as refused:
        parse_amount(sent, "amount")
    assert refused.value.details == {"amount": ["value_is_out_of_range"]}


@pytest.mark.parametrize(
    ("sent", "exclusive", "accepted"),
    [("0.01", True, True), ("0", False, True), ("0", True, False), ("-0.01", False, False)],
)
def test_the_minimum_is_allowed_unless_it_is_exclusive(sent, exclusive, accepted):
    if accepted:
        assert parse_amount(sent, "amount", minimum=Decimal(0), exclusive=exclusive) == Decimal(sent)
        return
    with pytest.raises(InvalidInput) as refused:
        parse_amount(sent, "amount", minimum=Decimal(0), exclusive=exclusive)
    assert refused.value.details == {"amount": ["value_is_out_of_range"]}


def test_the_callers_context_does_not_matter():
    with localcontext(Context(prec=3)):
        assert parse_amount(Decimal(LARGEST), "amount") == Decimal(LARGEST)
        assert to_plain(parse_amount(LARGEST, "amount")) == LARGEST


@given(amounts)
def test_an_amount_leaves_as_it_came(amount):
    assert parse_amount(to_plain(amount), "amount") == amount == parse_amount(amount, "amount")
    assert "E" not in to_plain(amount)


@pytest.mark.parametrize(
    ("value", "written"),
    [("100", "100"), ("1E+2", "100"), ("0.1200", "0.12"), ("10.0", "10"), ("-0.00", "0"), ("-1.50", "-1.5")],
)
def test_numbers_are_written_plainly(value, written):
    assert to_plain(Decimal(value)) == written
