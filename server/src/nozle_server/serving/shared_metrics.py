"""Where the workers of one server put what they count, so that any of them can tell the sum.

prometheus-client keeps a worker's numbers in a file of its own there, and adds up those of all, also of workers that are no
more: a counter does not fall when a worker is replaced
(https://prometheus.github.io/client_python/multiprocess/).
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "nozle-metrics-"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""What tells a process, before it has read prometheus-client, to count for several."""


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A temporary folder of this process's own. Those of servers that could not tidy up are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_unless_held(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # gone with this process, however it ends
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_unless_held(folder: Path) -> None:
    try:
        looked_at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # another user's, or gone already
    try:
        fcntl.flock(looked_at, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(looked_at)
