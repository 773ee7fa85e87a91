"""Monthly recurring revenue: fees as parts of months."""

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.analytics.model import SubscriptionFees
from nozle_server.analytics.recurring import by_month, spread
from nozle_server.core.periods import Interval


def fees(
    interval: Interval = Interval.MONTHLY,
    issued_on: str = "2026-01-01",
    *,
    days: int = 31,
    amount_cents: int = 1200,
    in_advance: bool = False,
    count: int = 1,
    currency: str = "USD",
) -> SubscriptionFees:
    return SubscriptionFees(
        date.fromisoformat(issued_on), interval, in_advance, days, currency, amount_cents, count
    )


def months(*of: SubscriptionFees) -> dict[str, int]:
    return {month.isoformat()[:7]: amount for (month, _), amount in sorted(by_month(of).items())}


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        (fees(), {"2026-01": 1200}),
        (fees(in_advance=True, issued_on="2026-01-20"), {"2026-01": 1200}),
        # 90 days are 2.957 months: two whole ones, and the rest.
        (
            fees(Interval.QUARTERLY, "2026-04-01", days=90, amount_cents=9000),
            {"2026-02": 2912, "2026-03": 3044, "2026-04": 3044},
        ),
        # 16 of 31 days are left of the first month.
        (
            fees(Interval.QUARTERLY, "2026-01-16", days=90, amount_cents=9000, in_advance=True),
            {"2026-01": 1571, "2026-02": 3044, "2026-03": 4385},
        ),
        (fees(Interval.YEARLY, "2026-01-10", days=20, in_advance=True), {"2026-01": 1200}),
        # Two weekly fees of 10 and 30: 20 a week on average.
        (fees(Interval.WEEKLY, days=7, amount_cents=4000, count=2), {"2026-01": 8660}),
    ],
)
def test_a_fee_as_months(fee: SubscriptionFees, expected: dict[str, int]) -> None:
    assert months(fee) == expected


def test_a_year_is_twelve_months_each_way() -> None:
    year = fees(Interval.YEARLY, "2026-01-01", days=365, amount_cents=120000)
    advance = fees(Interval.YEARLY, "2026-01-01", days=365, amount_cents=120000, in_advance=True)
    assert (min(months(year)), max(months(year)), len(months(year))) == ("2025-02", "2026-01", 12)
    assert (min(months(advance)), max(months(advance)), len(months(advance))) == ("2026-01", "2026-12", 12)


def test_currencies_stay_apart() -> None:
    assert by_month([fees(), fees(currency="EUR")]) == {
        (date(2026, 1, 1), "USD"): 1200,
        (date(2026, 1, 1), "EUR"): 1200,
    }


@given(
    st.sampled_from([Interval.QUARTERLY, Interval.SEMIANNUAL, Interval.YEARLY]),
    st.dates(min_value=date(2020, 1, 1), max_value=date(2030, 1, 1)),
    st.integers(min_value=1, max_value=367),
    st.integers(min_value=0, max_value=10**12),
    st.booleans(),
)
def test_the_parts_of_a_fee_sum_to_it_and_months_follow_each_other(
    interval: Interval, issued_on: date, days: int, amount: int, in_advance: bool
) -> None:
    parts = spread(SubscriptionFees(issued_on, interval, in_advance, days, "USD", amount, 1))
    assert sum(part for _, part in parts) == amount
    assert all(part >= 0 for _, part in parts)
    assert parts[0][0] == issued_on.replace(day=1)
    numbers = [month.year * 12 + month.month for month, _ in parts]
    step = 1 if in_advance else -1
    assert all(after - before == step for before, after in pairwise(numbers))
