"""Own arithmetic of charge models against tables made by hand, boundaries included."""

from decimal import Decimal
from typing import Any

import pytest
from demo_fake_server import GRADUATED, VOLUME, plan

from nozle_demo.errors import UsageError
from nozle_demo.pricing import Price, read_charge, round_cents


def a_price(model: str, properties: dict[str, Any], currency: str = "USD") -> Price:
    return read_charge({"charge_model": model, "properties": properties}, currency).base


@pytest.mark.parametrize(
    ("units", "cents"),
    [
        (0, "0"),
        (1, "0.002"),
        (100_000, "200"),
        (100_001, "200.0015"),
        (500_000, "800"),
        (500_001, "800.001"),
        (2_280_971, "2580.971"),
    ],
)
def test_graduated_prices_each_range_by_itself(units: int, cents: str) -> None:
    price = a_price("graduated", {"graduated_ranges": GRADUATED})
    assert price.amount_cents(Decimal(units)) == Decimal(cents)


@pytest.mark.parametrize(
    ("units", "cents"),
    [
        (0, "0"),
        (1, "0.0012"),
        (500_000, "600"),
        (500_001, "450.0009"),
        (2_000_000, "1800"),
        (2_000_001, "1400.0007"),
    ],
)
def test_volume_prices_all_units_at_the_range_reached(units: int, cents: str) -> None:
    assert a_price("volume", {"volume_ranges": VOLUME}).amount_cents(Decimal(units)) == Decimal(cents)


def test_flat_amounts_count_once_a_range_is_reached() -> None:
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "5"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "2"},
    ]
    graduated = a_price("graduated", {"graduated_ranges": ranges})
    assert [graduated.amount_cents(Decimal(units)) for units in (0, 10, 11)] == [0, 1500, 1750]
    assert a_price("volume", {"volume_ranges": ranges}).amount_cents(Decimal(11)) == 750


def test_standard_and_currencies_of_other_exponents() -> None:
    assert a_price("standard", {"amount": "0.12"}).amount_cents(Decimal(3)) == 36
    assert a_price("standard", {"amount": "12"}, "JPY").amount_cents(Decimal(3)) == 36


def test_a_filter_prices_what_credits_paid_at_nothing() -> None:
    charge = read_charge(plan("pro")["charges"][0], "USD")
    assert charge.price_for({"paid_by": "credits"}).amount_cents(Decimal(10**9)) == 0
    assert charge.price_for({}) is charge.base


def test_refuses_a_charge_model_that_it_cannot_check() -> None:
    with pytest.raises(UsageError, match="package"):
        a_price("package", {"amount": "1", "package_size": 100})


@pytest.mark.parametrize(
    ("exact", "cents"), [("0.5", 1), ("1.5", 2), ("2.4999", 2), ("-0.5", -1), ("891.047", 891)]
)
def test_rounds_half_away_from_zero(exact: str, cents: int) -> None:
    assert round_cents(Decimal(exact)) == cents
