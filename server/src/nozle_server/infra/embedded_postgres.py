"""A PostgreSQL of our own for a server that was given no DATABASE_URL: made, started, watched, stopped.

    with DataDirectory(path) as data_directory:
        postgres = EmbeddedPostgres(data_directory)
        await postgres.start()
        watcher = asyncio.create_task(postgres.supervise())
        ...
        watcher.cancel()
        await postgres.stop()

It listens on a Unix socket that only its user and root can open, never on TCP, and keeps PostgreSQL's
default durability. Neighbours hold the parts: `data_directory` the lock, `postgres_account` the user,
`postgres_place` the folders, `postgres_binaries` the programs, `postgres_cluster` the making of a database,
`postgres_processes` what an earlier run left behind, `postmaster` the child process.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from nozle_server.infra import postgres_place
from nozle_server.infra.data_directory import DataDirectory, DataDirectoryInUse, EmbeddedPostgresError, hold
from nozle_server.infra.postgres_binaries import PostgresBinaries, find_binaries
from nozle_server.infra.postgres_cluster import initialise, major_of, set_aside
from nozle_server.infra.postgres_place import ConnectArguments, Place, connection_url, is_cluster
from nozle_server.infra.postgres_processes import clear_leftovers, running_postmaster
from nozle_server.infra.postmaster import Postmaster

__all__ = [
    "ConnectArguments",
    "DataDirectory",
    "DataDirectoryInUse",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "find_running",
]

WATCH_INTERVAL_S = 0.25
LONGEST_RETRY_DELAY_S = 5.0
FEWEST_CONNECTIONS = 100  # PostgreSQL's default

T = TypeVar("T")

log = structlog.get_logger()


class EmbeddedPostgres:
    """The PostgreSQL of a data directory that the caller holds locked."""

    notice: str | None
    """After start(): a sentence for the person at the terminal when the data lies where they may not look."""
    url: str
    connect_arguments: ConnectArguments

    def __init__(self, data_directory: DataDirectory, *, connections: int = FEWEST_CONNECTIONS) -> None:
        self.notice = None
        self._connections = max(connections, FEWEST_CONNECTIONS)
        self._folder = data_directory.path
        self._wanted = False
        self._postmaster: Postmaster | None = None
        self._outside_lock: int | None = None

    async def start(self) -> None:
        """Make the database if there is none, end what an earlier run left, start, and wait until it answers.

        Call it from the main thread: PostgreSQL is told to end with the thread that forked it.
        """
        assert threading.current_thread() is threading.main_thread(), "PostgreSQL would die with this thread"
        self._wanted = True
        try:
            self._place, self._binaries = await _in_thread(self._prepare)
            await self._launch()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Shut PostgreSQL down cleanly if it runs; may be called at any time, and twice."""
        self._wanted = False
        if self._postmaster is not None:
            await self._postmaster.stop()
            self._postmaster = None
            if self._place.socket_directory != self._place.cluster:
                with contextlib.suppress(OSError):  # another process may still look at it
                    self._place.socket_directory.rmdir()
        if self._outside_lock is not None:
            os.close(self._outside_lock)
            self._outside_lock = None

    async def supervise(self) -> None:
        """Start PostgreSQL again whenever it dies, until this is cancelled or stop() is called."""
        while self._wanted:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if self._wanted and self._postmaster is not None and self._postmaster.exit_status is not None:
                log.error("postgres_died", pid=self._postmaster.pid, status=self._postmaster.exit_status)
                await self._restart()

    async def _restart(self) -> None:
        delay_s = WATCH_INTERVAL_S
        while self._wanted:
            try:
                await asyncio.to_thread(clear_leftovers, self._place)
                await self._launch()
            except (EmbeddedPostgresError, OSError) as error:
                log.error("postgres_restart_failed", error=str(error), retry_in_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LONGEST_RETRY_DELAY_S)
            else:
                return

    async def _launch(self) -> None:
        if not self._wanted:  # stop() was called while a thread prepared this
            return
        self._postmaster = Postmaster(
            self._binaries, self._place, self._folder / "postgres.log", connections=self._connections
        )
        await self._postmaster.wait_until_ready()
        self.connect_arguments = self._place.connect_arguments()
        self.url = connection_url(self._place.socket_directory)
        log.info("postgres_started", pid=self._postmaster.pid, version=self._binaries.version)

    def _prepare(self) -> tuple[Place, PostgresBinaries]:
        """Everything before the fork. Blocks; a kill -9 in any step is made good by the next start."""
        notices = []
        place = postgres_place.settle(self._folder)
        if place.outside:
            # The folder's lock is not enough for data that outlives the folder.
            lock_file = place.cluster.parent.with_suffix(".lock")
            self._outside_lock = hold(lock_file, folder=place.cluster.parent)
            notices.append(
                f"PostgreSQL does not run as root, and user {place.account.name} cannot reach "
                f"{self._folder}: the database lies in {place.cluster}."
            )
        clear_leftovers(place)
        if place.cluster.exists() and (place.foreign or not is_cluster(place.cluster)):
            kept = set_aside(place.cluster)
            notices.append(
                f"What lay in {place.cluster} does not belong to {self._folder}; it is kept in {kept}."
            )
        postgres_place.record(self._folder, place)

        exists = is_cluster(place.cluster)
        binaries = find_binaries(
            place.account,
            major=major_of(place.cluster) if exists else None,
            copies=postgres_place.OUTSIDE / "binaries",
        )
        if binaries.copied:
            notices.append(f"PostgreSQL's programs run from {binaries.folder}.")
        if not exists:
            initialise(place, binaries)
            log.info("postgres_cluster_made", cluster=str(place.cluster), version=binaries.version)
        self.notice = " ".join(notices) or None
        return place, binaries


async def _in_thread(work: Callable[[], T]) -> T:
    """`work` in a thread, and its end awaited also by who is cancelled meanwhile: the folder must not be let go of while
    a thread still writes into it."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def has_database(path: Path) -> bool:
    """Whether this data directory has a database, running or not."""
    return postgres_place.is_cluster(postgres_place.recorded_cluster(path))


def find_running(path: Path) -> str | None:
    """The URL of the database of this data directory, if a server runs it; for commands beside the server."""
    try:
        pid_file = running_postmaster(postgres_place.recorded_cluster(path))
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{error.filename} belongs to another user: run this as that user"
        ) from error
    if pid_file is None or not pid_file.ready:
        return None
    return connection_url(Path(pid_file.socket_directory))
