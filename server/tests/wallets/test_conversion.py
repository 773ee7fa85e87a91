"""Credits and money: exact where money is kept, rounded where it is shown or invoiced."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.rounding import EXACT
from nozle_server.wallets.conversion import (
    credits_of,
    from_cents,
    money_of,
    price_of,
    settled,
    shown_credits,
    spendable_cents,
    whole_credits,
)

RATES = st.decimals("0.000001", "1000", places=6)
CREDITS = st.decimals("0", "1000000", places=5)
CURRENCIES = st.sampled_from(["JPY", "USD", "KWD"])


@pytest.mark.parametrize(
    ("credits", "rate", "currency", "exact", "price"),
    [
        ("10", "1.5", "USD", "15", "15"),
        ("1", "0.005", "USD", "0.005", "0.01"),
        ("1", "0.0049", "USD", "0.0049", "0"),
        ("3", "0.333", "USD", "0.999", "1"),
        ("1", "0.5", "JPY", "0.5", "1"),
        ("1", "0.0125", "KWD", "0.0125", "0.013"),
        ("1", "0.000000000001", "USD", "0.000000000001", "0"),
        ("999999999999", "999999", "USD", "999998999999000001", None),
    ],
)
def test_what_credits_are_worth_and_what_they_cost(
    credits: str, rate: str, currency: str, exact: str, price: str | None
) -> None:
    """Given credits are worth exactly what they are; bought ones cost whole minor units, halves away from zero."""
    assert money_of(Decimal(credits), Decimal(rate)) == Decimal(exact)
    assert price_of(Decimal(credits), Decimal(rate), currency) == Decimal(price or exact)


def test_what_the_ledger_cannot_hold_has_no_value() -> None:
    """More than 12 decimals, or more than 18 digits before the point."""
    assert money_of(Decimal("0.00001"), Decimal("0.00000001")) is None
    assert money_of(Decimal(10**17), Decimal(10)) is None
    assert price_of(Decimal(10**17), Decimal(10), "USD") is None


@pytest.mark.parametrize(
    ("amount", "currency", "cents"),
    [
        ("0", "USD", 0),
        ("0.009999999999", "USD", 0),
        ("0.01", "USD", 1),
        ("1.999", "USD", 199),
        ("1.9", "JPY", 1),
        ("0.0015", "KWD", 1),
    ],
)
def test_only_whole_minor_units_can_be_spent(amount: str, currency: str, cents: int) -> None:
    assert spendable_cents(Decimal(amount), currency) == cents


@given(CREDITS, RATES)
def test_credits_there_and_back_are_the_same(credits: Decimal, rate: Decimal) -> None:
    money = money_of(credits, rate)
    assert money is not None
    assert shown_credits(money, rate) == credits
    assert whole_credits(credits) == credits


@given(st.integers(0, 10**15), CURRENCIES)
def test_minor_units_there_and_back_are_the_same(cents: int, currency: str) -> None:
    amount = from_cents(cents, currency)
    assert spendable_cents(amount, currency) == cents
    assert settled(amount, currency) == amount


@given(st.integers(0, 10**12), RATES, CURRENCIES)
def test_credits_of_money_never_miss_by_more_than_the_last_place(
    cents: int, rate: Decimal, currency: str
) -> None:
    amount = from_cents(cents, currency)
    with localcontext(EXACT):
        missed = credits_of(amount, rate) * rate - amount
        # Half of the twelfth place, and the 24 places that quotients are kept to.
        assert abs(missed) <= rate * Decimal("0.000000000000500000000001")
