from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Package
from nozle_server.rating.rate import Usage, marginal_price_cents, rate

MODEL = Package(amount=Decimal(5), package_size=100, free_units=100)


@pytest.mark.parametrize(
    ("units", "free", "packages", "dollars"),
    [
        ("0", "0", 0, 0),
        ("99.5", "99.5", 0, 0),
        ("100", "100", 0, 0),
        ("100.000000000001", "100", 1, 5),
        ("101", "100", 1, 5),
        ("200", "100", 1, 5),
        ("201", "100", 2, 10),
        ("300", "100", 2, 10),
        ("999999999999999999", "100", 9999999999999999, 49999999999999995),
    ],
)
def test_each_begun_package_after_the_free_units_costs_its_amount(units, free, packages, dollars):
    """At 201 units, Lago's example: $0 + $5 + $5."""
    line = rate(MODEL, Usage(Decimal(units), 1), currency="USD")
    assert line.amount_cents == dollars * 100
    free_step, paid_step = line.steps
    assert (free_step.units, paid_step.units) == (Decimal(free), packages)


@pytest.mark.parametrize(
    ("used", "cents"), [("0", "0"), ("99", "0"), ("99.5", "5"), ("100", "5"), ("1000", "5")]
)
def test_the_marginal_price_is_a_share_of_a_package(used, cents):
    assert marginal_price_cents(MODEL, Decimal(used), currency="USD") == Decimal(cents)


def test_a_share_that_never_ends_is_kept_to_24_places():
    model = Package(amount=Decimal(1), package_size=3)
    assert marginal_price_cents(model, Decimal(0), currency="USD") == Decimal("33.333333333333333333333333")
