"""Deductions without HTTP: the product's own group commit in this process, and the one statement that a server without
it would send for each, through the same driver."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from uuid import UUID

import asyncpg

from harness.measurement import BenchError, Measurement
from nozle_server.core import json
from nozle_server.core.ids import new_id
from nozle_server.credits.book import Book
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.credits.group_request import Answer, Request
from nozle_server.credits.model import Deduction
from nozle_server.credits.spending import Spending, deduct
from nozle_server.infra.change_bus import PostgresChangeBus
from nozle_server.infra.database import Database

ONE_STATEMENT = (Path(__file__).parents[1] / "sql" / "deduct_one.sql").read_text()
WARM_UP_S = 1.0
_ONE = Decimal(1)
_SPENDING = Spending(_ONE, "chat")

Call = Callable[[str], Awaitable[None]]
"""Deduct one credit of a customer; raises unless it was there."""


class Callers:
    """Callers of one kind of deduction. Counts what was taken, warming up included, for the checks afterwards."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.taken = 0

    async def measure(self, customers: list[str], *, callers: int, seconds: int) -> Measurement:
        """So many callers at once, each of whom waits for its answer; after a warm-up."""
        await self._load(customers, callers, WARM_UP_S)
        return await self._load(customers, callers, seconds)

    async def _load(self, customers: list[str], callers: int, seconds: float) -> Measurement:
        latencies: list[float] = []
        began = time.perf_counter()
        end = began + seconds

        async def one(number: int) -> None:
            chance = Random(number)
            for _ in itertools.count():
                before = time.perf_counter()
                if before >= end:
                    return
                await self._call(chance.choice(customers))
                latencies.append(time.perf_counter() - before)

        await asyncio.gather(*(one(number) for number in range(callers)))
        self.taken += len(latencies)
        return Measurement.of(latencies, time.perf_counter() - began)


@asynccontextmanager
async def grouped(database_url: str, org_id: str) -> AsyncIterator[Callers]:
    """Callers of a group commit like a server's, on its database."""
    database = await Database.connect(database_url, connections=1, reserve=6)
    group = GroupCommit(database.reserve, PostgresChangeBus(database))
    organization = UUID(org_id)

    def decide(book: Book | None, now: datetime) -> Deduction:
        if book is None:
            raise BenchError("everyone was granted credits, and one has none")
        return deduct(book, _SPENDING, now)

    def encode(deduction: Deduction) -> Answer:
        if not deduction.allowed:
            raise BenchError("there is credit enough, and one was refused")
        return Answer(200, json.dumps({"allowed": True, "remaining": deduction.remaining}))

    async def call(customer: str) -> None:
        now = datetime.now(UTC)
        await group.submit(Request(organization, customer, decide, encode, now, feature="chat"))

    try:
        yield Callers(call)
        await group.close()
    finally:
        await database.close()


@asynccontextmanager
async def one_statement_each(database_url: str, org_id: str) -> AsyncIterator[Callers]:
    """A caller who sends one statement a deduction; only one at a time."""
    connection = await asyncpg.connect(database_url)
    organization = UUID(org_id)

    async def call(customer: str) -> None:
        left = await connection.fetchval(ONE_STATEMENT, organization, customer, new_id(), "chat", _ONE)
        if left is None:
            raise BenchError("there is credit enough, and one was refused")

    try:
        yield Callers(call)
    finally:
        await connection.close()
