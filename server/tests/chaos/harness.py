"""Real servers on a real database, to be killed: an installation is a folder with an embedded PostgreSQL of default
durability, the server that runs it, and more servers on the same database.

    async with Launcher() as launcher, installed(launcher, servers=2) as installation:
        merchant = await installation.open_merchant()
        await installation.servers[1].kill()
        await installation.start_server()

The first server owns the embedded PostgreSQL, which goes when it goes; the others were given its URL.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import asyncpg

from nozle_server.identity.model import Mode
from nozle_server.infra.database import prepare_connection
from nozle_server.infra.embedded_postgres import find_running
from nozle_server.infra.postgres_place import recorded_cluster
from nozle_server.infra.postgres_processes import running_postmaster
from nozle_server.workflows.onboarding import open_organization

START_WITHIN_S = 60.0
END_WITHIN_S = 30.0
POLL_S = 0.01
_OURS = ("NOZLE_", "DATABASE_URL", "HOST", "PORT", "API_URL", "PG")
"""What begins the names of variables that would change a server."""


class Launcher:
    """Starts `nozle-server` commands; as a context manager it ends what is left of them."""

    def __init__(self) -> None:
        self._zygote: Process | None = None
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._bytecode = tempfile.TemporaryDirectory(prefix="nozle-bytecode-")
        # What a server starts anew, such as the nursery of its workers, need not read all our code from its source.
        self._python = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": self._bytecode.name}

    async def __aenter__(self) -> Self:
        self._zygote = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("zygote.py")),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, **self._python},
            start_new_session=True,
        )
        self._listening = asyncio.create_task(self._listen(self._zygote))
        await self._started.get()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        await self._zygote.wait()
        await self._listening
        self._bytecode.cleanup()

    async def launch(self, *arguments: str, environment: Mapping[str, str], output: Path) -> "Command":
        """`nozle-server ARGUMENTS` as a process of its own, its standard output and errors appended to a file."""
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        order = {
            "arguments": arguments,
            "environment": {**environment, **self._python},
            "output": str(output),
        }
        async with self._one_at_a_time:
            self._zygote.stdin.write(json.dumps(order).encode() + b"\n")
            pid = await self._started.get()
        return Command(pid, self._ended[pid], output)

    async def _listen(self, zygote: Process) -> None:
        assert zygote.stdout is not None
        while line := await zygote.stdout.readline():
            said = json.loads(line)
            if "status" in said:
                self._ended[said["pid"]].set_result(said["status"])
                continue
            pid = said.get("pid", 0)
            self._ended[pid] = asyncio.get_running_loop().create_future()
            self._started.put_nowait(pid)


class Command:
    """One `nozle-server` process."""

    def __init__(self, pid: int, ended: asyncio.Future[int], output: Path) -> None:
        self.pid, self.output = pid, output
        self._ended = ended

    @property
    def status(self) -> int | None:
        """None while it runs; then its exit code, or minus the signal that ended it."""
        return self._ended.result() if self._ended.done() else None

    def signal(self, number: signal.Signals) -> None:
        """Harmless when it has ended."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self, within_s: float = END_WITHIN_S) -> int:
        async with asyncio.timeout(within_s):
            return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """kill -9; returns when it is gone."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def said(self) -> str:
        """Its output and errors."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


class Server(Command):
    """A `nozle-server serve` that listens at `url`."""

    url: str

    @classmethod
    async def listening(cls, command: Command) -> "Server":
        """Wait until it says where it serves; AssertionError with its last words when it ends instead."""
        server = cls(command.pid, command._ended, command.output)
        deadline = time.monotonic() + START_WITHIN_S
        while (found := re.search(r"serving at (http://\S+:\d+)", server.said())) is None:
            assert server.status is None, f"the server ended ({server.status}): {server.said()[-2000:]}"
            assert time.monotonic() < deadline, f"the server did not start: {server.said()[-2000:]}"
            await asyncio.sleep(POLL_S)
        server.url = found[1]
        return server


@dataclass(frozen=True)
class Merchant:
    """An organization and its secret key."""

    org_id: UUID
    secret: str


class Installation:
    """One database and the servers on it. `servers[0]` owns the embedded PostgreSQL."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher, self.folder = launcher, folder
        self.data_dir = folder / "data"
        self.servers: list[Server] = []
        self.merchants: list[Merchant] = []
        self._outputs = 0

    @property
    def database_url(self) -> str:
        """Where the embedded PostgreSQL listens; AssertionError while it is down."""
        url = find_running(self.data_dir)
        assert url is not None, "the embedded PostgreSQL is down"
        return url

    @property
    def postmaster_pid(self) -> int | None:
        found = running_postmaster(recorded_cluster(self.data_dir))
        return found.pid if found else None

    @property
    def urls(self) -> list[str]:
        """Of the servers that run."""
        return [server.url for server in self.servers if server.status is None]

    async def launch(self, *arguments: str, **environment: str) -> Command:
        """Any command on this installation's data directory, which does not read the environment of this process."""
        self._outputs += 1
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return await self.launcher.launch(
            *arguments,
            environment={
                **inherited,
                "NOZLE_DATA_DIR": str(self.data_dir),
                "NOZLE_LOG_LEVEL": "warning",
                **environment,
            },
            output=self.folder / f"{arguments[0]}-{self._outputs:04}.log",
        )

    async def start_owner(self, **environment: str) -> Server:
        """The server that runs the embedded PostgreSQL: the first one, or the next after it has ended."""
        server = await Server.listening(await self.launch("serve", "--port", "0", **environment))
        self.servers[:1] = [server]
        return server

    async def start_server(self, *, database_url: str | None = None, **environment: str) -> Server:
        """One more server on the database, through `database_url` if that is another way to it."""
        where = {"DATABASE_URL": database_url or self.database_url, **environment}
        server = await Server.listening(await self.launch("serve", "--port", "0", **where))
        self.servers.append(server)
        return server

    def forget_ended(self) -> None:
        """Drop servers that have ended from the list, except the owner."""
        self.servers[1:] = [server for server in self.servers[1:] if server.status is None]

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """A session of our own on the database, as the servers' role."""
        connection = await asyncpg.connect(self.database_url, **options)
        await prepare_connection(connection)
        return connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await self.connect()
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    async def open_merchant(self, mode: Mode = Mode.TEST) -> Merchant:
        """A new organization with nothing in it."""
        async with self.session() as connection, connection.transaction():
            made, secret, _ = await open_organization(
                connection, name="Merchant", mode=mode, now=datetime.now(UTC)
            )
        merchant = Merchant(made.id, secret)
        self.merchants.append(merchant)
        return merchant

    async def until_database_answers(self, within_s: float = START_WITHIN_S) -> float:
        """Wait until sessions can be had again; the seconds it took."""
        began = time.monotonic()
        while True:
            with suppress(
                OSError, AssertionError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError
            ):
                async with asyncio.timeout(2), self.session() as connection:
                    await connection.execute("select 1")
                    return time.monotonic() - began
            assert time.monotonic() - began < within_s, f"the database did not come back within {within_s} s"
            await asyncio.sleep(0.05)

    def last_words(self, characters: int = 1000) -> str:
        """The ends of what was logged, for whoever has to find out what went wrong."""
        logs = [*sorted(self.folder.glob("*.log"))[-6:], self.data_dir / "postgres.log"]
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-characters:]}" for log in logs if log.exists()
        )

    async def end(self) -> None:
        """End all servers, the owner of the database last."""
        for server in reversed(self.servers):
            if server.status is None:
                try:
                    await server.stop()
                except TimeoutError:
                    await server.kill()


@asynccontextmanager
async def installed(
    launcher: Launcher, *, servers: int = 2, **environment: str
) -> AsyncIterator[Installation]:
    """An installation in a temporary folder, with that many servers."""
    folder = _temporary_folder()
    installation = Installation(launcher, folder)
    try:
        await installation.start_owner(**environment)
        for _ in range(servers - 1):
            await installation.start_server(**environment)
        yield installation
    finally:
        await installation.end()
        _remove(folder)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="nozle-chaos-"))
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get to its own folder inside
    return folder


def _remove(folder: Path) -> None:
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)  # a process that was just killed may have written into it
