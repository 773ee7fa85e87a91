"""How subscriptions begin and follow each other: laws, and the tables that Lago's rules are."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import BillingTime, Interval, Period
from nozle_server.subscriptions import lifecycle
from nozle_server.subscriptions.lifecycle import Direction
from nozle_server.subscriptions.model import Status, Subscription

ORG = uuid4()
ZONES = (
    "UTC",
    "America/Los_Angeles",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
)


def a_version(
    *,
    interval: Interval = Interval.MONTHLY,
    amount_cents: int = 1000,
    trial_days: str = "0",
    monthly: bool = False,
) -> PlanVersion:
    return PlanVersion(
        org_id=ORG,
        id=uuid4(),
        plan_id=uuid4(),
        version=1,
        interval=interval,
        amount_cents=amount_cents,
        currency="USD",
        pay_in_advance=True,
        credits=Decimal(0),
        charges=(),
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
        trial_days=Decimal(trial_days),
        bill_charges_monthly=monthly,
    )


def a_beginning(
    version: PlanVersion,
    at: datetime,
    *,
    now: datetime | None = None,
    zone: str = "UTC",
    billing_time: BillingTime = BillingTime.ANNIVERSARY,
) -> Subscription:
    return lifecycle.beginning(
        org_id=ORG,
        customer_id=uuid4(),
        version=version,
        external_id=None,
        name=None,
        timezone=zone,
        billing_time=billing_time,
        subscription_at=at,
        ending_at=None,
        now=now or at,
    )


def periods_of(subscription: Subscription, version: PlanVersion, end: datetime) -> list[Period]:
    """The billing periods of usage from the start up to `end`, as the billing runs would open them."""
    found = []
    at = subscription.started_at
    while at < end:
        period = subscription.calendar(version.usage_interval).period_at(at)
        found.append(Period(max(period.start, subscription.started_at), min(period.end, end)))
        at = found[-1].end
    return found


instants = st.timedeltas(timedelta(0), timedelta(days=2900)).map(
    lambda after: datetime(2020, 1, 1, tzinfo=UTC) + after
)
versions = st.builds(a_version, interval=st.sampled_from(Interval), monthly=st.booleans())
gaps = st.one_of(
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=2)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=500)),
)


@settings(max_examples=150, deadline=None)
@given(
    start=instants,
    zone=st.sampled_from(ZONES),
    billing_time=st.sampled_from(BillingTime),
    first=versions,
    changes=st.lists(st.tuples(gaps, versions), max_size=6),
)
def test_the_periods_of_any_chain_of_plans_tile(
    start: datetime,
    zone: str,
    billing_time: BillingTime,
    first: PlanVersion,
    changes: list[tuple[timedelta, PlanVersion]],
) -> None:
    """T03: no gap, no overlap, none of no length; anchor, zone and external id are the first one's."""
    subscription = a_beginning(first, start, zone=zone, billing_time=billing_time)
    version, now, tiles = first, start, list[Period]()
    for gap, target in changes:
        now += gap
        tiles += periods_of(subscription, version, now)
        follower = lifecycle.following(subscription, target, at=now, name=None, ending_at=None, now=now)
        assert follower.previous_subscription_id == subscription.id
        assert (follower.subscription_at, follower.timezone) == (start, zone)
        assert follower.external_id == subscription.external_id
        assert follower.current_period_start == now
        subscription, version = follower, target
    tiles += periods_of(subscription, version, now + timedelta(days=400))
    assert tiles[0].start == start
    assert tiles[-1].end == now + timedelta(days=400)
    assert all(one.end == two.start for one, two in itertools.pairwise(tiles))


@settings(max_examples=150, deadline=None)
@given(start=instants, days=st.integers(0, 1500), zone=st.sampled_from(ZONES), version=versions)
def test_a_backdated_start_is_in_the_period_it_would_be_in_by_now(
    start: datetime, days: int, zone: str, version: PlanVersion
) -> None:
    """As though it had been made in time: the same period, and nothing before it is billed any more."""
    now = start + timedelta(days=days)
    subscription = a_beginning(version, start, now=now, zone=zone)
    assert subscription.status is Status.ACTIVE
    expected = periods_of(subscription, version, now + timedelta(microseconds=1))[-1]
    assert subscription.current_period_start == expected.start == subscription.billed_through
    assert subscription.current_period_start <= now < subscription.current_period_end


@settings(max_examples=100, deadline=None)
@given(start=instants, version=versions, after=st.timedeltas(timedelta(microseconds=1), timedelta(days=900)))
def test_an_end_that_is_taken_back_leaves_no_trace(
    start: datetime, version: PlanVersion, after: timedelta
) -> None:
    subscription = a_beginning(version, start)
    ended = lifecycle.ending(subscription, version, start + after)
    assert ended.current_period_end == min(subscription.current_period_end, start + after)
    assert lifecycle.ending(ended, version, None) == subscription


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((Interval.MONTHLY, 1000), (Interval.MONTHLY, 1001), Direction.UPGRADE),
        ((Interval.MONTHLY, 1000), (Interval.MONTHLY, 1000), Direction.UPGRADE),
        ((Interval.MONTHLY, 1000), (Interval.MONTHLY, 999), Direction.DOWNGRADE),
        ((Interval.MONTHLY, 1000), (Interval.YEARLY, 12000), Direction.UPGRADE),
        ((Interval.MONTHLY, 1000), (Interval.YEARLY, 11999), Direction.DOWNGRADE),
        ((Interval.WEEKLY, 1000), (Interval.MONTHLY, 4333), Direction.DOWNGRADE),
        ((Interval.WEEKLY, 1000), (Interval.MONTHLY, 4334), Direction.UPGRADE),
        ((Interval.QUARTERLY, 3000), (Interval.SEMIANNUAL, 6000), Direction.UPGRADE),
        ((Interval.SEMIANNUAL, 6000), (Interval.QUARTERLY, 2999), Direction.DOWNGRADE),
    ],
)
def test_what_a_year_costs_decides_the_direction(
    old: tuple[Interval, int], new: tuple[Interval, int], expected: Direction
) -> None:
    """As Lago: 52 weeks, 12 months, 4 quarters, 2 halves; equal is an upgrade."""
    one, other = (a_version(interval=interval, amount_cents=cents) for interval, cents in (old, new))
    assert lifecycle.direction(one, other) is expected


def test_a_trial_counts_from_the_first_start_of_the_chain() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first = a_beginning(a_version(trial_days="10.5"), start)
    assert first.trial_ends_at == datetime(2026, 1, 11, 12, tzinfo=UTC)
    later = start + timedelta(days=15)
    over = lifecycle.following(
        first, a_version(trial_days="14"), at=later, name=None, ending_at=None, now=later
    )
    assert over.trial_ended_at == over.trial_ends_at == datetime(2026, 1, 15, tzinfo=UTC)
    longer = lifecycle.following(
        first, a_version(trial_days="30"), at=later, name=None, ending_at=None, now=later
    )
    assert (longer.trial_ends_at, longer.trial_ended_at) == (datetime(2026, 1, 31, tzinfo=UTC), None)
    none = lifecycle.following(first, a_version(), at=later, name=None, ending_at=None, now=later)
    assert none.trial_ends_at is None
