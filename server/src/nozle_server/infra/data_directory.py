"""The folder in which a server without DATABASE_URL keeps its data, and the lock that gives it to one server.

The lock is an flock: the kernel drops it with the process that holds it, so a server killed with -9 leaves
nothing to clean up. The lock file only tells the next one who holds it. A child made by a bare fork shares
the lock with its parent; one that execs (PostgreSQL, a spawned worker) does not inherit it.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class EmbeddedPostgresError(Exception):
    """The local database cannot be used; the message is one sentence for the person at the terminal."""


class DataDirectoryInUse(Exception):
    """Another server holds the data directory; the message is one line that names folder and holder."""


def hold(lock_file: Path, *, folder: Path) -> int:
    """Take the exclusive lock of `folder`; the descriptor returned holds it until it is closed."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise DataDirectoryInUse(
            f"{folder} is in use by another server (pid {holder}): stop it, or choose another NOZLE_DATA_DIR"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def create_folder(path: Path) -> None:
    """A new data directory is its owner's alone. Root's can be walked through, because the database inside runs as
    another user; what lies in it has modes of its own."""
    path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)


class DataDirectory:
    """A data directory; as a context manager, held by this process alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def lock(self) -> None:
        """Create the folder and take it, or raise DataDirectoryInUse."""
        assert self._lock is None, "this data directory is locked already"
        try:
            create_folder(self.path)
            self._lock = hold(self.path / "server.lock", folder=self.path)
        except OSError as error:
            raise EmbeddedPostgresError(f"{self.path} cannot be used: {error.strerror}") from error

    def release(self) -> None:
        """Let go of the folder; harmless when it is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
