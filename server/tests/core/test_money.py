from decimal import Decimal

import pytest

from nozle_server.core.errors import InvalidInput
from nozle_server.core.money import (
    MixedCurrenciesError,
    Money,
    exponent,
    is_currency,
    to_major,
    to_minor,
)


@pytest.mark.parametrize(
    ("code", "decimals"),
    [
        ("JPY", 0),
        ("KRW", 0),
        ("CLP", 0),
        ("USD", 2),
        ("EUR", 2),
        ("XCG", 2),
        ("KWD", 3),
        ("BHD", 3),
        ("CLF", 4),
    ],
)
def test_a_currency_knows_its_exponent(code, decimals):
    """T06: currencies with 0, 2, 3 decimals."""
    assert is_currency(code)
    assert exponent(code) == decimals


@pytest.mark.parametrize("code", ["", "usd", "US", "USDT", "XXX", "XAU", "ZZZ"])
def test_other_codes_are_no_currency(code):
    assert not is_currency(code)
    with pytest.raises(InvalidInput) as refused:
        exponent(code)
    assert refused.value.details == {"currency": ["value_is_invalid"]}


@pytest.mark.parametrize(
    ("major", "currency", "minor"),
    [
        ("29", "USD", "2900"),
        ("0.000000000001", "USD", "0.0000000001"),
        ("0.125", "KWD", "125"),
        ("12.5", "JPY", "12.5"),
        ("-0.5", "EUR", "-50"),
    ],
)
def test_major_and_minor_units_convert_exactly_both_ways(major, currency, minor):
    assert to_minor(Decimal(major), currency) == Decimal(minor)
    assert to_major(Decimal(minor), currency) == Decimal(major)


def test_minor_units_are_written_without_exponent():
    assert str(to_minor(Decimal("29"), "USD")) == "2900"


def test_money_of_one_currency_adds_and_subtracts():
    assert Money(1050, "USD") + Money(-50, "USD") == Money(1000, "USD")
    assert Money(1050, "USD") - Money(2000, "USD") == Money(-950, "USD")


def test_two_currencies_never_meet_in_a_sum():
    with pytest.raises(MixedCurrenciesError):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(MixedCurrenciesError):
        Money(1, "USD") - Money(1, "EUR")


def test_money_needs_a_known_currency():
    with pytest.raises(InvalidInput):
        Money(1, "usd")
