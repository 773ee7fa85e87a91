from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import GraduatedPercentage, PercentageRange
from nozle_server.rating.rate import Usage, marginal_price_cents, rate

MODEL = GraduatedPercentage(
    (
        PercentageRange(0, 10, flat_amount=Decimal(2), rate=Decimal(10)),
        PercentageRange(11, 20, flat_amount=Decimal(3), rate=Decimal(5)),
        PercentageRange(21, None, flat_amount=Decimal(4), rate=Decimal(1)),
    )
)


@pytest.mark.parametrize(
    ("units", "dollars", "tiers"),
    [
        ("-1", "0", []),
        ("0", "2", [("0-10", "0")]),
        ("0.5", "2.05", [("0-10", "0.5")]),
        ("10", "3", [("0-10", "10")]),
        ("10.5", "6.025", [("0-10", "10"), ("11-20", "0.5")]),
        ("11", "6.05", [("0-10", "10"), ("11-20", "1")]),
        ("20", "6.5", [("0-10", "10"), ("11-20", "10")]),
        ("21", "10.51", [("0-10", "10"), ("11-20", "10"), ("21-", "1")]),
    ],
)
def test_each_unit_costs_the_percentage_of_its_tier(units, dollars, tiers):
    line = rate(MODEL, Usage(Decimal(units), 1), currency="USD")
    assert line.exact_amount_cents == Decimal(dollars) * 100
    assert [(step.label, step.units) for step in line.steps] == [(label, Decimal(n)) for label, n in tiers]


@pytest.mark.parametrize(
    ("currency", "exact", "settled"), [("JPY", "6.025", 6), ("USD", "602.5", 603), ("KWD", "6025", 6025)]
)
def test_the_amount_is_in_the_currencys_own_minor_units(currency, exact, settled):
    line = rate(MODEL, Usage(Decimal("10.5"), 1), currency=currency)
    assert (line.exact_amount_cents, line.amount_cents) == (Decimal(exact), settled)


def test_the_smallest_rate_is_kept():
    tiny = GraduatedPercentage((PercentageRange(0, None, Decimal(0), Decimal("0.000000000001")),))
    line = rate(tiny, Usage(Decimal("123456789"), 1), currency="USD")
    assert line.exact_amount_cents == Decimal("0.000123456789")


@pytest.mark.parametrize(("used", "cents"), [("-5", "10"), ("9", "10"), ("9.5", "5"), ("20", "1")])
def test_the_marginal_price_is_that_of_the_tier_of_the_next_unit(used, cents):
    assert marginal_price_cents(MODEL, Decimal(used), currency="USD") == Decimal(cents)
