"""How a subscription begins, is followed by another, and ends: pure functions of values.

As Lago: https://getlago.com/docs/guide/subscriptions/assign-plan (start dates) and
https://getlago.com/docs/guide/subscriptions/upgrade-downgrade (which change is an upgrade, and when it takes effect).
"""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from nozle_server.catalog.model import PlanVersion
from nozle_server.core.ids import new_id, to_text
from nozle_server.core.periods import BillingTime, Interval, Period, local_date
from nozle_server.subscriptions.model import Status, Subscription

_PERIODS_A_YEAR = {
    Interval.WEEKLY: 52,
    Interval.MONTHLY: 12,
    Interval.QUARTERLY: 4,
    Interval.SEMIANNUAL: 2,
    Interval.YEARLY: 1,
}
_MICROSECONDS_A_DAY = 86_400_000_000


class Direction(StrEnum):
    """Whether a change of plan costs at least as much a year (`upgrade`, at once) or less (`downgrade`, at the period's
    end)."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"


def yearly_amount_cents(version: PlanVersion) -> int:
    """The fixed fee of a year, by which plans of different intervals are compared."""
    return version.amount_cents * _PERIODS_A_YEAR[version.interval]


def direction(old: PlanVersion, new: PlanVersion) -> Direction:
    if yearly_amount_cents(new) >= yearly_amount_cents(old):
        return Direction.UPGRADE
    return Direction.DOWNGRADE


def trial_end(initial_started_at: datetime, trial_days: Decimal) -> datetime | None:
    """When a trial of so many days, which may be fractions, ends; None without one. Counted from the beginning of the
    chain of plans, so that a change of plan neither starts another trial nor ends a longer one."""
    if trial_days <= 0:
        return None
    return initial_started_at + timedelta(microseconds=int(trial_days * _MICROSECONDS_A_DAY))


def beginning(
    *,
    org_id: UUID,
    customer_id: UUID,
    version: PlanVersion,
    external_id: str | None,
    name: str | None,
    timezone: str,
    billing_time: BillingTime,
    subscription_at: datetime,
    ending_at: datetime | None,
    now: datetime,
) -> Subscription:
    """A new subscription: pending when it starts after `now`. One that started before has run since then, and its current
    period is the one around `now`: those before it are not billed any more."""
    subscription_id = new_id()
    started = subscription_at <= now
    subscription = Subscription(
        org_id=org_id,
        id=subscription_id,
        external_id=external_id or to_text("sub", subscription_id),
        customer_id=customer_id,
        plan_id=version.plan_id,
        plan_version_id=version.id,
        name=name,
        status=Status.ACTIVE if started else Status.PENDING,
        billing_time=billing_time,
        timezone=timezone,
        subscription_at=subscription_at,
        started_at=subscription_at,
        initial_started_at=subscription_at,
        ending_at=ending_at,
        terminated_at=None,
        canceled_at=None,
        current_period_start=subscription_at,
        current_period_end=subscription_at,
        billed_through=subscription_at,
        created_at=now,
    )
    return _in_trial(_in_period(subscription, version, max(now, subscription_at)), version, now)


def following(
    old: Subscription,
    version: PlanVersion,
    *,
    at: datetime,
    name: str | None,
    ending_at: datetime | None,
    now: datetime,
) -> Subscription:
    """What takes the place of `old` at `at` with another plan: the same external id, anchor, billing time and zone, and
    what is left of the trial. Pending when `at` lies after `now`."""
    follower = replace(
        old,
        id=new_id(),
        plan_id=version.plan_id,
        plan_version_id=version.id,
        name=name,
        status=Status.ACTIVE if at <= now else Status.PENDING,
        started_at=at,
        ending_at=ending_at,
        terminated_at=None,
        canceled_at=old.canceled_at if old.cancel_at_period_end else None,
        billed_through=at,
        created_at=now,
        previous_subscription_id=old.id,
    )
    return _in_trial(_in_period(follower, version, at), version, now)


def replanned(pending: Subscription, version: PlanVersion, now: datetime) -> Subscription:
    """A subscription that has not begun, with another plan."""
    assert pending.status is Status.PENDING, "what has begun is followed, not changed"
    changed = replace(pending, plan_id=version.plan_id, plan_version_id=version.id)
    return _in_trial(_in_period(changed, version, changed.started_at), version, now)


def moved(
    pending: Subscription, version: PlanVersion, subscription_at: datetime, now: datetime
) -> Subscription:
    """A subscription that has not begun, with another beginning; active when that is past."""
    assert pending.status is Status.PENDING, "what has begun keeps its anchor"
    changed = replace(
        pending,
        subscription_at=subscription_at,
        started_at=subscription_at,
        initial_started_at=subscription_at,
        billed_through=subscription_at,
        status=Status.ACTIVE if subscription_at <= now else Status.PENDING,
    )
    return _in_trial(_in_period(changed, version, max(now, subscription_at)), version, now)


def ending(subscription: Subscription, version: PlanVersion, ending_at: datetime | None) -> Subscription:
    """The subscription with another end, or none: its current period is cut there, or whole again."""
    changed = replace(subscription, ending_at=ending_at)
    calendar = changed.calendar(version.usage_interval)
    return replace(
        changed, current_period_end=changed.cut(calendar.period_at(changed.current_period_start)).end
    )


def fee_period(subscription: Subscription, version: PlanVersion, at: datetime) -> Period:
    """The billing period of the plan's fee around `at`, cut at the subscription's start but not at its end."""
    period = subscription.calendar(version.interval).period_at(at)
    return Period(max(period.start, subscription.started_at), period.end)


def is_billed_at_start(subscription: Subscription, now: datetime) -> bool:
    """Whether what is paid in advance is invoiced when the subscription is made: one that began on an earlier day is first
    billed when its current period ends."""
    zone = subscription.timezone
    return local_date(subscription.started_at, zone) == local_date(now, zone)


def _in_period(subscription: Subscription, version: PlanVersion, at: datetime) -> Subscription:
    period = subscription.cut(subscription.calendar(version.usage_interval).period_at(at))
    return replace(
        subscription,
        current_period_start=period.start,
        current_period_end=period.end,
        billed_through=max(subscription.billed_through, period.start),
    )


def _in_trial(subscription: Subscription, version: PlanVersion, now: datetime) -> Subscription:
    ends_at = trial_end(subscription.initial_started_at, version.trial_days)
    over = ends_at is not None and ends_at <= max(now, subscription.started_at)
    return replace(subscription, trial_ends_at=ends_at, trial_ended_at=ends_at if over else None)
