"""Each identity can fail: the server lies in one way, and the identity that is about it says FALSE."""

from pathlib import Path

import pytest
from builders import a_trace, false_ones, play
from demo_fake_server import FakeServer

TRACE = a_trace()

# How the fake server lies, and the identities that must notice.
LIES = {
    "used_off": {"1", "2"},
    "loses_one": {"1", "1b", "7b"},
    "count_off": {"1b"},
    "units_off": {"2", "5b"},
    "shifts_units": {"2b", "5b"},
    "grant_off": {"3"},
    "no_expiry": {"3b"},
    "balance_off": {"4"},
    "total_off": {"5", "5b"},
    "price_off": {"5b"},
    "revenue_off": {"6"},
    "margin_off": {"7"},
    "cost_off": {"7b"},
    "limit_off": {"8"},
    "refuses_one": {"8b"},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_makes_its_identity_false(fake: FakeServer, tmp_path: Path, lie: str) -> None:
    fake.faults.add(lie)
    report = await play(fake, TRACE, tmp_path)
    assert false_ones(report) >= LIES[lie]
    assert not report.holds
    text = report.to_text()
    assert "FALSE" in text
    assert "instead of" in text


async def test_every_identity_is_made_false_by_some_lie(fake: FakeServer, tmp_path: Path) -> None:
    report = await play(fake, TRACE, tmp_path)
    assert {identity.number for identity in report.identities} == set().union(*LIES.values())
    assert report.holds
