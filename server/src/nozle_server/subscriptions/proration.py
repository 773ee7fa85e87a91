"""How many days of a billing period a subscription's fixed fee is for.

Days are local calendar days, as Lago counts them (https://getlago.com/docs/guide/plans/plan-model, pro-ratas): the day of
the start and the day of the end both count in full, whatever the hour: also of an end at midnight, where the billing period
goes on. A day on which one plan takes the place of another
belongs to the new one alone, so that a chain of changes bills every day once, and changing there and back costs nothing.
Days of the trial are free; the day on which it ends is paid.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from nozle_server.core.periods import Interval, Period, days, local_date, start_of_day
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class FeeDays:
    """`days` of the `whole_days` of a billing period are paid for: those of `paid`, None where there are none.

    `period` is the part of the billing period that the subscription ran in, `trial_days` how many of it were free.
    """

    period: Period
    paid: Period | None
    days: int
    whole_days: int
    trial_days: int

    @property
    def is_whole(self) -> bool:
        return self.days == self.whole_days


def fee_days(
    subscription: Subscription,
    interval: Interval,
    period: Period,
    *,
    replaced: bool = False,
    trial: bool = True,
) -> FeeDays:
    """The days of `period`, a part of one billing period of `interval`, that the fixed fee is for.

    `replaced` says that another plan took this one's place at the period's end. `trial` False counts days of the trial as
    paid (fixed charges and commitments know no trial).
    """
    calendar = subscription.calendar(interval)
    zone = subscription.timezone
    whole_days = days(calendar.whole(period), zone)
    start, end = period.start, end_of_days(subscription, interval, period, replaced=replaced)
    trial_ends_at = subscription.trial_ends_at if trial else None
    paid_from = start if trial_ends_at is None else max(start, trial_ends_at)
    paid = Period(paid_from, end) if paid_from < end else None
    counted = days(paid, zone) if paid else 0
    ran = days(Period(start, end), zone) if start < end else 0
    return FeeDays(period, paid, counted, whole_days, max(0, ran - counted))


def end_of_days(
    subscription: Subscription, interval: Interval, period: Period, *, replaced: bool = False
) -> datetime:
    """Until when the days of `period` count, which ends with the billing period, with the subscription or with a change of
    plan (`replaced`)."""
    zone = subscription.timezone
    day = local_date(period.end, zone)
    midnight = start_of_day(day, zone)
    if replaced:
        return min(period.end, midnight)
    ends = period.end in (subscription.terminated_at, subscription.ending_at)
    if period.end == midnight and ends and period.end < subscription.calendar(interval).whole(period).end:
        return start_of_day(day + timedelta(days=1), zone)
    return period.end


def is_in_trial(subscription: Subscription, at: datetime) -> bool:
    return subscription.trial_ends_at is not None and at < subscription.trial_ends_at
