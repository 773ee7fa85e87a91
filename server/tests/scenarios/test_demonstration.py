"""A newcomer's `make run`, as real processes on the embedded database: killed in the middle of either act, started again,
and checked to the last digit; then every event is sent a second time."""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.database, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-c", "from nozle_server.cli import main; main()", "dev")
ROWS = 400
KILLED_AFTER_ROWS = 150
KILLED_AFTER_STEPS = 5
# How long any single wait may take before the test is called stuck.
PATIENCE_S = 80


def write_trace(path: Path) -> None:
    """400 requests within a minute, CRLF, no end to the last line; large enough for limits and credits to run out."""
    source = random.Random(20231116)
    start = datetime(2025, 1, 15, 9, 0)  # noqa: DTZ001  # the form of the trace has no zone; it is UTC
    arrivals = sorted(source.randrange(60 * 10_000_000) for _ in range(ROWS))
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for ticks in arrivals:
        instant = start + timedelta(seconds=ticks // 10_000_000)
        tokens = source.randint(8_000, 60_000), source.randint(0, 9_000)
        rows.append(f"{instant:%Y-%m-%d %H:%M:%S}.{ticks % 10_000_000:07},{tokens[0]},{tokens[1]}")
    path.write_bytes("\r\n".join(rows).encode())


@dataclass
class Run:
    """One `nozle-server dev`; what it and the demonstration print goes to a file."""

    process: asyncio.subprocess.Process
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    async def until(self, there: Callable[[], bool], what: str) -> None:
        """Wait until it is so; fails when the process ends before, or with what it printed when it never is."""
        async with asyncio.timeout(PATIENCE_S):
            while not there():
                assert self.process.returncode is None, f"ended before {what}:\n{self.text}"
                await asyncio.sleep(0.02)  # a file of another process gives no event to await

    async def end(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


class Newcomer:
    """Someone who types `make run` in a checkout, with a data directory of their own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.trace = folder / "trace.csv"
        self._folder, self._runs = folder, 0
        self.running: list[Run] = []

    async def run(self) -> Run:
        self._runs += 1
        output = self._folder / f"run{self._runs}.txt"
        environment = {**os.environ, "NOZLE_DATA_DIR": str(self.data), "PORT": "0", "TRACE": str(self.trace)}
        for name in ("DATABASE_URL", "DEMO", "NOZLE_URL", "NOZLE_SECRET_KEY", "NOZLE_ORGANIZATION_ID"):
            environment.pop(name, None)
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, cwd=ROOT, env=environment, stdout=file, stderr=file
            )
        run = Run(process, output)
        self.running.append(run)
        return run

    def rows_played(self) -> int:
        """Rows in the journal; its first line names the trace."""
        return sum(
            path.read_bytes().count(b"\n") - 1 for path in (self.data / "demo").glob("journal-*.jsonl")
        )

    def steps_lived(self) -> int:
        """Steps in the journal of the second act; its first line tells when it began."""
        path = self.life / "life.jsonl"
        return path.read_bytes().count(b"\n") - 1 if path.exists() else 0

    @property
    def life(self) -> Path:
        return self.data / "demo" / "life"

    def finished(self) -> dict[str, Any] | None:
        path = self.data / "demo" / "finished.json"
        return json.loads(path.read_text()) if path.exists() else None

    def keys(self) -> dict[str, str]:
        """What `source dev.env` sets."""
        lines = (self.data / "dev.env").read_text().splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def database(self) -> Path:
        """Where the embedded database lies: in the data directory, or outside of it for root."""
        return Path(json.loads((self.data / "postgres.json").read_text())["cluster"])

    def database_processes(self) -> list[int]:
        """Processes of PostgreSQL whose working directory is this database."""
        found, database = [], self.database()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").readlink() == database:
                    found.append(int(entry.name))
        return found

    def remove_database(self) -> None:
        """Root's lies below /var/lib/nozle, where pytest does not tidy up."""
        with suppress(OSError):
            place = self.database().parent
            if not place.is_relative_to(self.data):
                shutil.rmtree(place, ignore_errors=True)
                place.with_suffix(".lock").unlink(missing_ok=True)


@dataclass(frozen=True)
class Api:
    """The server as a program of the newcomer's sees it."""

    url: str
    key: str

    def exchange(self, method: str, path: str, body: object = None) -> tuple[int, bytes, bool]:
        """Status, bytes, and whether it was a replay."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers.get("Idempotent-Replayed") == "true"
        except urllib.error.HTTPError as error:
            return error.code, error.read(), False

    def get(self, path: str) -> bytes:
        status, body, _ = self.exchange("GET", path)
        assert status == 200, (path, body)
        return body

    def events(self) -> list[dict[str, Any]]:
        """All stored events, page by page."""
        found: list[dict[str, Any]] = []
        page: int | None = 1
        while page is not None:
            answer = json.loads(self.get(f"/core/api/v1/events?per_page=100&page={page}"))
            found += answer["events"]
            page = answer["meta"]["next_page"]
        return found

    def totals(self, customers: list[str]) -> dict[str, bytes]:
        """Everything that a second sending must not move, as bytes."""
        paths = ["/api/v1/margin/summary?from=2025-01-01&to=2025-03-31", "/core/api/v1/events?per_page=1"]
        for customer in map(quote, customers):
            paths.append(f"/api/v1/credits/{customer}/transactions?limit=100")
            paths.append(f"/api/v1/invoices?customer_id={customer}")
        return {path: without_links(self.get(path)) for path in paths} | {
            # A balance tells when it was read; nothing else in it may differ.
            f"balance of {customer}": re.sub(
                rb'"as_of":"[^"]*"', b"", self.get(f"/api/v1/credits/{quote(customer)}/balance")
            )
            for customer in customers
        }


def without_links(body: bytes) -> bytes:
    """A link to a PDF is signed anew, with a later end, whenever it is shown."""
    return re.sub(rb'"(pdf_url|file_url)":"[^"]*"', b"", body)


@pytest.fixture
async def newcomer(tmp_path: Path) -> AsyncIterator[Newcomer]:
    newcomer = Newcomer(tmp_path)
    write_trace(newcomer.trace)
    yield newcomer
    for run in newcomer.running:
        if run.process.returncode is None:
            run.process.terminate()
            await run.end()
    newcomer.remove_database()


async def test_a_killed_demonstration_goes_on_and_every_total_is_exact(newcomer: Newcomer) -> None:
    """I04, K01-K03, I01: kill -9 in the middle of the replay and of the life after it, the same command again, all
    identities true; a second server refuses; all events sent again change nothing; SIGTERM leaves no process behind."""
    first = await newcomer.run()
    await first.until(lambda: newcomer.rows_played() >= KILLED_AFTER_ROWS, "the middle of the trace")
    first.process.kill()
    assert await first.end() == -signal.SIGKILL
    assert KILLED_AFTER_ROWS <= newcomer.rows_played() < ROWS
    assert newcomer.finished() is None

    second = await newcomer.run()
    await second.until(lambda: newcomer.steps_lived() >= KILLED_AFTER_STEPS, "the middle of the second act")
    second.process.kill()
    assert await second.end() == -signal.SIGKILL
    finished = newcomer.finished()
    assert finished is not None, second.text
    assert (finished["requests"], finished["identities_hold"]) == (ROWS, True), second.text
    assert finished["speed"]["requests"] < ROWS, "it began from the start"
    assert_all_hold(newcomer.data / "demo", second)
    assert not (newcomer.life / "finished.json").exists()
    lived = (newcomer.life / "life.jsonl").read_bytes()

    third = await newcomer.run()
    await third.until(lambda: "until Ctrl-C" in third.text, "the end of the demonstration")
    assert_all_hold(newcomer.data / "demo", third)
    assert_all_hold(newcomer.life, third)
    assert (newcomer.life / "life.jsonl").read_bytes().startswith(lived), "it began from the start"
    [pdf] = newcomer.life.glob("*.pdf")
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert str(pdf) in third.text

    env_file = newcomer.data / "dev.env"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    keys = newcomer.keys()
    assert set(keys) == {
        "NOZLE_URL",
        "NOZLE_SECRET_KEY",
        "NOZLE_PUBLISHABLE_KEY",
        "NOZLE_ORGANIZATION_ID",
    }

    fourth = await newcomer.run()
    assert await fourth.end() == 1
    assert fourth.text.count("\n") == 1, fourth.text
    assert newcomer.keys() == keys

    await asyncio.to_thread(_send_everything_again, Api(keys["NOZLE_URL"], keys["NOZLE_SECRET_KEY"]))

    assert newcomer.database_processes(), "the search finds no database, so it would prove nothing below"
    third.process.send_signal(signal.SIGTERM)
    assert await third.end() == 0, third.text
    assert newcomer.database_processes() == []


def assert_all_hold(folder: Path, run: Run) -> None:
    """The report in this folder has identities, and all are true."""
    report = json.loads((folder / "report.json").read_text())
    assert report["identities"], report
    assert all(one["holds"] for one in report["identities"]), run.text


def _send_everything_again(api: Api) -> None:
    """I01: a replay of everything is told as one and moves nothing; other content under a known id is a 409."""
    events = api.events()
    played = [event for event in events if not event["transaction_id"].startswith("life-")]
    assert 200 < len(played) < ROWS, "the trace should have met limits: some calls denied, most stored"
    assert len(played) < len(events), "the second act has events too"
    customers = sorted({event["external_customer_id"] for event in events})
    statuses = {event["billing_status"] for event in played}
    assert statuses == {"counted"}
    paid = sum(event["properties"].get("paid_by") == "credits" for event in played)
    assert paid, "no call was paid by credits"
    before = api.totals(customers)
    again = [
        {
            "transaction_id": event["transaction_id"],
            "customer_id": event["external_customer_id"],
            "code": event["code"],
            "properties": event["properties"],
        }
        for event in events
    ]
    for start in range(0, len(again), 150):
        status, body, _ = api.exchange("POST", "/api/v1/events/batch", {"events": again[start : start + 150]})
        assert status == 200
        assert {row["status"] for row in json.loads(body)["events"]} == {"replayed"}
    for event in again[::10]:
        status, body, replayed = api.exchange("POST", "/api/v1/events", event)
        assert (status, replayed) == (200, True), body
    other = {**again[0], "properties": {**again[0]["properties"], "input_tokens": 1}}
    status, body, _ = api.exchange("POST", "/api/v1/events", other)
    assert (status, json.loads(body)["code"]) == (409, "transaction_id_conflict")
    status, body, _ = api.exchange("POST", "/api/v1/events/batch", {"events": [other, again[1]]})
    assert [row["status"] for row in json.loads(body)["events"]] == ["error", "replayed"]
    assert api.totals(customers) == before
    assert api.events() == events
