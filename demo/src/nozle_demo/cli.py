"""`nozle-demo`: play a trace against a running server and check what comes out; `nozle-demo life`: the second act.

Exit codes: 0 all identities hold; 1 one is false, or the server refused a call; 2 bad usage or an
unreadable trace; 3 the server went away, start again and it goes on; 130 interrupted, likewise.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from nozle_demo import exact
from nozle_demo.client import Api
from nozle_demo.demonstration import demonstrate
from nozle_demo.errors import DemoError, ServerGoneError, UsageError
from nozle_demo.generator import generate_trace
from nozle_demo.life.life import live_through
from nozle_demo.life.report import LifeReport
from nozle_demo.progress import make_progress
from nozle_demo.report import Report
from nozle_demo.state import StateDirectory
from nozle_demo.trace import Trace, read_trace

_INTERRUPTED = 130
_REPLAY, _LIFE = "replay", "life"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ServerGoneError as error:
        print(f"nozle-demo: {error}; start again and it goes on from here", file=sys.stderr)
        return error.exit_code
    except DemoError as error:
        print(f"nozle-demo: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("nozle-demo: interrupted; start again and it goes on from here", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    env = os.environ
    parser = argparse.ArgumentParser(
        prog="nozle-demo",
        description="Play an hour of LLM traffic against a running Nozle server, and check every total.",
        epilog="A trace is a file of TIMESTAMP,ContextTokens,GeneratedTokens, as Azure publishes them.",
    )
    parser.add_argument(
        "act",
        nargs="?",
        choices=(_REPLAY, _LIFE),
        default=_REPLAY,
        help="the traffic of a trace, or two months in the life of six customers (%(default)s)",
    )
    parser.add_argument("--url", default=env.get("NOZLE_URL"), help="the server's address (NOZLE_URL)")
    parser.add_argument(
        "--secret-key",
        default=env.get("NOZLE_SECRET_KEY"),
        help="an sk_test_ key of a test-mode organization; better given as NOZLE_SECRET_KEY",
    )
    parser.add_argument(
        "--trace",
        default=env.get("TRACE") or None,
        metavar="FILE",
        help="a trace (TRACE); default: built-in traffic",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path(".nozle/demo"),
        metavar="DIR",
        help="journal and record (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too, as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    if not options.url or not options.secret_key:
        raise UsageError(
            "an address and a secret key are needed: --url and --secret-key, or source dev.env first"
        )
    return _run_life(options) if options.act == _LIFE else _run_replay(options)


def _run_replay(options: argparse.Namespace) -> int:
    state = StateDirectory(options.state_dir)
    try:
        if state.finished() and options.trace is None:
            return _show_recorded(state, options.json)
        trace = _choose_trace(state, Path(options.trace) if options.trace else None)
        report = asyncio.run(_play(options, trace, state))
        return _finish(report, state, options.json)
    finally:
        state.close()


def _run_life(options: argparse.Namespace) -> int:
    _require_replay_is_over(options.state_dir)
    state = StateDirectory(options.state_dir / _LIFE)
    try:
        if state.finished():
            return _show_recorded(state, options.json)
        print("Six customers live through two months", file=sys.stderr)
        report = asyncio.run(_live(options, state))
        state.record_finished({"identities_hold": report.holds}, report.to_text(), report.to_json())
        print(report.to_text(), end="")
        if options.json is not None:
            _write_json(options.json, exact.dumps(report.to_json()) + "\n")
        return 0 if report.holds else 1
    finally:
        state.close()


def _require_replay_is_over(directory: Path) -> None:
    """A life turns the clock on by months, and a replay that is not over could not go on."""
    if (directory / "begun.json").exists() and not (directory / "finished.json").exists():
        raise UsageError(f"the replay in {directory} is not finished: run nozle-demo first")


async def _live(options: argparse.Namespace, state: StateDirectory) -> LifeReport:
    _end_on_sigterm()
    async with Api(options.url, options.secret_key) as api:
        return await live_through(api, state.path)


def _choose_trace(state: StateDirectory, path: Path | None) -> Trace:
    """The trace that was asked for, or else the begun one; a data directory sees one trace only."""
    begun = state.begun()
    if path is None and begun is not None and begun.path is not None:
        path = begun.path
        print(f"Going on with the demonstration of {path}", file=sys.stderr)
    trace = generate_trace() if path is None else read_trace(path)
    if begun is not None and begun.sha256 != trace.sha256:
        word = "finished" if state.finished() else "begun"
        raise UsageError(
            f"a demonstration of {begun.name} is {word} in this data directory ({state.path}), and the "
            f"organization's clock stands beyond: to play {trace.name}, a fresh NOZLE_DATA_DIR is needed"
        )
    return trace


async def _play(options: argparse.Namespace, trace: Trace, state: StateDirectory) -> Report:
    _end_on_sigterm()
    async with Api(options.url, options.secret_key) as api:
        return await demonstrate(api, trace, state, make_progress())


def _end_on_sigterm() -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _finish(report: Report, state: StateDirectory, json_path: Path | None) -> int:
    text, fields = report.to_text(), report.to_json()
    finished = {
        "trace": fields["trace"],
        "requests": fields["requests_read"],
        "speed": report.speed,
        "identities_hold": report.holds,
    }
    state.record_finished(finished, text, fields)
    print(text, end="")
    if json_path is not None:
        _write_json(json_path, exact.dumps(fields) + "\n")
    return 0 if report.holds else 1


def _show_recorded(state: StateDirectory, json_path: Path | None) -> int:
    print("A demonstration is finished in this data directory; this is its report.", file=sys.stderr)
    print(state.report_text(), end="")
    if json_path is not None:
        _write_json(json_path, (state.path / "report.json").read_text(encoding="utf-8"))
    finished = state.finished()
    return 0 if finished and finished["identities_hold"] else 1


def _write_json(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


if __name__ == "__main__":
    raise SystemExit(main())
