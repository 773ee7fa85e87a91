"""Windows of budgets: every instant is in exactly one of each kind, wherever the customer's clock hangs."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.credits.budgets import ALWAYS, window_of
from nozle_server.credits.model import BudgetInterval

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Apia",
]
MINUTE = timedelta(minutes=1)

minutes = st.integers(0, 40 * 365 * 24 * 60).map(lambda n: datetime(2000, 1, 1, tzinfo=UTC) + n * MINUTE)


@given(minutes, st.sampled_from(ZONES), st.sampled_from(["hour", "day", "month"]))
def test_windows_touch_and_never_overlap(minute: datetime, zone: str, interval: str) -> None:
    kind = BudgetInterval(interval)
    start, end = window_of(kind, minute, zone)
    assert end is not None
    assert start <= minute < end
    assert window_of(kind, start, zone) == window_of(kind, end - MINUTE, zone) == (start, end)
    assert window_of(kind, end, zone)[0] == end
    local = start.astimezone(ZoneInfo(zone))
    assert local.minute == 0 or interval == "hour"
    assert interval != "month" or local.day == 1


@given(minutes, st.sampled_from(ZONES))
def test_a_run_has_one_window_without_an_end(minute: datetime, zone: str) -> None:
    assert window_of(BudgetInterval.RUN, minute, zone) == (ALWAYS, None)


@pytest.mark.parametrize(
    ("interval", "at", "start", "end"),
    [
        # The clock goes forward and back: a day has 23 and 25 hours, an hour that comes twice is two hours.
        ("day", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("day", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("hour", "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("hour", "2026-10-25T01:30", "2026-10-25T01:00", "2026-10-25T02:00"),
        ("month", "2026-10-01T00:00", "2026-09-30T22:00", "2026-10-31T23:00"),
    ],
)
def test_windows_when_the_clock_changes(interval: str, at: str, start: str, end: str) -> None:
    found = window_of(BudgetInterval(interval), instant(at), "Europe/Berlin")
    assert found == (instant(start), instant(end))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
