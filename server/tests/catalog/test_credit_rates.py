"""What units cost in credits: exact, rounded once; and how a rate's versions follow each other."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.catalog.credit_model import CreditRate
from nozle_server.catalog.credit_rates import close_from, credits_required, current_rate

NOBODY = UUID(int=0)
START = datetime(2026, 1, 1, tzinfo=UTC)

amounts = st.decimals(
    min_value=Decimal("0.000000000001"), max_value=Decimal(10**17), places=12, allow_nan=False
)
quantities = st.decimals(min_value=-(10**17), max_value=10**17, places=12, allow_nan=False)
days = st.integers(min_value=0, max_value=60)


def a_rate(
    metric_amount: str | Decimal = "1",
    credit_amount: str | Decimal = "1",
    start: datetime = START,
    end: datetime | None = None,
) -> CreditRate:
    return CreditRate(
        NOBODY,
        NOBODY,
        NOBODY,
        "credits",
        NOBODY,
        Decimal(metric_amount),
        Decimal(credit_amount),
        start,
        end,
        START,
    )


@pytest.mark.parametrize(
    ("units", "metric_amount", "credit_amount", "credits"),
    [
        ("0", "1000", "2", "0"),
        ("1000", "1000", "2", "2"),
        ("1", "1000", "2", "0.002"),
        ("1500", "1000", "2", "3"),
        ("1", "3", "1", "0.333333333333"),
        ("2", "3", "1", "0.666666666667"),
        # Three thirds are a whole: multiplied before it is divided.
        ("3", "3", "1", "1"),
        ("0.000000000001", "2", "1", "0.000000000001"),  # half of the smallest, away from zero
        ("-0.000000000001", "2", "1", "-0.000000000001"),
        ("0.000000000001", "3", "1", "0"),
        ("999999999999999999", "0.000000000001", "1", "999999999999999999000000000000"),
        ("123.456789", "1", "0.000000000001", "0.000000000123"),
    ],
)
def test_what_units_cost(units: str, metric_amount: str, credit_amount: str, credits: str) -> None:
    assert credits_required(Decimal(units), a_rate(metric_amount, credit_amount)) == Decimal(credits)


def test_it_is_rounded_once() -> None:
    """0.4999...9 of the smallest step is nothing: rounding to 24 decimals first would make it a half, and then a whole."""
    units = Decimal("0.000000000001")
    rate = a_rate("200000000000000.000000000001", "100000000000000")
    exact = Fraction(units) * Fraction(rate.credit_amount) / Fraction(rate.metric_amount)
    assert Fraction(1, 2) > exact * 10**12 > Fraction(1, 2) - Fraction(1, 10**25)
    assert credits_required(units, rate) == 0


@given(quantities, amounts, amounts)
def test_it_is_the_nearest_step_of_twelve_decimals(units: Decimal, per: Decimal, cost: Decimal) -> None:
    """Against exact fractions: off by at most half a step, and a tie goes away from zero."""
    found = credits_required(units, a_rate(per, cost))
    exact = Fraction(units) * Fraction(cost) / Fraction(per)
    step = Fraction(1, 10**12)
    off = abs(Fraction(found)) - abs(exact)
    assert Fraction(found) % step == 0
    assert -step / 2 < off <= step / 2
    assert found == 0 or (found > 0) == (units > 0)


@given(quantities, amounts, amounts)
def test_what_is_taken_back_mirrors_what_was_taken(units: Decimal, per: Decimal, cost: Decimal) -> None:
    rate = a_rate(per, cost)
    assert credits_required(units.copy_negate(), rate) == credits_required(units, rate).copy_negate()


@given(st.lists(days, max_size=8))
def test_at_every_instant_one_version_holds_and_what_has_held_stays(starts: list[int]) -> None:
    """However rates are changed, one after the other from then on: no two hold at once, none is missing, none is lost, and
    before the change everything holds that did."""
    versions = [a_rate(start=START - timedelta(days=1))]
    for number, day in enumerate(starts, start=2):
        start = START + timedelta(days=day)
        before = {hour: current_rate(versions, hour) for hour in _hours() if hour < start}
        closed = {id(one): one for one in versions}
        changed = close_from(versions, start)
        kept = [one for one in versions if one.effective_to is not None and one.effective_to <= start]
        rest = [one for one in versions if one not in kept]
        versions = [*kept, *_closed(rest, changed), a_rate(metric_amount=str(number), start=start)]
        assert len(versions) == len(closed) + 1
        for hour in _hours():
            assert sum(one.holds_at(hour) for one in versions) == 1
        for hour, held in before.items():
            found = current_rate(versions, hour)
            assert found is not None
            assert held is not None
            assert found.metric_amount == held.metric_amount
        latest = current_rate(versions, START + timedelta(days=100))
        assert latest is not None
        assert latest.metric_amount == number


def _hours() -> list[datetime]:
    return [START + timedelta(hours=12 * n) for n in range(130)]


def _closed(versions: list[CreditRate], changed: list[CreditRate]) -> list[CreditRate]:
    """The versions with their changed twins in their places; each has a price of its own."""
    twins = {one.metric_amount: one for one in changed}
    return [twins.get(one.metric_amount, one) for one in versions]
