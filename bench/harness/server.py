"""The server under test: a real `nozle-server serve` on a database of its own that is thrown away afterwards."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.measurement import BenchError
from harness.processes import run, running
from nozle_server.infra.embedded_postgres import find_running

CHECKOUT = Path(__file__).parents[2]
CATALOG = CHECKOUT / "examples" / "ai-saas.yaml"
START_WITHIN_S = 60.0
REMOVAL_ATTEMPTS = 20

_COMMAND = str(Path(sys.executable).with_name("nozle-server"))
_OURS = ("NOZLE_", "DATABASE_URL", "HOST", "PORT", "API_URL")
"""What begins the names of variables that would change the server."""


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization and its secret key."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class Server:
    """Its process, where it listens, where its database does (a libpq URL), and what its commands need to know."""

    pid: int
    port: int
    database_url: str
    environment: dict[str, str]

    async def open_organization(self, name: str) -> Organization:
        """A new organization, in test mode on real time, with the example catalog applied."""
        made = json.loads(
            await run(_COMMAND, "organizations", "create", name, "--json", environment=self.environment)
        )
        organization = Organization(made["organization_id"], made["secret_key"])
        await run(
            *(_COMMAND, "apply", str(CATALOG), "--organization", organization.id),
            environment=self.environment,
        )
        return organization


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server with an empty embedded database of default durability, in a temporary folder."""
    with _temporary_folder() as folder:
        log = folder / "server.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment = {**inherited, "NOZLE_DATA_DIR": str(folder), "NOZLE_LOG_LEVEL": "warning"}
        async with running(_COMMAND, "serve", "--port", "0", log=log, environment=environment) as process:
            port = await _port_of(process)
            try:
                database_url = find_running(folder)
                if port is None or database_url is None:
                    raise BenchError("the server did not start")
                yield Server(process.pid, port, database_url, environment)
            except BenchError as error:
                raise BenchError(f"{error}\n{_end_of(log)}") from None


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nozle-bench-"))
    try:
        folder.chmod(
            0o755
        )  # as root, PostgreSQL runs as another user, who has to get to its own folder inside
        yield folder
    finally:
        for _ in range(REMOVAL_ATTEMPTS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)  # a process that was just killed may have written into it


async def _port_of(process: asyncio.subprocess.Process) -> int | None:
    """Wait until the server says where it is serving; None when it does not."""
    output = process.stdout
    with suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN_S):
            while output is not None and (line := await output.readline()):
                if found := re.search(rb"serving at http://\S+:(\d+)", line):
                    return int(found[1])
    return None


def _end_of(log: Path) -> str:
    """What the server said last, for whoever has to find out what went wrong."""
    return log.read_text(errors="replace")[-2000:]


def memory_mib(pid: int) -> float:
    """Resident memory of a process; 0 where the system does not tell."""
    try:
        found = re.search(r"^VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else 0.0
