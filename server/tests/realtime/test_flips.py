"""What is told at once, what within a second, and what not at all (contract 5.3)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nozle_server.realtime.flips import Told, Urgency, urgency

NOW = datetime(2026, 1, 15, tzinfo=UTC)


def told(used: str = "0", *, limit: str | None = "100", after_s: float = 0, **more: object) -> Told:
    return Told(
        **{  # type: ignore[arg-type]
            "allowed": True,
            "reason": "within_limit",
            "used": Decimal(used),
            "limit": None if limit is None else Decimal(limit),
            "remaining": None,
            "told_at": NOW + timedelta(seconds=after_s),
            **more,
        }
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, told(), Urgency.NOW),
        (told(), told(), Urgency.NOTHING),
        (told(), told(after_s=60), Urgency.NOTHING),
        (told(), told(allowed=False), Urgency.NOW),
        (told(), told(reason="overage"), Urgency.NOW),
        (told(), told(limit="200"), Urgency.NOW),
        (told(), told(limit=None), Urgency.NOW),
        (told("1"), told("2", after_s=0.5), Urgency.SOON),
        (told("1"), told("2", after_s=1), Urgency.NOW),
        (told("79"), told("80", after_s=0.1), Urgency.NOW),
        (told("80"), told("94", after_s=0.1), Urgency.SOON),
        (told("94"), told("95", after_s=0.1), Urgency.NOW),
        (told("99"), told("100", after_s=0.1), Urgency.NOW),
        (told("100"), told("0", after_s=0.1), Urgency.NOW),
        (told("1", limit=None), told("9999", limit=None, after_s=0.1), Urgency.SOON),
        (told("0", limit="0"), told("1", limit="0", after_s=0.1), Urgency.SOON),
    ],
)
def test_urgency(before: Told | None, after: Told, expected: Urgency) -> None:
    assert urgency(before, after) is expected
