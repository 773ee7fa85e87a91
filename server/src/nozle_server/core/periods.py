"""Periods of time, and the calendar that cuts a subscription's life into billing periods.

A `Period` is half-open: start included, end not, both UTC; neighbours touch and never overlap. Boundaries
of billing periods are midnights in the customer's zone, counted from the anchor and never from the period
before: an anchor on 31 January renews on 28 February and again on 31 March.

A calendar is a value for one zone; a subscription keeps the zone that it started with.

As Lago: https://getlago.com/docs/guide/subscriptions/assign-plan (billing cycles) and
https://getlago.com/docs/guide/plans/plan-model (pro-ratas).
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

_NO_OFFSET = timedelta(0)
_TICK = timedelta(microseconds=1)


class Interval(StrEnum):
    """How long a plan's billing period is."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    SEMIANNUAL = "semiannual"
    YEARLY = "yearly"


class BillingTime(StrEnum):
    """Whether periods start on the anniversary of the anchor, or with the week, month, quarter or year."""

    ANNIVERSARY = "anniversary"
    CALENDAR = "calendar"


_MONTHS = {Interval.MONTHLY: 1, Interval.QUARTERLY: 3, Interval.SEMIANNUAL: 6, Interval.YEARLY: 12}


@dataclass(frozen=True, slots=True)
class Period:
    """The instants from `start` up to, but not including, `end`; ValueError unless UTC and in this order."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        _require_utc(self.start)
        _require_utc(self.end)
        if self.start >= self.end:
            raise ValueError("a period must start before it ends")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: "Period") -> bool:
        """Whether some instant is in both; neighbours that only touch do not overlap."""
        return self.start < other.end and other.start < self.end

    def intersection(self, other: "Period") -> "Period | None":
        """The instants in both, None when there are none."""
        if not self.overlaps(other):
            return None
        return Period(max(self.start, other.start), min(self.end, other.end))

    def split(self, at: datetime) -> tuple["Period", "Period"]:
        """The part before `at` and the part from `at` on; ValueError unless `at` is strictly inside."""
        return Period(self.start, at), Period(at, self.end)


@dataclass(frozen=True, slots=True)
class BillingCalendar:
    """A subscription's billing periods, numbered from 0.

    The first starts at the anchor itself, at any hour; every other boundary is a local midnight. `timezone`
    is an IANA name (zoneinfo.ZoneInfoNotFoundError for an unknown one); `anchor` is UTC.
    """

    anchor: datetime
    interval: Interval
    billing_time: BillingTime
    timezone: str

    def __post_init__(self) -> None:
        _require_utc(self.anchor)
        ZoneInfo(self.timezone)

    def nth(self, n: int) -> Period:
        """The period with index `n`; ValueError when it is negative."""
        if n < 0:
            raise ValueError("billing periods are numbered from 0")
        return Period(self._start(n), self._start(n + 1))

    def index_at(self, instant: datetime) -> int:
        """The index of the period that `instant` falls in; ValueError before the anchor."""
        if instant < self.anchor:
            raise ValueError("there is no billing period before the anchor")
        n = self._estimate(local_date(instant, self.timezone))
        # The estimate counts dates; an anchor day that clamps, or a midnight that moves, makes it off by one.
        while n > 0 and self._start(n) > instant:
            n -= 1
        while self._start(n + 1) <= instant:
            n += 1
        return n

    def period_at(self, instant: datetime) -> Period:
        """The period that `instant` falls in; ValueError before the anchor."""
        return _period_at(self, instant)

    def whole(self, period: Period) -> Period:
        """The unclipped billing period that `period` is a part of; ValueError when it is longer.

        Only calendar billing clips: a monthly plan taken on the 14th has a first period from the 14th,
        whose whole starts on the 1st. Otherwise the whole first period starts at the local midnight of the
        anchor's day.
        """
        n = self.index_at(period.start)
        whole = Period(start_of_day(self._boundary(n), self.timezone), self._start(n + 1))
        if period.end > whole.end:
            raise ValueError("the period reaches over the end of a billing period")
        return whole

    def _start(self, n: int) -> datetime:
        return self.anchor if n == 0 else start_of_day(self._boundary(n), self.timezone)

    def _boundary(self, n: int) -> date:
        """The local date on which period `n` starts, without clipping."""
        if self.interval == Interval.WEEKLY:
            return self._base() + timedelta(weeks=n)
        return _add_months(self._base(), n * _MONTHS[self.interval])

    def _base(self) -> date:
        """The local date that the others are counted from."""
        day = local_date(self.anchor, self.timezone)
        if self.billing_time == BillingTime.ANNIVERSARY:
            return day
        if self.interval == Interval.WEEKLY:
            return day - timedelta(days=day.weekday())
        months = _MONTHS[self.interval]
        return date(day.year, (day.month - 1) // months * months + 1, 1)

    def _estimate(self, day: date) -> int:
        base = self._base()
        if self.interval == Interval.WEEKLY:
            return (day - base).days // 7
        months = (day.year - base.year) * 12 + day.month - base.month
        return max(0, months // _MONTHS[self.interval])


# A bill asks for the same few periods again and again, and so do the bills of subscriptions that renew together.
@lru_cache(maxsize=4096)
def _period_at(billing: BillingCalendar, instant: datetime) -> Period:
    return billing.nth(billing.index_at(instant))


def days(period: Period, timezone: str) -> int:
    """How many local calendar days a period touches, as Lago counts for proration.

    From 18:15 on 16 November to midnight of 16 December are 30 days: the day of the start counts in full,
    whatever the hour. Two parts of a period split within a day both count that day; split at midnights to
    share days out.
    """
    first = local_date(period.start, timezone)
    last = local_date(period.end - _TICK, timezone)
    return (last - first).days + 1


def proration(billing_calendar: BillingCalendar, period: Period) -> tuple[int, int]:
    """(days of `period`, days of the whole billing period it is a part of); equal for a full one."""
    whole = billing_calendar.whole(period)
    return days(period, billing_calendar.timezone), days(whole, billing_calendar.timezone)


def local_date(instant: datetime, timezone: str) -> date:
    """The date that people in `timezone` write at an instant."""
    return instant.astimezone(ZoneInfo(timezone)).date()


def start_of_day(day: date, timezone: str) -> datetime:
    """The first instant of a local date, in UTC: midnight, or what follows the gap when clocks skip it."""
    zone = ZoneInfo(timezone)
    midnight = datetime.combine(day, time.min, tzinfo=zone)
    instant = midnight.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return instant
    # In the gap, fold 0 reads midnight with the offset before it and fold 1 with the one after: the jump,
    # which is where the day begins, lies between. Bisecting finds it also in a gap that opens before
    # midnight.
    before, after = midnight.replace(fold=1).astimezone(UTC) - _TICK, instant
    while after - before > _TICK:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).date() < day:
            before = middle
        else:
            after = middle
    return after


def _add_months(day: date, months: int) -> date:
    """`months` later, on the last day of the month where the day does not exist."""
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month0 + 1, min(day.day, calendar.monthrange(year, month0 + 1)[1]))


def _require_utc(instant: datetime) -> None:
    if instant.utcoffset() != _NO_OFFSET:
        raise ValueError("an instant must be aware and in UTC")
