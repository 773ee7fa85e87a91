"""The whole demonstration against the fake server: played once or killed at every step, it ends the same."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from builders import a_trace, false_ones, play
from demo_fake_server import KEY, FakeServer

from nozle_demo.client import Api
from nozle_demo.demonstration import demonstrate
from nozle_demo.errors import RefusedError, ServerGoneError, UsageError
from nozle_demo.progress import Silence
from nozle_demo.report import Report
from nozle_demo.state import StateDirectory

TRACE = a_trace()
_STEPS = ("POST /api/v1/events", "POST /api/v1/check-and-deduct", "POST /api/v1/test-clock")


def essence(report: Report) -> dict[str, object]:
    """What must not depend on how often the run was interrupted."""
    fields = report.to_json()
    return {key: value for key, value in fields.items() if key not in ("speed", "allowed")}


async def test_plays_everything_and_all_identities_hold(fake: FakeServer, tmp_path: Path) -> None:
    report = await play(fake, TRACE, tmp_path)
    assert false_ones(report) == set()
    fields = report.to_json()
    assert fields["requests_read"] == 160
    assert fields["denied"].keys() == {"limit_exceeded"}
    assert len(fake.events) == fields["events_stored"] == sum(fields["allowed"].values())
    assert fields["credits"]["spent"] + fields["credits"]["left"] == 6_400
    assert any(event["properties"].get("paid_by") == "credits" for event in fake.events.values())


async def test_the_clock_moves_once_a_second_and_before_its_calls(fake: FakeServer, tmp_path: Path) -> None:
    await play(fake, TRACE, tmp_path)
    calls = [line for line in fake.log if line.startswith(_STEPS)]
    assert calls.count("POST /api/v1/test-clock") == len(list(TRACE.seconds())) + 1
    assert calls[0] == calls[-1] == "POST /api/v1/test-clock"


async def test_amounts_are_sent_exactly(fake: FakeServer, tmp_path: Path) -> None:
    bodies: list[bytes] = []
    fake.fail_next = lambda line, body: bodies.append(body) or "" if "deduct" in line else ""
    await play(fake, a_trace(40, tokens=1_417), tmp_path)
    assert bodies
    assert all(len(str(json.loads(body, parse_float=str)["credits"]).split(".")[-1]) <= 3 for body in bodies)


async def test_killed_before_and_after_every_step_it_comes_to_the_same(tmp_path: Path) -> None:
    """The server dies before and after each effect; the journal loses a random end each time."""
    from demo_fake_server import serving

    straight, killed = FakeServer(), FakeServer()
    seen: Counter[tuple[str, bytes]] = Counter()

    def fail_next(line: str, body: bytes) -> str:
        if not line.startswith(_STEPS) and len(seen) > 3:
            return ""
        if not line.startswith("POST"):
            return ""
        seen[line, body] += 1
        return {1: "before", 2: "after"}.get(seen[line, body], "")

    killed.fail_next = fail_next
    source = random.Random(7)
    async with serving(straight), serving(killed):
        expected = essence(await play(straight, TRACE, tmp_path / "straight"))
        runs = 0
        while True:
            runs += 1
            try:
                report = await play(killed, TRACE, tmp_path / "killed")
                break
            except ServerGoneError:
                # Once the closing is recorded the journal is on the disk.
                if not (tmp_path / "killed" / "closing.json").exists():
                    tear_journal(tmp_path / "killed", source)
            assert runs < 1_000
    assert runs > 50
    assert essence(report) == expected
    assert killed.events == straight.events
    assert report.holds


def tear_journal(directory: Path, source: random.Random) -> None:
    """What a kill -9 of the demonstration leaves: the last lines are missing, one may be torn."""
    for path in directory.glob("journal-*.jsonl"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - source.randrange(min(len(data), 300))])


async def test_a_lost_journal_costs_only_time(fake: FakeServer, tmp_path: Path) -> None:
    stop = {"at": 130}

    def fail_next(line: str, _body: bytes) -> str:
        stop["at"] -= line.startswith("POST /api/v1/events")
        return "before" if stop["at"] == 100 else ""

    fake.fail_next = fail_next
    with pytest.raises(ServerGoneError):
        await play(fake, TRACE, tmp_path)
    (tmp_path / f"journal-{TRACE.key}.jsonl").unlink()
    stored = len(fake.events)
    fake.log.clear()
    report = await play(fake, TRACE, tmp_path)
    assert report.holds
    assert fake.log.count("POST /api/v1/events") == len(fake.events) - stored


async def test_going_on_asks_only_for_the_rows_that_may_have_been_sent(
    fake: FakeServer, tmp_path: Path
) -> None:
    fake.fail_next = lambda line, _body: "after" if len(fake.events) == 20 and "events" in line else ""
    with pytest.raises(ServerGoneError):
        await play(fake, TRACE, tmp_path)
    fake.fail_next = lambda _line, _body: ""
    fake.log.clear()
    assert (await play(fake, TRACE, tmp_path)).holds
    asked = [line for line in fake.log if line.startswith("GET /core/api/v1/events/")]
    assert 1 < len(asked) <= 1 + 4


async def test_a_finished_demonstration_is_reported_again_without_a_call_that_changes(
    fake: FakeServer, tmp_path: Path
) -> None:
    first = await play(fake, TRACE, tmp_path)
    fake.log.clear()
    again = await play(fake, TRACE, tmp_path)
    assert essence(again) == essence(first)
    assert all(line.startswith("GET") for line in fake.log)


async def test_a_busy_server_is_asked_again(fake: FakeServer, tmp_path: Path) -> None:
    seen: Counter[tuple[str, bytes]] = Counter()

    def fail_next(line: str, body: bytes) -> str:
        seen[line, body] += 1
        return "busy" if line.startswith("POST") and seen[line, body] == 1 else ""

    fake.fail_next = fail_next
    state = StateDirectory(tmp_path)
    async with Api(fake.url, KEY, pauses_s=()) as api:
        report = await demonstrate(api, a_trace(12), state, Silence())
    state.close()
    assert report.holds


async def test_refuses_an_organization_whose_time_went_on_without_this_trace(
    fake: FakeServer, tmp_path: Path
) -> None:
    await play(fake, TRACE, tmp_path / "one")
    with pytest.raises(UsageError, match="fresh NOZLE_DATA_DIR"):
        await play(fake, a_trace(20), tmp_path / "two")


async def test_others_in_the_organization_do_not_disturb_the_totals(fake: FakeServer, tmp_path: Path) -> None:
    """The newcomer tries the README's curl lines while the demonstration plays."""
    from demo_fake_server import FakeCustomer

    event = {"timestamp": "2024-03-05T10:00:01Z", "properties": {"input_tokens": 5, "output_tokens": 5}}
    event["properties"] |= {"model": "gpt-4o"}  # type: ignore[operator]
    fake.customers["stranger"] = FakeCustomer(plan="scale", events=[event])
    report = await play(fake, TRACE, tmp_path)
    assert report.holds
    assert "stranger" in report.to_text()


async def test_a_wrong_key_and_a_refused_call_say_so(fake: FakeServer, tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    async with Api(fake.url, "sk_test_wrong") as api:
        with pytest.raises(UsageError, match="does not accept the key"):
            await demonstrate(api, TRACE, state, Silence())
    async with Api(fake.url, KEY) as api:
        with pytest.raises(RefusedError, match="404"):
            await api.get("/nowhere")
    state.close()
