"""A server process of the fuzz's own, on a database of its own: what is thrown at it can reach no other test."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from databases import with_database

COMMAND = (sys.executable, "-c", "from nozle_server.cli import main; main()")


@dataclass(frozen=True)
class Tenant:
    """An organization's keys and id."""

    id: str
    secret: str
    publishable: str


@dataclass(frozen=True)
class Served:
    """A running server; `log` is where it writes what went wrong."""

    url: str
    environment: dict[str, str]
    log: Path

    async def new_tenant(self) -> Tenant:
        """An organization in test mode, made as an operator makes one."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("organizations", "create", "Fuzzed", "--json"),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        made = json.loads(out)
        return Tenant(made["organization_id"], made["secret_key"], made["publishable_key"])

    async def call(self, method: str, path: str, key: str | None, body: object = None) -> tuple[int, Any]:
        """Status and JSON of one exchange."""
        return await asyncio.to_thread(self._call, method, path, key, body)

    def _call(self, method: str, path: str, key: str | None, body: object) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def faults(self) -> list[str]:
        """What the server logged as errors: a traceback explains a 500 better than its answer does."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if '"level":"error"' in line]


@pytest.fixture(scope="package")
async def served(database_server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """`nozle-server serve` on a free port and a fresh database."""
    name = f"nozle_fuzz_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    environment = {
        **os.environ,
        "DATABASE_URL": with_database(database_server, name),
        "PORT": "0",
        "HOST": "127.0.0.1",
        # The PostgreSQL that a developer tests on may be a fast one.
        "NOZLE_ALLOW_UNSAFE_DURABILITY": "1",
    }
    environment.pop("NOZLE_ORGANIZATION_ID", None)
    log = tmp_path_factory.mktemp("fuzz") / "server.log"
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "serve", env=environment, stdout=asyncio.subprocess.PIPE, stderr=log_file
        )
        assert process.stdout is not None
        try:
            address = await _address(process.stdout)
            yield Served(address, environment, log)
        finally:
            if process.returncode is None:
                process.terminate()
            # Nobody reads the pipe any more, so it must not fill: take what comes until the end.
            await process.stdout.read()
            await process.wait()
            await admin.execute(f'drop database "{name}" with (force)')
            await admin.close()


async def _address(stdout: asyncio.StreamReader) -> str:
    async for line in stdout:
        text = line.decode()
        if "Nozle is serving at " in text:
            return text.rpartition(" ")[2].strip()
    raise AssertionError("the server did not start; its log tells why")
