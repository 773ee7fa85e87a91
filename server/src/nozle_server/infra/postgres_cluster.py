"""Making a database cluster: whole under its name, or not there at all.

initdb works in a folder with a name of its own, which becomes `postgres` by one rename. Whatever else is
found under that name is moved aside and kept, as it may be somebody's data.
"""

import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from nozle_server.infra.data_directory import EmbeddedPostgresError
from nozle_server.infra.postgres_binaries import PostgresBinaries, program_environment
from nozle_server.infra.postgres_place import ROLE, Place

INITDB_TIMEOUT_S = 120
INITDB_OPTIONS = (
    f"--username={ROLE}",
    "--encoding=UTF8",
    "--locale=C",  # the wheels are built without ICU, and byte order is the same on every machine
    "--data-checksums",
    "--auth-local=trust",  # the socket's folder is what keeps others out
    "--auth-host=reject",
)


def major_of(cluster: Path) -> int:
    return int((cluster / "PG_VERSION").read_text())


def initialise(place: Place, binaries: PostgresBinaries) -> None:
    """Make the cluster of `place`, which must not exist. PostgreSQL's default durability is left as it is."""
    parent, name = place.cluster.parent, place.cluster.name
    for unfinished in parent.glob(f"{name}.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)  # its initdb, killed or about to fail, may still write
    fresh = Path(tempfile.mkdtemp(prefix=f"{name}.new-", dir=parent))
    os.chown(fresh, place.account.uid, place.account.gid, follow_symlinks=False)
    answer = subprocess.run(  # noqa: S603 - a program found by us, no shell
        [binaries.program("initdb"), "-D", str(fresh), *INITDB_OPTIONS],
        cwd="/",  # ours may be closed to the account
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INITDB_TIMEOUT_S,
        check=False,
        **place.account.launch_options(),
    )
    if answer.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        reason = (answer.stderr.strip().splitlines() or [f"initdb ended with {answer.returncode}"])[-1]
        raise EmbeddedPostgresError(f"cannot make a database in {place.cluster}: {reason}")
    fresh.rename(place.cluster)
    _sync(parent)


def set_aside(cluster: Path) -> Path:
    """Rename what lies there, and return its new name."""
    kept = cluster.with_name(f"{cluster.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    cluster.rename(kept)
    return kept


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
