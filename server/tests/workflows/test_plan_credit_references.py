"""What counts towards a new plan's grant of what the plans before granted."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from nozle_server.core.periods import Interval
from nozle_server.workflows.plan_credit_references import (
    Granted,
    granted_already,
    is_of,
    prefix_of,
    reference_of,
    rolled_over,
)

SUBSCRIPTION = UUID(int=7)
START = datetime(2026, 1, 31, 18, 15, tzinfo=UTC)
KINDS = (*Interval, None)

FOUND = [
    Granted(reference_of(SUBSCRIPTION, Interval.MONTHLY, START), Decimal(10)),
    Granted(reference_of(SUBSCRIPTION, Interval.YEARLY, START), Decimal(200)),
    Granted(reference_of(SUBSCRIPTION, None, START), Decimal(3000)),
    # As the first release wrote it.
    Granted(f"plan:{SUBSCRIPTION}:{START.isoformat()}", Decimal(40000)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_says_what_it_is_of(kind: Interval | None) -> None:
    """One kind each, and told apart by it; what is carried over is no plan's grant."""
    reference = reference_of(SUBSCRIPTION, kind, START)
    assert reference.startswith(prefix_of(SUBSCRIPTION))
    assert [one for one in KINDS if is_of(reference, one)] == [kind]
    assert not rolled_over(reference).startswith(prefix_of(SUBSCRIPTION))


def test_references_are_apart_by_period_but_for_ever_is_once() -> None:
    later = datetime(2026, 2, 28, tzinfo=UTC)
    assert reference_of(SUBSCRIPTION, Interval.MONTHLY, START) != reference_of(
        SUBSCRIPTION, Interval.MONTHLY, later
    )
    assert reference_of(SUBSCRIPTION, None, START) == reference_of(SUBSCRIPTION, None, later)


@pytest.mark.parametrize(
    ("interval", "too", "counted"),
    [
        # Only one grant: everything that is not for ever counts.
        (Interval.MONTHLY, [Interval.MONTHLY], 40210),
        (Interval.YEARLY, [Interval.YEARLY], 40210),
        (Interval.WEEKLY, [Interval.WEEKLY], 40210),
        # Each has its own where there are both.
        (Interval.MONTHLY, [Interval.MONTHLY, Interval.YEARLY], 40010),
        (Interval.YEARLY, [Interval.MONTHLY, Interval.YEARLY], 40200),
        # What is for ever stands by itself.
        (None, [Interval.MONTHLY, None], 3000),
        (Interval.MONTHLY, [Interval.MONTHLY, None], 40210),
        (None, [None], 3000),
    ],
)
def test_what_counts(interval: Interval | None, too: list[Interval | None], counted: int) -> None:
    assert granted_already(FOUND, interval, too) == counted
    assert granted_already([], interval, too) == 0
