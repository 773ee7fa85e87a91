"""When a recurring rule tops up, and by how much."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from nozle_server.core.periods import Interval
from nozle_server.wallets.model import Method, RecurringRule, Trigger
from nozle_server.wallets.top_ups import TopUp, is_below_threshold, next_top_up, plan_top_up

from .conftest import NOW, a_wallet


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "interval", "timezone", "after", "expected"),
    [
        ("2026-01-15T10:00", "weekly", "UTC", "2026-01-15T10:00", "2026-01-22T00:00"),
        ("2026-01-31T10:00", "monthly", "UTC", "2026-01-31T10:00", "2026-02-28T00:00"),
        ("2026-01-31T10:00", "monthly", "UTC", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2026-01-15T10:00", "quarterly", "UTC", "2026-01-15T10:00", "2026-04-15T00:00"),
        ("2026-01-15T10:00", "semiannual", "UTC", "2026-01-15T10:00", "2026-07-15T00:00"),
        ("2024-02-29T10:00", "yearly", "UTC", "2026-01-01T00:00", "2026-02-28T00:00"),
        # An anchor ahead is itself the first; one behind keeps its day.
        ("2026-03-10T12:00", "monthly", "UTC", "2026-01-15T10:00", "2026-03-10T00:00"),
        ("2025-11-10T12:00", "monthly", "UTC", "2026-01-15T10:00", "2026-02-10T00:00"),
        # Days begin where the customer lives, also when its clocks change in between.
        ("2026-01-15T10:00", "monthly", "America/New_York", "2026-02-20T00:00", "2026-03-15T04:00"),
        ("2026-01-15T03:00", "monthly", "America/New_York", "2026-01-15T03:00", "2026-02-14T05:00"),
    ],
)
def test_the_next_top_up_is_the_midnight_of_an_anniversary(
    anchor: str, interval: str, timezone: str, after: str, expected: str
) -> None:
    assert next_top_up(at(anchor), Interval(interval), timezone, at(after)) == at(expected)


def a_rule(**more: object) -> RecurringRule:
    values: dict[str, object] = {
        "id": UUID(int=1),
        "wallet_id": UUID(int=1),
        "trigger": Trigger.THRESHOLD,
        "method": Method.FIXED,
        "interval": None,
        "paid_credits": Decimal(20),
        "granted_credits": Decimal(5),
        "threshold_credits": Decimal(10),
        "target_ongoing_balance": None,
        "invoice_requires_successful_payment": False,
        "ignore_paid_top_up_limits": False,
        "transaction_name": None,
        "transaction_metadata": (),
        "started_at": None,
        "expiration_at": None,
        "next_top_up_at": None,
        "created_at": NOW,
        "updated_at": NOW,
        **more,
    }
    return RecurringRule(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ongoing", "pending", "below"), [("10.00001", "0", False), ("10", "0", True), ("4", "6.1", False)]
)
def test_at_the_threshold_is_below_it(ongoing: str, pending: str, below: bool) -> None:
    """As Lago: "falls to or below"; what is bought and not paid yet counts, so that nothing is bought twice."""
    assert is_below_threshold(a_rule(), Decimal(ongoing), Decimal(pending)) is below


def test_a_fixed_rule_adds_what_it_says() -> None:
    assert plan_top_up(a_rule(), a_wallet(), Decimal(3)) == TopUp(Decimal(20), Decimal(5))


@pytest.mark.parametrize(
    ("ongoing", "least", "ignore", "bought"),
    [
        ("60", None, False, "40"),
        ("100", None, False, "0"),
        ("130", 5000, False, "0"),
        ("-20", None, False, "120"),
        ("95", 1000, False, "10"),
        ("95", 1000, True, "5"),
    ],
)
def test_a_target_is_reached_by_buying_what_is_missing(
    ongoing: str, least: int | None, ignore: bool, bought: str
) -> None:
    """Not less than the wallet's smallest top-up, unless the rule ignores that."""
    rule = a_rule(method=Method.TARGET, target_ongoing_balance=Decimal(100), ignore_paid_top_up_limits=ignore)
    wallet = a_wallet(paid_top_up_min_amount_cents=least)
    assert plan_top_up(rule, wallet, Decimal(ongoing)) == TopUp(Decimal(bought), Decimal(0))
