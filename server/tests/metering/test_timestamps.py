from datetime import UTC, datetime

import pytest

from nozle_server.core.errors import InvalidInput
from nozle_server.metering.timestamps import parse_instant, parse_timestamp


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01T02:00:00+02:00", datetime(2026, 2, 1, tzinfo=UTC)),
        ("1769904000", datetime(2026, 2, 1, tzinfo=UTC)),
        ("1769904000.5", datetime(2026, 2, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_date_is_its_midnight_in_utc_beside_the_forms_of_an_instant(text: str, instant: datetime) -> None:
    assert parse_instant(text, "paid_at") == instant


@pytest.mark.parametrize("text", ["2026-02-30", "2026-2-1", "20260201T000000Z", "01/02/2026", "", None, True])
def test_what_is_no_instant_is_refused_by_its_field(text: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_instant(text, "paid_at")
    assert refused.value.details == {"paid_at": ["invalid_format"]}


def test_an_event_needs_its_instant_not_only_its_day() -> None:
    with pytest.raises(InvalidInput):
        parse_timestamp("2026-02-01")
