"""How a file of the bench is run: its options, a server of its own, a report, and an end that leaves nothing behind."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import uvloop

from harness import load, machine, tools
from harness.measurement import BenchError
from harness.report import Report
from harness.server import Server, serving

CONNECTIONS = (1, 16, 64)
SECONDS, MAX_SECONDS = 5, 300
SUBSCRIPTIONS, QUICK_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS = 10_000, 500, 100_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What a file measures with: a fresh server, a connection to its database, how long for each figure, and how many
    subscriptions fall due at once."""

    server: Server
    database: asyncpg.Connection
    report: Report
    seconds: int
    connections: tuple[int, ...]
    subscriptions: int


Part = Callable[[Bench], Awaitable[None]]
"""What a file of the bench does."""


def main(*parts: Part, description: str) -> None:
    """Read the command line and run the parts; the exit status is 1 when one found something that is not exact."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one object a figure, on a line of its own")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help=f"of load for each figure (default: {SECONDS})"
    )
    parser.add_argument(
        "--subscriptions",
        type=int,
        help=f"that are billed (default: {SUBSCRIPTIONS:,}; {QUICK_SUBSCRIPTIONS} if quick)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="1 second, no 64 connections, few subscriptions, install nothing"
    )
    options = parser.parse_args()
    if not 1 <= options.seconds <= MAX_SECONDS:
        parser.error(f"--seconds is 1 to {MAX_SECONDS}")
    subscriptions = options.subscriptions or (QUICK_SUBSCRIPTIONS if options.quick else SUBSCRIPTIONS)
    if not 1 <= subscriptions <= MAX_SUBSCRIPTIONS:
        parser.error(f"--subscriptions is 1 to {MAX_SUBSCRIPTIONS:,}")
    report = Report(as_json=options.json)
    seconds, connections = (1, CONNECTIONS[:-1]) if options.quick else (options.seconds, CONNECTIONS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(parts, report, seconds, connections, subscriptions, install=not options.quick))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except asyncio.CancelledError:
        sys.exit(130)
    sys.exit(1 if report.violations else 0)


async def _run(
    parts: Sequence[Part],
    report: Report,
    seconds: int,
    connections: tuple[int, ...],
    subscriptions: int,
    *,
    install: bool,
) -> None:
    _end_on_signals()
    if install:
        await tools.install_missing()
    bystanders = machine.Bystanders()
    for number, part in enumerate(parts):
        async with serving() as server:
            database = await asyncpg.connect(server.database_url)
            try:
                if number == 0:
                    for fact in machine.describe(await database.fetchval("select version()")):
                        report.say(fact)
                    report.say(f"load:       {load.generator()}, {seconds} s a figure, on the same cores")
                await part(Bench(server, database, report, seconds, connections, subscriptions))
            finally:
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    await database.close()
    share = bystanders.share()
    if share is not None:
        report.say(f"\nmeanwhile, other programs took {share:.0%} of this machine")


def _end_on_signals() -> None:
    """Ctrl-C and SIGTERM cancel this task, so that every block ends what it began."""
    current = asyncio.current_task()
    if current is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, current.cancel)
