"""Charges paid in advance: what one event costs at once."""

from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Dynamic, Graduated, Package, Percentage, PriceRange, Standard
from nozle_server.rating.rate import Usage, price_of_event

TIERS = Graduated(
    (
        PriceRange(0, 10, flat_amount=Decimal(2), per_unit_amount=Decimal(10)),
        PriceRange(11, None, flat_amount=Decimal(3), per_unit_amount=Decimal(5)),
    )
)


def of(*transactions: str, cents: str = "0") -> Usage:
    values = tuple(Decimal(one) for one in transactions)
    return Usage(sum(values, Decimal(0)), len(values), values, amount_cents=Decimal(cents))


@pytest.mark.parametrize(
    ("model", "before", "after", "units", "cents"),
    [
        (Standard(Decimal("0.000000000001")), of(), of("3"), "3", "0.0000000003"),
        (Standard(Decimal(2)), of("3"), of("3", "4"), "4", "800"),
        (Standard(Decimal(2)), of("3"), of("3"), "0", "0"),  # a value that was there already
        (TIERS, of(), of("1"), "1", "1200"),  # the first pays the first tier's flat
        (TIERS, of("1"), of("1", "9"), "9", "9000"),
        (TIERS, of("10"), of("10", "1"), "1", "800"),  # opens the second tier
        (TIERS, of("8"), of("8", "4"), "4", "3300"),  # lies in both
        (Package(Decimal(5), 100), of(), of("1"), "1", "500"),
        (Package(Decimal(5), 100), of("1"), of("1", "99"), "99", "0"),
        (Package(Decimal(5), 100), of("100"), of("100", "1"), "1", "500"),
        (Percentage(Decimal(1), Decimal("0.5")), of("100"), of("100", "200"), "200", "250"),
        (Percentage(Decimal(1), Decimal("0.5"), 1), of(), of("100"), "100", "0"),  # a free event
        (Percentage(Decimal(1), Decimal("0.5"), 1), of("100"), of("100", "200"), "200", "250"),
        (
            Percentage(Decimal(1), free_units_per_total_aggregation=Decimal(150)),
            of("100"),
            of("100", "200"),
            "200",
            "150",
        ),
        (
            Percentage(Decimal(1), per_transaction_min_amount=Decimal(3)),
            of("100"),
            of("100", "200"),
            "200",
            "300",
        ),
        (Dynamic(), of("1", cents="10"), of("1", "1", cents="12.5"), "1", "2.5"),
        (Standard(Decimal(2)), of(), of("-3"), "0", "0"),
    ],
)
def test_an_event_costs_what_it_adds(model, before, after, units, cents):
    line = price_of_event(model, before, after, currency="USD")
    assert (line.units, line.exact_amount_cents) == (Decimal(units), Decimal(cents))
    assert sum((step.amount_cents for step in line.steps), Decimal(0)) == line.exact_amount_cents


@pytest.mark.parametrize(("currency", "settled"), [("JPY", 1), ("USD", 125), ("KWD", 1250)])
def test_an_event_is_settled_in_the_currencys_minor_units(currency, settled):
    line = price_of_event(Standard(Decimal("1.25")), of("1"), of("1", "1"), currency=currency)
    assert line.amount_cents == settled


def test_a_prorated_event_pays_for_its_part_of_the_period():
    before = Usage(Decimal(2), 1, prorated_units=Decimal(2))
    after = Usage(Decimal(3), 2, prorated_units=Decimal("2.5"))
    line = price_of_event(Standard(Decimal(10)), before, after, currency="USD")
    assert (line.units, line.amount_cents) == (1, 500)
