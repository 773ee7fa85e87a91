from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import PriceRange, Volume
from nozle_server.rating.rate import Usage, marginal_price_cents, rate

MODEL = Volume(
    (
        PriceRange(0, 100, flat_amount=Decimal(10), per_unit_amount=Decimal(2)),
        PriceRange(101, 200, flat_amount=Decimal(0), per_unit_amount=Decimal(1)),
        PriceRange(201, None, flat_amount=Decimal(50), per_unit_amount=Decimal("0.5")),
    )
)


@pytest.mark.parametrize(
    ("units", "dollars", "tier"),
    [
        ("0", "10", "0-100"),
        ("1", "12", "0-100"),
        ("100", "210", "0-100"),
        ("100.5", "100.5", "101-200"),
        ("101", "101", "101-200"),
        ("200", "200", "101-200"),
        ("201", "150.5", "201-"),
        ("300", "200", "201-"),
    ],
)
def test_all_units_cost_what_the_tier_of_the_total_says(units, dollars, tier):
    line = rate(MODEL, Usage(Decimal(units), 1), currency="USD")
    assert line.exact_amount_cents == Decimal(dollars) * 100
    assert [step.label for step in line.steps] == [tier]


def test_usage_below_zero_pays_nothing_not_even_the_flat_amount():
    assert rate(MODEL, Usage(Decimal(-5), 1), currency="USD").exact_amount_cents == 0


def test_lagos_example():
    """65,000 calls cost 65,000 x $0.0006 + $10 = $49."""
    prices = [(0, 10_000, "0.0010"), (10_001, 50_000, "0.0008"), (50_001, 100_000, "0.0006")]
    bounded = tuple(PriceRange(start, end, Decimal(10), Decimal(price)) for start, end, price in prices)
    model = Volume((*bounded, PriceRange(100_001, None, Decimal(10), Decimal("0.0004"))))
    assert rate(model, Usage(Decimal(65_000), 65_000), currency="USD").amount_cents == 4900


@pytest.mark.parametrize(
    ("used", "cents"), [("0", "200"), ("99", "200"), ("99.5", "100"), ("100", "100"), ("200", "50")]
)
def test_the_marginal_price_is_that_of_the_tier_one_more_unit_falls_in(used, cents):
    assert marginal_price_cents(MODEL, Decimal(used), currency="USD") == Decimal(cents)
