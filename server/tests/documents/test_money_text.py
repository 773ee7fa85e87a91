import doctest
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.money import exponent
from nozle_server.documents import money_text as module
from nozle_server.documents.money_text import (
    amount_text,
    day_text,
    days_text,
    exact_amount_text,
    money_text,
    price_text,
    rate_text,
    units_text,
)


@pytest.mark.parametrize(
    ("amount_cents", "currency", "text"),
    [
        (0, "USD", "0.00"),
        (5, "USD", "0.05"),
        (123456, "USD", "1,234.56"),
        (-123456, "USD", "−1,234.56"),
        (1234, "JPY", "1,234"),
        (1234, "KWD", "1.234"),
        (5, "KWD", "0.005"),
        (10**29, "EUR", "1,000,000,000,000,000,000,000,000,000.00"),
    ],
)
def test_settled_amounts_have_the_decimals_of_their_currency(
    amount_cents: int, currency: str, text: str
) -> None:
    assert amount_text(amount_cents, currency) == text


@pytest.mark.parametrize(
    ("amount_cents", "currency", "text"),
    [
        (123456, "USD", "$1,234.56"),
        (-1, "EUR", "−€0.01"),
        (500, "JPY", "¥500"),
        (500, "AUD", "A$5.00"),
        (1234, "KWD", "KWD\u00a01.234"),
        (-1234, "CHF", "−CHF\u00a012.34"),
    ],
)
def test_an_amount_alone_names_its_currency(amount_cents: int, currency: str, text: str) -> None:
    assert money_text(amount_cents, currency) == text


@pytest.mark.parametrize(
    ("price", "currency", "text"),
    [
        ("0.000000000001", "USD", "0.000000000001"),
        ("1E-12", "USD", "0.000000000001"),
        ("0.5", "USD", "0.50"),
        ("0.120000000000", "USD", "0.12"),
        ("99", "USD", "99.00"),
        ("99", "JPY", "99"),
        ("0.5", "JPY", "0.5"),
        ("0.5", "KWD", "0.500"),
        ("999999999999999999.999999999999", "USD", "999,999,999,999,999,999.999999999999"),
    ],
)
def test_prices_show_all_their_digits_and_no_zeros_behind_them(price: str, currency: str, text: str) -> None:
    assert price_text(Decimal(price), currency) == text


@pytest.mark.parametrize(
    ("units", "text"),
    [
        ("0", "0"),
        ("-0.0", "0"),
        ("1E+3", "1,000"),
        ("22361870", "22,361,870"),
        ("-4200.50", "−4,200.5"),
        ("12345678901234567890123456789012345678.5", "12,345,678,901,234,567,890,123,456,789,012,345,678.5"),
    ],
)
def test_quantities_are_grouped_and_never_rounded(units: str, text: str) -> None:
    assert units_text(Decimal(units)) == text


def test_exact_amounts_are_shown_in_major_units() -> None:
    assert exact_amount_text(Decimal("42457.2342311"), "USD") == "424.572342311"
    assert exact_amount_text(Decimal("42457.5"), "JPY") == "42,457.5"
    assert exact_amount_text(Decimal("1000"), "KWD") == "1.000"


def test_rates() -> None:
    assert [rate_text(Decimal(rate)) for rate in ("20", "5.50", "0")] == ["20%", "5.5%", "0%"]


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        (date(2026, 1, 1), date(2026, 1, 31), "1 – 31 Jan 2026"),
        (date(2026, 1, 15), date(2026, 2, 14), "15 Jan – 14 Feb 2026"),
        (date(2025, 12, 15), date(2026, 1, 14), "15 Dec 2025 – 14 Jan 2026"),
        (date(2026, 2, 28), date(2026, 2, 28), "28 Feb 2026"),
    ],
)
def test_days_say_what_they_share_once(first: date, last: date, text: str) -> None:
    assert days_text(first, last) == text
    assert days_text(first, last).endswith(day_text(last))


@given(st.integers(-(10**40), 10**40), st.sampled_from(["JPY", "USD", "KWD", "CLF"]))
def test_an_amount_can_be_read_back_from_its_text(amount_cents: int, currency: str) -> None:
    digits = amount_text(amount_cents, currency).replace(",", "").replace("−", "-")
    assert len(digits.partition(".")[2]) == exponent(currency)
    assert int(digits.replace(".", "")) == amount_cents


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
