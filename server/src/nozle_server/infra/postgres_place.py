"""Where the database of a data directory lies, who runs it, and where its socket is.

Usually the database is `<data directory>/postgres` and the socket lies inside it. As root, when the user who
must run PostgreSQL cannot reach that folder, it lies below /var/lib/nozle, under a hash of the folder's path.

`postgres.json` in the data directory records the outcome. It keeps the place when the reasons for it change,
and ties a database outside to this very folder: one deleted and made anew does not find the old one's rows.
"""

import hashlib
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

from nozle_server.infra.data_directory import EmbeddedPostgresError
from nozle_server.infra.postgres_account import Account, make_directory

PORT = 5432
"""Part of the socket's file name only: no TCP port is opened."""
ROLE = DATABASE = "nozle"
OUTSIDE = Path("/var/lib/nozle")
RECORD = "postgres.json"
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]{1,90}")
"""A folder that makes a socket's address (107 bytes with the file's name) which every client's parser of URLs
and lists of hosts understands."""


class ConnectArguments(TypedDict):
    """How asyncpg reaches the database; `host` is the socket's folder."""

    host: str
    port: int
    user: str
    database: str


def connection_url(socket_directory: Path) -> str:
    """A URL that asyncpg and SQLAlchemy both read."""
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(socket_directory))}&port={PORT}"


@dataclass(frozen=True)
class Place:
    cluster: Path
    account: Account
    socket_directory: Path
    outside: bool
    """Whether the cluster lies below /var/lib/nozle instead of in the data directory."""
    foreign: bool
    """Whether what lies at `cluster` belongs to an earlier folder of the same path."""

    def connect_arguments(self, database: str = DATABASE) -> ConnectArguments:
        return {"host": str(self.socket_directory), "port": PORT, "user": ROLE, "database": database}


def settle(folder: Path) -> Place:
    """Decide where the database of this data directory lies, and make the folders around it.

    The caller holds the lock of the data directory.
    """
    inside, outside = _inside(folder), _outside(folder)
    recorded = _read_record(folder)
    account = _account(folder, inside)
    was_outside = recorded.get("cluster") == str(outside)
    earlier = Path(recorded.get("cluster", inside))
    if earlier.is_relative_to(OUTSIDE) and not was_outside and earlier.exists():
        raise EmbeddedPostgresError(
            f"{folder} was moved or copied, and its database lies in {earlier}: move that to {outside}, "
            f"or delete {folder / RECORD} to begin an empty one"
        )
    goes_outside = (
        os.geteuid() == 0 and not is_cluster(inside) and (was_outside or not account.can_enter(folder))
    )
    if goes_outside:
        make_directory(OUTSIDE, Account.current(), 0o755)
        make_directory(outside.parent, account, 0o700)
    cluster = outside if goes_outside else inside
    return Place(
        cluster=cluster,
        account=account,
        socket_directory=_socket_directory(cluster, recorded.get("socket_directory"), account),
        outside=goes_outside,
        foreign=goes_outside and not was_outside,
    )


def record(folder: Path, place: Place) -> None:
    """Note the place in the data directory, at once or not at all."""
    text = json.dumps({"cluster": str(place.cluster), "socket_directory": str(place.socket_directory)})
    fresh = folder / f"{RECORD}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, folder / RECORD)


def recorded_cluster(folder: Path) -> Path:
    """Where the database of a data directory was last started, for a process that does not hold the lock."""
    return Path(_read_record(folder).get("cluster", _inside(folder)))


def is_cluster(path: Path) -> bool:
    """Whether a whole database cluster lies there; initdb writes PG_VERSION first and pg_control late."""
    return (path / "PG_VERSION").exists() and (path / "global" / "pg_control").exists()


def _inside(folder: Path) -> Path:
    return (folder / "postgres").resolve()  # an administrator may have linked it to another disk


def _outside(folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return OUTSIDE / digest / "postgres"


def _read_record(folder: Path) -> dict[str, str]:
    try:
        recorded: dict[str, str] = json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        return {}
    return recorded


def _account(folder: Path, inside: Path) -> Account:
    owner = Account.owning(inside) if inside.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{inside} belongs to user {owner.name}: start the server as that user"
            )
        return Account.current()
    if owner is None or not is_cluster(inside):
        return Account.nobody()
    if owner.uid == 0:
        raise EmbeddedPostgresError(f"{inside} belongs to root, as whom PostgreSQL does not run")
    if not owner.can_enter(folder):
        raise EmbeddedPostgresError(f"{inside} belongs to user {owner.name}, who cannot reach it")
    return owner


def _socket_directory(cluster: Path, recorded: str | None, account: Account) -> Path:
    """The cluster itself, or a private folder with a short name where the cluster's cannot be an address."""
    if PLAIN_PATH.fullmatch(str(cluster)):
        return cluster
    if recorded is not None and _is_private(Path(recorded), account):
        return Path(recorded)
    # Not TMPDIR, which may be as long. The name is random and the mode 700, so nobody can have prepared it.
    made = Path(tempfile.mkdtemp(prefix="nozle-", dir="/tmp"))
    os.chown(made, account.uid, account.gid)
    return made


def _is_private(folder: Path, account: Account) -> bool:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid and not status.st_mode & 0o077
