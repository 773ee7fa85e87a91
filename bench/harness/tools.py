"""The tools that only a bench needs: where they are, and how they are installed."""

import os
import shutil
import sys
from pathlib import Path

from harness.processes import run
from nozle_server.infra.embedded_postgres import EmbeddedPostgresError
from nozle_server.infra.postgres_account import Account
from nozle_server.infra.postgres_binaries import find_binaries

SETUP = Path(__file__).parents[1] / "setup.sh"
PACKAGES = {"wrk": "wrk", "nginx": "nginx"}
"""By program, the Debian package that holds it."""


def find(name: str) -> str | None:
    """A program, also where only root's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def find_pgbench() -> str | None:
    """The one that came with the server's own PostgreSQL, so that the versions are the same; else any."""
    try:
        beside = find_binaries(Account.current(), major=None, copies=Path("/nonexistent")).program("pgbench")
    except EmbeddedPostgresError:
        beside = ""
    return shutil.which(beside) or find("pgbench")


async def install_missing() -> None:
    """Install what is missing where that can be done: as root, on Debian. Says what it does."""
    missing = [package for name, package in PACKAGES.items() if find(name) is None]
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"installing {', '.join(missing)} ({SETUP.name})", file=sys.stderr)
    await run(str(SETUP), *missing)
