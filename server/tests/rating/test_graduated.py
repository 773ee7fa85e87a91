from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Graduated, PriceRange
from nozle_server.rating.rate import Usage, marginal_price_cents, rate

MODEL = Graduated(
    (
        PriceRange(0, 10, flat_amount=Decimal(2), per_unit_amount=Decimal(10)),
        PriceRange(11, 20, flat_amount=Decimal(3), per_unit_amount=Decimal(5)),
        PriceRange(21, None, flat_amount=Decimal(4), per_unit_amount=Decimal(1)),
    )
)


@pytest.mark.parametrize(
    ("units", "dollars", "tiers"),
    [
        ("-1", "0", []),
        ("0", "2", [("0-10", "0")]),
        ("0.5", "7", [("0-10", "0.5")]),
        ("1", "12", [("0-10", "1")]),
        ("10", "102", [("0-10", "10")]),
        ("10.5", "107.5", [("0-10", "10"), ("11-20", "0.5")]),
        ("11", "110", [("0-10", "10"), ("11-20", "1")]),
        ("20", "155", [("0-10", "10"), ("11-20", "10")]),
        ("20.000000000001", "159.000000000001", [("0-10", "10"), ("11-20", "10"), ("21-", "0.000000000001")]),
        ("21", "160", [("0-10", "10"), ("11-20", "10"), ("21-", "1")]),
        ("1000000", "1000139", [("0-10", "10"), ("11-20", "10"), ("21-", "999980")]),
    ],
)
def test_each_unit_costs_what_its_tier_says(units, dollars, tiers):
    line = rate(MODEL, Usage(Decimal(units), 1), currency="USD")
    assert line.exact_amount_cents == Decimal(dollars) * 100
    assert [(step.label, step.units) for step in line.steps] == [(label, Decimal(n)) for label, n in tiers]


@pytest.mark.parametrize(
    ("used", "cents"),
    [
        ("-5", 1000),
        ("0", 1000),
        ("9", 1000),
        ("9.5", 500),
        ("10", 500),
        ("19", 500),
        ("20", 100),
        ("99", 100),
    ],
)
def test_the_marginal_price_is_that_of_the_tier_of_the_next_unit(used, cents):
    assert marginal_price_cents(MODEL, Decimal(used), currency="USD") == cents
