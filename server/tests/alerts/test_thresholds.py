"""Which thresholds a value crosses on its way."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.alerts.model import Direction, Threshold
from nozle_server.alerts.thresholds import MOST_REPEATS, crossed

UP, DOWN = Direction.INCREASING, Direction.DECREASING


def reached(thresholds: str, before: object, after: object, direction: Direction = UP) -> list[int]:
    """Thresholds as "10 20 +5", the recurring one with a plus; the values crossed."""
    wanted = [Threshold(Decimal(text), recurring=text.startswith("+")) for text in thresholds.split()]
    found = crossed(wanted, Decimal(str(before)), Decimal(str(after)), direction)
    return [int(one.value) for one in found]


@pytest.mark.parametrize(
    ("thresholds", "before", "after", "expected"),
    [
        ("10 20", 0, "9.999", []),
        ("10 20", 0, 10, [10]),
        ("10 20", 10, 15, []),
        ("20 10", 0, 25, [10, 20]),
        ("10 20", 25, 5, []),
        ("10 20", 12, 12, []),
        ("10 +5", 0, 14, [10]),
        ("10 +5", 0, 15, [10, 15]),
        ("10 +5", 15, 15, []),
        ("10 +5", 15, 27, [20, 25]),
        ("10 20 +5", 12, 31, [20, 25, 30]),
        ("+5", 0, 12, [5, 10]),
    ],
)
def test_upwards(thresholds: str, before: object, after: object, expected: list[int]) -> None:
    assert reached(thresholds, before, after) == expected


@pytest.mark.parametrize(
    ("thresholds", "before", "after", "expected"),
    [
        ("10 20", 25, 21, []),
        ("10 20", 25, 20, [20]),
        ("10 20", 25, -1, [20, 10]),
        ("10 20", 5, 25, []),
        ("10 20", 10, 5, []),
        ("10 +4", 12, 1, [10, 6, 2]),
    ],
)
def test_downwards(thresholds: str, before: object, after: object, expected: list[int]) -> None:
    assert reached(thresholds, before, after, DOWN) == expected


def test_a_leap_over_many_repeats_tells_of_the_latest() -> None:
    found = reached("10 +1", 0, 10**6)
    assert (len(found), found[0], found[-1]) == (MOST_REPEATS + 1, 10, 10**6)


values = st.decimals(min_value=0, max_value=1000, places=2)


@given(st.lists(values, min_size=1, max_size=5, unique=True), values, values, values, st.booleans())
def test_two_steps_cross_what_one_does(
    thresholds: list[Decimal], a: Decimal, b: Decimal, c: Decimal, recurring: bool
) -> None:
    """Each threshold fires once, however many looks there are on the way."""
    low, middle, high = sorted((a, b, c))
    wanted = [Threshold(value) for value in thresholds]
    if recurring:
        wanted.append(Threshold(Decimal(97), recurring=True))
    steps = crossed(wanted, low, middle, UP) + crossed(wanted, middle, high, UP)
    assert steps == crossed(wanted, low, high, UP)
