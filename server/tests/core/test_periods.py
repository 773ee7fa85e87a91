"""Billing periods tile time: no gap, no overlap, one renewal for each (T01, T02, T03, T04, T08)."""

from datetime import UTC, date, datetime, timedelta
from itertools import cycle, pairwise, product
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nozle_server.core.periods import (
    BillingCalendar,
    BillingTime,
    Interval,
    Period,
    days,
    local_date,
    proration,
    start_of_day,
)

TICK = timedelta(microseconds=1)
ZONES = [
    "America/Los_Angeles",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # the clocks move by 30 minutes
    "Asia/Kathmandu",  # +05:45
    "Pacific/Kiritimati",  # +14:00
    "Africa/Cairo",  # the clocks skip midnight
    "America/St_Johns",
]

zones = st.sampled_from(ZONES)
intervals = st.sampled_from(list(Interval))
billing_times = st.sampled_from(list(BillingTime))


def utc(year, month, day, hour=0, minute=0, second=0, microsecond=0):
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)


instants = st.timedeltas(timedelta(0), timedelta(days=9 * 365)).map(lambda after: utc(2020, 1, 1) + after)


def a_calendar(
    *,
    anchor=None,
    interval=Interval.MONTHLY,
    billing_time=BillingTime.ANNIVERSARY,
    timezone="UTC",
):
    return BillingCalendar(anchor or utc(2023, 1, 31), interval, billing_time, timezone)


def start_dates(calendar, count):
    return [str(local_date(calendar.nth(n).start, calendar.timezone)) for n in range(count)]


class TestPeriod:
    january = Period(utc(2023, 1, 1), utc(2023, 2, 1))
    february = Period(utc(2023, 2, 1), utc(2023, 3, 1))

    def test_an_event_at_the_boundary_is_in_exactly_one_period(self):
        """T08: start inclusive, end exclusive, to the microsecond."""
        for instant in (utc(2023, 1, 1), utc(2023, 2, 1) - TICK, utc(2023, 2, 1), utc(2023, 3, 1) - TICK):
            assert (instant in self.january) + (instant in self.february) == 1
        assert utc(2023, 2, 1) in self.february
        assert utc(2023, 3, 1) not in self.february

    def test_neighbours_touch_and_do_not_overlap(self):
        assert not self.january.overlaps(self.february)
        assert self.january.intersection(self.february) is None

    def test_the_intersection_is_in_both(self):
        middle = Period(utc(2023, 1, 15), utc(2023, 2, 15))
        assert middle.overlaps(self.january)
        assert self.january.intersection(middle) == Period(utc(2023, 1, 15), utc(2023, 2, 1))

    def test_a_split_partitions(self):
        before, after = self.january.split(utc(2023, 1, 10))
        assert (before.start, before.end, after.end) == (self.january.start, after.start, self.january.end)

    @pytest.mark.parametrize("at", [utc(2023, 1, 1), utc(2023, 2, 1), utc(2022, 1, 1)])
    def test_a_split_is_strictly_inside(self, at):
        with pytest.raises(ValueError, match="start before it ends"):
            self.january.split(at)

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (utc(2023, 1, 1), utc(2023, 1, 1)),
            (utc(2023, 1, 2), utc(2023, 1, 1)),
            (datetime(2023, 1, 1), utc(2023, 1, 2)),  # noqa: DTZ001
            (utc(2023, 1, 1), datetime(2023, 7, 2, tzinfo=ZoneInfo("Europe/Berlin"))),
        ],
    )
    def test_no_empty_reversed_naive_or_local_periods(self, start, end):
        with pytest.raises(ValueError, match=r"start before it ends|UTC"):
            Period(start, end)


class TestBoundaries:
    @pytest.mark.parametrize(
        ("interval", "billing_time", "starts"),
        [
            ("weekly", "anniversary", ["2023-01-31", "2023-02-07", "2023-02-14"]),
            ("monthly", "anniversary", ["2023-01-31", "2023-02-28", "2023-03-31", "2023-04-30"]),
            ("quarterly", "anniversary", ["2023-01-31", "2023-04-30", "2023-07-31", "2023-10-31"]),
            ("semiannual", "anniversary", ["2023-01-31", "2023-07-31", "2024-01-31"]),
            ("yearly", "anniversary", ["2023-01-31", "2024-01-31", "2025-01-31"]),
            ("weekly", "calendar", ["2023-01-31", "2023-02-06", "2023-02-13"]),
            ("monthly", "calendar", ["2023-01-31", "2023-02-01", "2023-03-01"]),
            ("quarterly", "calendar", ["2023-01-31", "2023-04-01", "2023-07-01"]),
            ("semiannual", "calendar", ["2023-01-31", "2023-07-01", "2024-01-01"]),
            ("yearly", "calendar", ["2023-01-31", "2024-01-01", "2025-01-01"]),
        ],
    )
    def test_each_interval_starts_where_lago_starts_it(self, interval, billing_time, starts):
        """T02: the anchor day clamps and returns."""
        calendar = a_calendar(interval=Interval(interval), billing_time=BillingTime(billing_time))
        assert start_dates(calendar, len(starts)) == starts

    @pytest.mark.parametrize("day", [28, 29, 30, 31])
    def test_the_anchor_day_clamps_and_returns_for_8_years(self, day):
        """T02: monthly from 28 to 31, over two leap years."""
        calendar = a_calendar(anchor=utc(2020, 1, day, 12))
        for start in start_dates(calendar, 96)[1:]:
            start_day = date.fromisoformat(start)
            tomorrow = start_day + timedelta(days=1)
            assert start_day.day == day or (start_day.day < day and tomorrow.day == 1)

    def test_29_february_returns_each_leap_year(self):
        """T02."""
        calendar = a_calendar(anchor=utc(2020, 2, 29), interval=Interval.YEARLY)
        assert [start[5:] for start in start_dates(calendar, 6)] == [
            "02-29",
            "02-28",
            "02-28",
            "02-28",
            "02-29",
            "02-28",
        ]

    def test_the_first_period_starts_at_the_anchor_itself(self):
        calendar = a_calendar(anchor=utc(2023, 11, 16, 18, 15, 30, 5), timezone="Europe/Berlin")
        assert calendar.nth(0) == Period(utc(2023, 11, 16, 18, 15, 30, 5), utc(2023, 12, 15, 23))

    def test_boundaries_are_midnights_in_the_zone(self):
        """T04: zones far ahead and behind see another date at the same instant."""
        anchor = utc(2024, 5, 31, 11)
        assert start_dates(a_calendar(anchor=anchor, timezone="Pacific/Kiritimati"), 2) == [
            "2024-06-01",
            "2024-07-01",
        ]
        assert a_calendar(anchor=anchor, timezone="Pacific/Kiritimati").nth(1).start == utc(2024, 6, 30, 10)
        assert start_dates(a_calendar(anchor=anchor, timezone="Pacific/Pago_Pago"), 2) == [
            "2024-05-31",
            "2024-06-30",
        ]

    def test_there_is_nothing_before_the_anchor(self):
        calendar = a_calendar()
        with pytest.raises(ValueError, match="before the anchor"):
            calendar.period_at(calendar.anchor - TICK)
        with pytest.raises(ValueError, match="from 0"):
            calendar.nth(-1)

    def test_an_unknown_zone_and_a_local_anchor_are_refused(self):
        with pytest.raises(ZoneInfoNotFoundError):
            a_calendar(timezone="Mars/Olympus")
        with pytest.raises(ValueError, match="UTC"):
            a_calendar(anchor=datetime(2023, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")))


class TestTiling:
    def test_8_years_of_start_days_in_all_zones_and_intervals_tile(self):
        """T03: each start day of 8 years, the 70 combinations of zone, interval and billing time in turn."""
        combinations = cycle(product(ZONES, Interval, BillingTime))
        for day, (zone, interval, billing_time) in zip(range(8 * 365 + 2), combinations, strict=False):
            anchor = utc(2020, 1, 1, 18, 15) + timedelta(days=day)
            calendar = BillingCalendar(anchor, interval, billing_time, zone)
            periods = []
            while not periods or periods[-1].end < anchor + timedelta(days=8 * 366):
                # A Period refuses zero and negative length by itself.
                periods.append(calendar.nth(len(periods)))
            assert periods[0].start == anchor
            assert all(one.end == following.start for one, following in pairwise(periods))

    @given(instants, st.timedeltas(timedelta(0), timedelta(days=8 * 366)), intervals, billing_times, zones)
    @settings(max_examples=300, deadline=None)
    def test_each_instant_is_in_exactly_the_period_it_is_looked_up_in(
        self, anchor, after, interval, billing_time, zone
    ):
        """T03, T08."""
        calendar = BillingCalendar(anchor, interval, billing_time, zone)
        n = calendar.index_at(anchor + after)
        period = calendar.nth(n)
        assert anchor + after in period
        assert calendar.index_at(period.start) == n
        assert calendar.index_at(period.end - TICK) == n
        assert calendar.index_at(period.end) == n + 1
        assert calendar.nth(n + 1).start == period.end

    @pytest.mark.parametrize("zone", ZONES)
    def test_each_hour_around_a_change_of_clocks_renews_once(self, zone):
        """T01: both changes of a year; start, renew and look-up at every hour around them."""
        for change in clock_changes(zone, 2024) or [utc(2024, 3, 31)]:
            for hour in range(-26, 27):
                instant = change + timedelta(hours=hour)
                for interval in Interval:
                    calendar = a_calendar(anchor=instant, interval=interval, timezone=zone)
                    assert calendar.index_at(instant) == 0
                    assert calendar.nth(0).end == calendar.nth(1).start
                    renewal = calendar.nth(1).start
                    assert renewal.astimezone(ZoneInfo(zone)).date() > local_date(instant, zone)
                    assert calendar.index_at(renewal) == 1


def clock_changes(zone, year):
    """The hours of a year after which the zone's offset is another."""
    hours = [utc(year, 1, 1) + timedelta(hours=n) for n in range(366 * 24)]
    offsets = [instant.astimezone(ZoneInfo(zone)).utcoffset() for instant in hours]
    return [hours[n] for n in range(1, len(hours)) if offsets[n] != offsets[n - 1]]


class TestStartOfDay:
    @pytest.mark.parametrize(
        ("zone", "day", "first_instant"),
        [
            ("Europe/Berlin", date(2024, 3, 31), utc(2024, 3, 30, 23)),
            ("Europe/Berlin", date(2024, 4, 1), utc(2024, 3, 31, 22)),
            ("Africa/Cairo", date(2024, 4, 26), utc(2024, 4, 25, 22)),  # 00:00 is skipped: 01:00
            ("America/Sao_Paulo", date(2018, 11, 4), utc(2018, 11, 4, 3)),  # 00:00 is skipped: 01:00
            ("America/Havana", date(2024, 11, 3), utc(2024, 11, 3, 4)),  # 00:00 comes twice: the first
            ("America/Toronto", date(1919, 3, 31), utc(1919, 3, 31, 4, 30)),  # 23:30 jumps to 00:30
            ("Pacific/Apia", date(2011, 12, 30), utc(2011, 12, 30, 10)),  # the day never came: the 31st
        ],
    )
    def test_the_first_instant_of_a_day_when_clocks_move_at_midnight(self, zone, day, first_instant):
        """T01."""
        assert start_of_day(day, zone) == first_instant
        assert local_date(first_instant - TICK, zone) < day

    @given(st.dates(date(2000, 1, 1), date(2030, 1, 1)), zones)
    def test_the_instant_before_is_yesterday(self, day, zone):
        start = start_of_day(day, zone)
        assert local_date(start, zone) == day
        assert local_date(start - TICK, zone) == day - timedelta(days=1)


class TestProration:
    def test_a_started_day_counts_in_full(self):
        """From 18:15 on the 16th to midnight of the 16th: 30 days in November, as Lago counts."""
        calendar = a_calendar(anchor=utc(2023, 11, 16, 18, 15))
        assert days(calendar.nth(0), "UTC") == 30
        assert proration(calendar, calendar.nth(0)) == (30, 30)

    def test_the_first_calendar_period_is_a_part(self):
        """Lago's example: a plan of 50 dollars taken on 10 August costs 22 days x 50 / 31 days."""
        calendar = a_calendar(anchor=utc(2022, 8, 10, 9), billing_time=BillingTime.CALENDAR)
        assert proration(calendar, calendar.nth(0)) == (22, 31)
        assert proration(calendar, calendar.nth(1)) == (30, 30)
        assert calendar.whole(calendar.nth(0)) == Period(utc(2022, 8, 1), utc(2022, 9, 1))

    def test_the_rest_of_a_period_is_a_part(self):
        calendar = a_calendar(anchor=utc(2026, 1, 1))
        _, rest = calendar.nth(0).split(utc(2026, 1, 16))
        assert proration(calendar, rest) == (16, 31)

    def test_days_are_counted_in_the_zone(self):
        """T04: the same instants touch one day more where a midnight lies between them."""
        period = Period(utc(2024, 1, 1, 9), utc(2024, 1, 1, 11))
        assert days(period, "UTC") == 1
        assert days(period, "Pacific/Kiritimati") == 2  # 23:00 to 01:00

    def test_what_reaches_over_a_boundary_belongs_to_no_period(self):
        calendar = a_calendar(anchor=utc(2026, 1, 1))
        with pytest.raises(ValueError, match="reaches over"):
            calendar.whole(Period(utc(2026, 1, 5), utc(2026, 2, 2)))

    @given(instants, st.integers(0, 60), intervals, billing_times, zones)
    @settings(max_examples=200, deadline=None)
    def test_full_periods_are_whole_and_splits_at_midnight_share_the_days_out(
        self, anchor, n, interval, billing_time, zone
    ):
        """T03: one run equals two half runs; days of 23, 24 and 25 hours count alike."""
        calendar = BillingCalendar(anchor, interval, billing_time, zone)
        period = calendar.nth(n)
        part, whole = proration(calendar, period)
        assert 1 <= part <= whole
        if n > 0 or billing_time == BillingTime.ANNIVERSARY:
            assert part == whole
        if part > 1:
            middle = start_of_day(local_date(period.start, zone) + timedelta(days=part // 2), zone)
            before, after = period.split(middle)
            assert days(before, zone) + days(after, zone) == part
