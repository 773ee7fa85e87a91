"""Forks `nozle-server` processes from one that has imported it already: a start takes a fraction of a second instead of
several. What is forked is a process of its own (session, descriptors, environment) that runs the command's `main()`.

Reads a line of JSON for each process wanted: {"arguments", "environment", "output"}; answers {"pid"}, and when a process
has ended {"pid", "status"} (negative: the signal that ended it). When nobody is left to ask, it ends what it started.
"""

import asyncio
import json
import os
import select
import signal
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from shifted import ShiftedClock

from nozle_server import cli
from nozle_server.cli import program  # noqa: F401 - read here once, not in every process
from nozle_server.core.clock import SystemClock
from nozle_server.infra.change_bus import PostgresChangeBus
from nozle_server.infra.job_queue import JobQueue


def main() -> None:
    """Until standard input ends."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: set[int] = set()
    pending = b""
    _say(ready=True)
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _reap(running)
        if 0 in readable:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                pid = _fork(**json.loads(line))
                running.add(pid)
                _say(pid=pid)
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reap(running: set[int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            running.discard(pid)
            _say(pid=pid, status=os.waitstatus_to_exitcode(status))


def _fork(*, arguments: list[str], environment: dict[str, str], output: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, descriptor in ((0, nothing), (1, written), (2, written)):
            os.dup2(descriptor, number)
        os.closerange(3, 256)
        os.environ.clear()
        os.environ.update(environment)
        _adapt(environment)
        sys.argv = ["nozle-server", *arguments]
        cli.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may get out of here into the parent's code
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _adapt(environment: dict[str, str]) -> None:
    """What a test may want of a server that no setting gives."""
    if "CHAOS_CLOCK" in environment:
        clock = ShiftedClock(Path(environment["CHAOS_CLOCK"]))
        SystemClock.now = lambda _: clock.now()  # type: ignore[method-assign]
    if "CHAOS_DEAF" in environment:
        PostgresChangeBus.run = lambda _: asyncio.sleep(1e9)  # type: ignore[method-assign]
    if "CHAOS_LEASE_S" in environment:
        lease = timedelta(seconds=float(environment["CHAOS_LEASE_S"]))
        JobQueue.__init__.__kwdefaults__["lease"] = lease  # type: ignore[index]


def _say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main()
