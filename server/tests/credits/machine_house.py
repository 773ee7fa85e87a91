"""Two processes on one database, for the state machine: how they are spoken to, and how they come to harm.

Each process is a whole application with a pool, caches and a group commit of its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from credits.credit_model import Model
from credits.credit_values import Said
from nozle_server.api.app import build_app
from nozle_server.bootstrap import Services, build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Answer, Client, World, open_world, to_json

# What calls without an answer may take until nobody works on them any more.
SETTLE_S = 20.0
_WORKING = """select count(*) from pg_stat_activity
    where state <> 'idle' and datname = current_database() and application_name = 'nozle-server'"""


@dataclass(frozen=True, eq=False)
class Deed:
    """A call, what it does to the model, and the customers whom it is about (none: all). Keys are told apart by
    `operation`; `kind` says who made it up."""

    kind: str
    method: str
    path: str
    body: Any
    does: Callable[[Model], Said]
    customers: tuple[str, ...] = ()
    operation: str = ""
    key: str | None = None

    def __str__(self) -> str:
        body = "" if self.body is None else f" {to_json(self.body).decode()}"
        return f"{self.method} {self.path}{body}" + (f" key={self.key}" if self.key else "")


@dataclass(frozen=True)
class Sent:
    """A deed, and what was answered; None when the caller never heard."""

    deed: Deed
    answer: Answer | None

    @property
    def known(self) -> bool:
        """Whether anybody can know if it was done."""
        return self.answer is not None and self.answer.status != 503


class Process:
    """One application over a pool; `restart` puts another in its place, which remembers nothing."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.restart()

    def restart(self) -> None:
        self.services: Services = build_services(self.database, Settings(), SystemClock())
        self.client = Client(build_app(self.services))

    async def send(self, world: World, deed: Deed) -> Sent:
        headers = {} if deed.key is None else {"Idempotency-Key": deed.key}
        answer = await self.client.send(deed.method, deed.path, deed.body, key=world.secret, headers=headers)
        assert answer.status < 500 or answer.status == 503, f"{deed}: {answer.status} {answer.body!r}"
        return Sent(deed, answer)

    async def get(self, world: World, path: str) -> Any:
        """What is shown; after harm a pool may have connections that were cut."""
        for _ in range(20):
            answer = await self.client.send("GET", path, key=world.secret)
            if answer.status != 503:
                break
        assert answer.status in (200, 404), f"{path}: {answer.status} {answer.body!r}"
        return answer.json


class House:
    """The processes, and a connection beside them."""

    def __init__(self, processes: list[Process], admin: asyncpg.Connection) -> None:
        self.processes, self._admin = processes, admin

    @classmethod
    async def open(cls, url: str) -> "House":
        pools = [await Database.connect(url, connections=6, reserve=6) for _ in range(2)]
        return cls([Process(pool) for pool in pools], await asyncpg.connect(url))

    async def close(self) -> None:
        for process in self.processes:
            await process.services.group_commit.close()
            await process.database.close()
        await self._admin.close()

    async def new_world(self) -> World:
        first = self.processes[0]
        return await open_world(first.client, first.services)

    async def cut_connections(self) -> None:
        """End every connection of every process, whatever runs on it."""
        await self._admin.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name = 'nozle-server'"""
        )

    async def settle(self) -> None:
        """Wait until nobody works on anything."""
        for process in self.processes:
            await process.services.group_commit.close()
        async with asyncio.timeout(SETTLE_S):
            while await self._admin.fetchval(_WORKING):  # noqa: ASYNC110  # the database tells nobody when it is done
                await asyncio.sleep(0.005)


async def hang_up(task: "asyncio.Task[Sent]") -> None:
    """The caller is gone."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
