from decimal import Decimal
from fractions import Fraction

import pytest

from nozle_server.catalog.charge_models import Standard
from nozle_server.core.errors import InvalidInput
from nozle_server.rating.rate import Step, Usage, marginal_price_cents, rate


@pytest.mark.parametrize(
    ("amount", "units", "currency", "exact", "settled"),
    [
        ("0.5", "0", "USD", "0", 0),
        ("0.5", "1", "USD", "50", 50),
        ("0.5", "-3", "USD", "0", 0),
        ("0.125", "1", "USD", "12.5", 13),
        ("0.125", "3", "USD", "37.5", 38),
        ("0.000000000001", "1", "USD", "0.0000000001", 0),
        ("0.000000000001", "500000000000", "USD", "50", 50),
        ("0.5", "1", "JPY", "0.5", 1),
        ("0.5", "1", "KWD", "500", 500),
        ("0.0005", "1", "KWD", "0.5", 1),
    ],
)
def test_every_unit_costs_the_same_in_minor_units(amount, units, currency, exact, settled):
    """T06: currencies with 0, 2 and 3 decimals, half cents; exact for a price of 0.000000000001."""
    line = rate(Standard(Decimal(amount)), Usage(Decimal(units), 1), currency=currency)
    assert line.exact_amount_cents == Decimal(exact)
    assert line.amount_cents == settled


def test_the_largest_price_of_the_largest_usage_keeps_every_digit():
    largest = Decimal("999999999999999999.999999999999")
    line = rate(Standard(largest), Usage(largest, 1), currency="KWD")
    assert Fraction(line.exact_amount_cents) == Fraction(largest) ** 2 * 1000


def test_usage_below_zero_is_no_usage():
    line = rate(Standard(Decimal(5)), Usage(Decimal(-1), 1), currency="USD")
    assert (line.units, line.exact_amount_cents, line.amount_cents, line.steps) == (0, 0, 0, ())


def test_the_step_tells_units_and_price():
    line = rate(Standard(Decimal("0.5")), Usage(Decimal(3), 3), currency="USD")
    assert line.steps == (Step("units", Decimal(3), Decimal(50), Decimal(0), Decimal(150)),)


def test_the_marginal_price_is_the_unit_price():
    assert marginal_price_cents(Standard(Decimal("0.12")), Decimal(10**9), currency="USD") == 12
    assert marginal_price_cents(Standard(Decimal("0.12")), Decimal(-5), currency="JPY") == Decimal("0.12")


def test_a_currency_we_do_not_know_is_refused():
    with pytest.raises(InvalidInput):
        rate(Standard(Decimal(1)), Usage(Decimal(1), 1), currency="usd")
