"""One PostgreSQL server process (its "postmaster"), as a child of this process.

- It dies with the thread that forked it (PR_SET_PDEATHSIG, on Linux): fork from the main thread.
- It leads a session of its own, so Ctrl-C reaches our server first, which then stops it in its own time.
- SIGINT is PostgreSQL's fast shutdown (clean), SIGQUIT its immediate one (recovery at the next start).
"""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import asyncpg

from nozle_server.infra.child_process import dying_with_this_process
from nozle_server.infra.data_directory import EmbeddedPostgresError
from nozle_server.infra.postgres_binaries import PostgresBinaries, program_environment
from nozle_server.infra.postgres_place import DATABASE, PORT, Place
from nozle_server.infra.postgres_processes import (
    FAST_SHUTDOWN_TIMEOUT_S,
    IMMEDIATE_SHUTDOWN_TIMEOUT_S,
    PidFile,
)

READY_TIMEOUT_S = 300.0
"""Recovery after a crash replays up to max_wal_size (1 GB); only a hang takes this long."""
ANSWER_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.02
LOG_ROTATED_AT_BYTES = 10_000_000


class Postmaster:
    """A PostgreSQL server, forked by the constructor; `wait_until_ready` tells when it answers."""

    def __init__(self, binaries: PostgresBinaries, place: Place, log_file: Path, *, connections: int) -> None:
        self._place = place
        self._log_file = log_file
        output = _open_log(log_file)
        self._log_start = os.fstat(output).st_size
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a program found by us, no shell
                [
                    binaries.program("postgres"),
                    *("-D", str(place.cluster)),
                    *("-c", "listen_addresses="),
                    *("-c", f"port={PORT}"),
                    *("-c", f"max_connections={connections}"),
                    *("-c", f"unix_socket_directories={place.socket_directory}"),
                    *("-c", "unix_socket_permissions=0700"),
                ],
                cwd=place.cluster,
                env=program_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dying_with_this_process(signal.SIGINT),
                **place.account.launch_options(),
            )
        finally:
            os.close(output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it lives. Asking also reaps it, so that it never stays a zombie."""
        return self._process.poll()

    async def wait_until_ready(self) -> None:
        """Return once our database answers; raise with PostgreSQL's own reason if it will not."""
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while not await self._answers():
            if self.exit_status is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start: {self._last_words()} (log: {self._log_file})"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL does not answer (log: {self._log_file})")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def stop(self) -> None:
        """End it in order, by force if that takes too long; harmless when it has ended."""
        for number, timeout_s in (
            (signal.SIGINT, FAST_SHUTDOWN_TIMEOUT_S),
            (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT_S),
            (signal.SIGKILL, IMMEDIATE_SHUTDOWN_TIMEOUT_S),
        ):
            self._process.send_signal(number)  # does nothing once it is reaped
            for _ in range(round(timeout_s / POLL_INTERVAL_S)):
                if self.exit_status is not None:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _answers(self) -> bool:
        pid_file = PidFile.read(self._place.cluster)
        if pid_file is None or pid_file.pid != self.pid:  # not written yet, or left over from another process
            return False
        try:
            await self._execute("select 1", DATABASE)
        except asyncpg.InvalidCatalogNameError:
            await self._execute(f"create database {DATABASE}", "postgres")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # no socket yet, or still in recovery
        return True

    async def _execute(self, statement: str, database: str) -> None:
        connection = await asyncpg.connect(
            **self._place.connect_arguments(database),
            timeout=ANSWER_TIMEOUT_S,
            command_timeout=READY_TIMEOUT_S,
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _last_words(self) -> str:
        with self._log_file.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read(64_000).decode(errors="replace").strip().splitlines()
        severe = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
        return (severe or lines or [f"it ended with status {self.exit_status}"])[-1]


def _open_log(path: Path) -> int:
    """Open the log for appending; one that has grown large becomes `postgres.log.1` first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    if path.exists() and path.stat().st_size > LOG_ROTATED_AT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, flags, 0o600)
