"""Every instant at which time alone changes something is known before it comes."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from nozle_server.core.periods import BillingTime, Interval
from nozle_server.realtime.instants import next_instant
from nozle_server.subscriptions.model import Status, Subscription


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def a_subscription(*, status: Status = Status.ACTIVE, **more: datetime | None) -> Subscription:
    start = more.pop("started_at", None) or at("2026-01-10")
    values = {
        "ending_at": None,
        "terminated_at": None,
        "trial_ends_at": None,
        "current_period_start": at("2026-01-10"),
        "current_period_end": at("2026-02-10"),
        **more,
    }
    return Subscription(
        org_id=uuid4(),
        id=uuid4(),
        external_id="s",
        customer_id=uuid4(),
        plan_id=uuid4(),
        plan_version_id=uuid4(),
        name=None,
        status=status,
        billing_time=BillingTime.ANNIVERSARY,
        timezone="UTC",
        subscription_at=at("2026-01-10"),
        started_at=start,
        initial_started_at=start,
        canceled_at=None,
        billed_through=start,
        created_at=start,
        **values,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("subscription", "now", "expected"),
    [
        (a_subscription(), "2026-01-20", "2026-02-10"),
        (a_subscription(ending_at=at("2026-01-31")), "2026-01-20", "2026-01-31"),
        (a_subscription(trial_ends_at=at("2026-01-25")), "2026-01-20", "2026-01-25"),
        (a_subscription(trial_ends_at=at("2026-01-15")), "2026-01-20", "2026-02-10"),
        # Exactly at an instant it has come: the next one counts.
        (a_subscription(), "2026-02-10", "2026-03-10"),
        # The billing run that opens the next period is still to come.
        (a_subscription(), "2026-02-20", "2026-03-10"),
        (a_subscription(ending_at=at("2026-02-25")), "2026-02-20", "2026-02-25"),
        (
            a_subscription(
                status=Status.PENDING,
                started_at=at("2026-03-01"),
                current_period_start=at("2026-03-01"),
                current_period_end=at("2026-03-10"),
            ),
            "2026-01-20",
            "2026-03-01",
        ),
        # What has ended does not change by itself.
        (a_subscription(status=Status.TERMINATED, terminated_at=at("2026-01-15")), "2026-01-20", None),
        (a_subscription(ending_at=at("2026-02-05")), "2026-02-20", None),
    ],
)
def test_the_next_instant(subscription: Subscription, now: str, expected: str | None) -> None:
    found = next_instant(subscription, Interval.MONTHLY, at(now))
    assert found == (at(expected) if expected else None)
