"""The PostgreSQL processes of a cluster that this process did not start, as the operating system knows them.

They are known by their working directory, which PostgreSQL makes the cluster's: postmaster.pid may be left
over from a crash, and its pid may belong to anybody by now.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from nozle_server.infra.data_directory import EmbeddedPostgresError
from nozle_server.infra.postgres_place import PORT, Place

FAST_SHUTDOWN_TIMEOUT_S = 15.0
IMMEDIATE_SHUTDOWN_TIMEOUT_S = 5.0
PROCESSES = Path("/proc")
"""Where the system lists its processes; macOS has no such folder and is asked through `ps`."""

log = structlog.get_logger()


@dataclass(frozen=True)
class PidFile:
    """What a postmaster says about itself in postmaster.pid; it is written line by line while it starts."""

    pid: int
    socket_directory: str
    ready: bool

    @classmethod
    def read(cls, cluster: Path) -> "PidFile | None":
        try:
            lines = (cluster / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        lines += [""] * 8
        return cls(pid, socket_directory=lines[4], ready=lines[7].strip() == "ready")


def running_postmaster(cluster: Path) -> PidFile | None:
    """The pid file of the cluster, if the process that it names is alive and is this cluster's PostgreSQL."""
    pid_file = PidFile.read(cluster)
    if pid_file is None or not _belongs_to(pid_file.pid, cluster):
        return None
    return pid_file


def clear_leftovers(place: Place) -> None:
    """End every PostgreSQL process of the cluster, so that no second postmaster meets a first. Blocks.

    A server killed with -9 leaves a postmaster that is shutting down; a postmaster killed with -9 leaves
    sessions that keep its shared memory until they notice. Their lock files go too: PostgreSQL would take any
    process that has the pid in one by now for a postmaster.
    """
    cluster = place.cluster
    postmaster = running_postmaster(cluster)
    if postmaster is not None:
        log.info("postgres_leftover_stopping", pid=postmaster.pid, cluster=str(cluster))
        _signal([postmaster.pid], signal.SIGINT)
        _wait_until_gone(cluster, FAST_SHUTDOWN_TIMEOUT_S)
    for harder in (signal.SIGQUIT, signal.SIGKILL):
        remaining = _processes_of(cluster)
        if not remaining:
            break
        log.warning("postgres_leftover_signalled", pids=remaining, signal=harder.name, cluster=str(cluster))
        _signal(remaining, harder)
        _wait_until_gone(cluster, IMMEDIATE_SHUTDOWN_TIMEOUT_S)
    remaining = _processes_of(cluster)
    if remaining:
        raise EmbeddedPostgresError(f"PostgreSQL of {cluster} cannot be stopped (pids {remaining})")
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    (place.socket_directory / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it went by itself


def _wait_until_gone(cluster: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while _processes_of(cluster) and time.monotonic() < deadline:
        time.sleep(0.05)


def _processes_of(cluster: Path) -> list[int]:
    if PROCESSES.exists():
        pids = [int(each.name) for each in PROCESSES.iterdir() if each.name.isdigit()]
    else:
        pid_file = PidFile.read(cluster)
        pids = [pid_file.pid] if pid_file is not None else []
    return [pid for pid in pids if _belongs_to(pid, cluster)]


def _belongs_to(pid: int, cluster: Path) -> bool:
    """Whether a live process (not a zombie) is PostgreSQL at work in this cluster."""
    if not PROCESSES.exists():
        answer = subprocess.run(  # noqa: S603 - no shell, and a number for an argument
            ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 - wherever the system keeps it
            capture_output=True,
            text=True,
            check=False,
        )
        return f"postgres -D {cluster} " in answer.stdout
    process = PROCESSES / str(pid)
    try:
        return (process / "comm").read_text().strip() == "postgres" and (
            os.readlink(process / "cwd") == str(cluster)
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
