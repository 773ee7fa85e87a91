"""A process whose writes of batches are held up, so that a test says what happens meanwhile."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from deductions import take
from nozle_server.credits import entry_writes
from nozle_server.credits.entry_writes import Statement
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.infra.database import Tx
from world import World

Call = asyncio.Task[dict[str, Any]]


class Writes:
    """Writes of batches, each held up until it is let go, or failing instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, group: GroupCommit) -> None:
        self.begun = 0
        self.gates: list[asyncio.Future[Exception | None]] = []
        self._changed = asyncio.Condition()
        real = entry_writes.write

        async def write(tx: Tx, statement: Statement) -> set[UUID]:
            if asyncio.current_task() not in group._tasks:
                return await real(tx, statement)  # another process
            self.begun += 1
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            async with self._changed:
                self._changed.notify_all()
            fault = await gate
            if fault is not None:
                raise fault
            return await real(tx, statement)

        monkeypatch.setattr(entry_writes, "write", write)

    async def held_up(self, count: int = 1) -> None:
        """Until so many are."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.gates) >= count)

    async def let_go(self, fault: Exception | None = None) -> None:
        """The next one, as soon as it is there."""
        await self.held_up()
        self.gates.pop(0).set_result(fault)

    async def let_all_go(self, *calls: Call) -> list[Any]:
        """The answers of the calls, with nothing held up any more."""
        together = asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(10):
            while not together.done():
                for gate in self.gates:
                    if not gate.done():
                        gate.set_result(None)
                self.gates.clear()
                await asyncio.sleep(0.001)
        return await together


def asking(group: GroupCommit, world: World, *amounts: object, **more: Any) -> list[Call]:
    return [asyncio.create_task(take(group, world, amount, **more)) for amount in amounts]


async def settled() -> None:
    """All that can go on without the database has."""
    for _ in range(20):
        await asyncio.sleep(0)
