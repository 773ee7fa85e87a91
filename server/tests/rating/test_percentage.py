from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Percentage
from nozle_server.rating.rate import Usage, marginal_price_cents, needs_transactions, rate


def a_charge(*, rate="1.2", fixed="0", events=None, amount=None, minimum=None, maximum=None):
    def optional(text):
        return None if text is None else Decimal(text)

    return Percentage(
        Decimal(rate), Decimal(fixed), events, optional(amount), optional(minimum), optional(maximum)
    )


def usage_of(*values):
    transactions = [Decimal(value) for value in values]
    return Usage(sum(transactions, Decimal(0)), len(transactions), transactions)


def cents(model, usage):
    return rate(model, usage, currency="USD").exact_amount_cents


@pytest.mark.parametrize(
    ("units", "events", "expected"),
    [
        ("0", 0, "0"),
        ("0", 4, "0"),
        ("-10", 2, "0"),
        ("50", 1, "70"),
        ("800", 4, "1000"),
        ("0.01", 1, "10.012"),
    ],
)
def test_a_share_of_the_units_and_a_fee_for_each_event(units, events, expected):
    assert cents(a_charge(fixed="0.10"), Usage(Decimal(units), events)) == Decimal(expected)


def test_lagos_example():
    """The first 3 events or $500 are free: of 200, 100, 100 and 50 dollars the fourth costs $0.10 + 1.2%."""
    model = a_charge(fixed="0.10", events=3, amount="500")
    assert cents(model, usage_of(200, 100, 100)) == 0
    assert cents(model, usage_of(200, 100, 100, 50)) == 70


@pytest.mark.parametrize(
    ("model", "transactions", "expected"),
    [
        # Free events alone: the fourth and fifth are paid.
        (a_charge(rate="1", fixed="2", events=3), [50, 100, 250, 400, 0], "800"),
        # A free amount alone: the third event pays for the 150 beyond it and the fee.
        (a_charge(rate="1", fixed="2", amount="250"), [50, 100, 250, 400], "950"),
        # An event that just uses the free amount up pays the fee, as in Lago.
        (a_charge(rate="1", fixed="2", amount="150"), [50, 100], "200"),
        (a_charge(rate="1", fixed="2", amount="150.01"), [50, 100], "0"),
        # Both: what is used up first ends both.
        (a_charge(rate="1", events=1, amount="1000"), [10, 20], "20"),
        (a_charge(rate="1", events=9, amount="15"), [10, 20], "15"),
        # A free amount of 0 is none.
        (a_charge(rate="1", events=1, amount="0"), [10, 20], "20"),
        # A refund gives free amount back, and after it lowers the total.
        (a_charge(rate="1", amount="100"), [90, -50, 50, 30], "20"),
        (a_charge(rate="1", amount="100"), [200, -50], "50"),
    ],
)
def test_allowances_are_walked_event_by_event(model, transactions, expected):
    assert cents(model, usage_of(*transactions)) == Decimal(expected)


@pytest.mark.parametrize(
    ("model", "transactions", "expected"),
    [
        (a_charge(rate="2.99", minimum="1.75", maximum="12"), [10, 80, 10_000], "1614.2"),
        (a_charge(rate="2.99", fixed="2", minimum="1.75", maximum="12"), [10, 80, 10_000], "1869.1"),
        (a_charge(rate="2.99", events=2, minimum="1.75", maximum="12"), [10, 80, 10_000], "1200"),
        (a_charge(rate="2.99", amount="30", minimum="1.75", maximum="12"), [10, 80, 10_000], "1379.4"),
        (a_charge(rate="1", minimum="1"), [100], "100"),
        (a_charge(rate="1", maximum="0"), [100], "0"),
    ],
)
def test_each_paid_event_is_bounded(model, transactions, expected):
    assert cents(model, usage_of(*transactions)) == Decimal(expected)


def test_the_steps_tell_what_was_free_rated_and_bounded():
    model = a_charge(rate="2.99", events=1, fixed="2", minimum="3", maximum="12")
    line = rate(model, usage_of(100, 10, 80, 10_000), currency="USD")
    assert [(step.kind, step.units, step.amount_cents) for step in line.steps] == [
        ("free_units", 100, 0),
        ("percentage", 10_090, Decimal("30169.1")),
        ("fixed_fee", 3, 600),
        ("transaction_minimum", 0, Decimal("70.1")),
        ("transaction_maximum", 0, Decimal("-28900")),
    ]


def test_a_line_is_never_below_zero():
    line = rate(a_charge(rate="10", maximum="1"), usage_of(1000, -500), currency="USD")
    assert (line.exact_amount_cents, line.amount_cents) == (0, 0)
    assert line.steps[-1].kind == "floor_at_zero"
    assert sum(step.amount_cents for step in line.steps) == 0


def test_a_price_of_single_events_needs_every_event():
    assert not needs_transactions(a_charge(fixed="1"))
    for model in (a_charge(events=1), a_charge(amount="1"), a_charge(minimum="1"), a_charge(maximum="1")):
        assert needs_transactions(model)
        with pytest.raises(ValueError, match="every transaction"):
            rate(model, Usage(Decimal(10), 2, [Decimal(10)]), currency="USD")


@pytest.mark.parametrize(
    ("model", "used", "expected"),
    [
        (a_charge(fixed="5"), "0", "1.2"),
        (a_charge(amount="100"), "99", "0"),
        (a_charge(amount="100"), "99.5", "1.2"),
        (a_charge(amount="100"), "100", "1.2"),
        (a_charge(events=3), "0", "1.2"),
    ],
)
def test_the_marginal_price_is_the_share_of_one_unit(model, used, expected):
    assert marginal_price_cents(model, Decimal(used), currency="USD") == Decimal(expected)
