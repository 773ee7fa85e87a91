"""The command: exit codes, the finished record, and one clear line for what is wrong."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_trace_text
from demo_fake_server import KEY, FakeServer, serving

from nozle_demo.cli import main


@pytest.fixture
def served() -> Iterator[FakeServer]:
    """The fake server in a thread of its own, as main() runs its own loop."""
    server, ready, loop = FakeServer(), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(server):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield server
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACE", "NOZLE_URL", "NOZLE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


def run(url: str, directory: Path, *more: str) -> int:
    return main(["--url", url, "--secret-key", KEY, "--state-dir", str(directory / "state"), *more])


def a_file(directory: Path, rows: int = 30) -> str:
    path = directory / f"trace-{rows}.csv"
    path.write_bytes(a_trace_text(rows).encode())
    return str(path)


def test_plays_reports_and_records(
    served: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = a_file(tmp_path)
    assert run(served.url, tmp_path, "--trace", trace, "--json", str(tmp_path / "report.json")) == 0
    first = capsys.readouterr()
    assert "All 14 identities are true." in first.out
    assert max(map(len, first.out.splitlines())) <= 100
    assert "Playing: 100 %" in first.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["requests_read"] == 30
    assert report["identities_hold"] is True
    # The same trace again: from the server and the trace; no trace: the record.
    assert run(served.url, tmp_path, "--trace", trace) == 0
    assert capsys.readouterr().out == first.out
    assert run("http://127.0.0.1:9", tmp_path) == 0
    assert capsys.readouterr().out == first.out
    # Another trace finds the time of this organization used up.
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path, 31)) == 2
    assert "a fresh NOZLE_DATA_DIR is needed" in capsys.readouterr().err


def test_a_false_identity_is_1(served: FakeServer, tmp_path: Path) -> None:
    served.faults.add("margin_off")
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path)) == 1
    assert run(served.url, tmp_path) == 1


def test_bad_usage_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--state-dir", str(tmp_path)]) == 2
    assert run("nowhere", tmp_path, "--trace", a_file(tmp_path)) == 2
    (tmp_path / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,1,2\n")
    assert run("http://127.0.0.1:9", tmp_path, "--trace", str(tmp_path / "bad.csv")) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3
    assert "line 2" in errors[2]
    with pytest.raises(SystemExit) as refused:
        main(["--nonsense"])
    assert refused.value.code == 2


def test_a_server_that_is_away_is_3_and_another_trace_may_still_be_chosen(
    served: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("http://127.0.0.1:9", tmp_path, "--trace", a_file(tmp_path)) == 3
    assert "start again and it goes on" in capsys.readouterr().err
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path, 20)) == 0


def test_without_a_trace_it_goes_on_with_the_begun_one(
    served: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fail_next = lambda line, _body: "after" if len(served.events) > 9 and "events" in line else ""
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path)) == 3
    served.fail_next = lambda _line, _body: ""
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path, 31)) == 2
    capsys.readouterr()
    assert run(served.url, tmp_path) == 0
    said = capsys.readouterr()
    assert "Going on with the demonstration of" in said.err
    assert "were played before" in said.err


def test_two_at_once_in_one_directory_are_refused(
    served: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nozle_demo.state import StateDirectory

    held = StateDirectory(tmp_path / "state")
    assert run(served.url, tmp_path, "--trace", a_file(tmp_path)) == 2
    assert "another demonstration is running" in capsys.readouterr().err
    held.close()
