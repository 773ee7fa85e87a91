"""Prices of quantities that were there for a part of the period."""

from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import (
    Dynamic,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentageRange,
    PriceRange,
    Standard,
    Volume,
)
from nozle_server.core.rounding import divide
from nozle_server.rating.rate import Usage, rate

TIERS = (
    PriceRange(0, 10, flat_amount=Decimal(2), per_unit_amount=Decimal(10)),
    PriceRange(11, 20, flat_amount=Decimal(3), per_unit_amount=Decimal(5)),
    PriceRange(21, None, flat_amount=Decimal(0), per_unit_amount=Decimal(1)),
)


def usage(*moves: tuple[str, str]) -> Usage:
    """Events as (full units, prorated units)."""
    full = tuple(Decimal(units) for units, _ in moves)
    parts = tuple(Decimal(part) for _, part in moves)
    return Usage(
        sum(full, Decimal(0)),
        len(moves),
        full,
        prorated_units=sum(parts, Decimal(0)),
        prorated_transactions=parts,
    )


def test_a_standard_price_multiplies_the_prorated_units_and_shows_the_full_ones():
    line = rate(Standard(Decimal(31)), usage(("10", "5")), currency="USD")
    assert (line.units, line.exact_amount_cents) == (10, 15500)
    assert [(step.kind, step.units) for step in line.steps] == [("prorated_units", 5)]


def test_a_third_is_kept_to_24_places():
    third = divide(Decimal(1), Decimal(3))
    line = rate(Standard(Decimal(1)), Usage(Decimal(1), 1, prorated_units=third), currency="USD")
    assert line.exact_amount_cents == Decimal("33.3333333333333333333333")
    assert line.amount_cents == 33


def test_the_full_units_choose_the_tier_of_a_volume_price():
    line = rate(Volume(TIERS), usage(("15", "1.5")), currency="USD")
    assert line.exact_amount_cents == (Decimal("1.5") * 5 + 3) * 100


@pytest.mark.parametrize(
    ("moves", "dollars"),
    [
        ([], "2"),
        ([("5", "5")], "52"),
        ([("5", "2.5")], "27"),
        ([("10", "5")], "52"),  # the boundary
        ([("11", "5.5")], "57.5"),  # 10 at half of 10, 1 at half of 5, both flats
        ([("25", "12.5")], str(50 + 25 + 2.5 + 2 + 3)),
        ([("10", "10"), ("5", "2.5")], str(100 + 2.5 * 5 + 5)),
        # 2 of the 12 are taken away in mid-period: one of the second tier's, then... both lie above 10.
        ([("12", "12"), ("-2", "-1")], str(100 + 2 * 5 - 5 + 5)),
        # taken from the top: two of the second tier, two of the first.
        ([("12", "12"), ("-4", "-2")], str(100 + 10 - 5 - 10 + 5)),
        # a unique value that came and went: its part ends when it goes, and going costs nothing.
        ([("1", "0.5"), ("-1", "0")], "7"),
        # more removed than there was: below 0 nothing is paid and nothing given back.
        ([("2", "2"), ("-3", "-1.5"), ("1", "0.5")], str(20 - 10 + 2)),
    ],
)
def test_graduated_units_are_paid_in_the_tier_they_lie_in(moves, dollars):
    line = rate(Graduated(TIERS), usage(*moves), currency="USD")
    assert line.exact_amount_cents == Decimal(dollars) * 100
    assert sum(step.amount_cents for step in line.steps) == line.exact_amount_cents


def test_more_taken_away_than_paid_for_is_no_money_back():
    line = rate(Standard(Decimal(1)), usage(("1", "0.1"), ("-1", "-0.9"), ("1", "0.1")), currency="USD")
    assert line.exact_amount_cents == 0
    assert line.steps[-1].kind == "floor_at_zero"


@pytest.mark.parametrize(
    "model",
    [
        Package(Decimal(1), 10),
        Percentage(Decimal(1)),
        Dynamic(),
        GraduatedPercentage((PercentageRange(0, None, Decimal(0), Decimal(1)),)),
    ],
)
def test_other_models_have_no_prorated_price(model):
    with pytest.raises(ValueError, match="prorated"):
        rate(model, usage(("1", "1")), currency="USD")
