"""Whatever happens in whatever order: calls, writes that are held up, fail or find an account changed, keys sent twice, callers
that hang up, copies that are lost. Each answer is one entry or none, in order of arrival."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from deductions import a_request, with_credits
from held_writes import Writes, settled
from nozle_server.core import json
from nozle_server.core.errors import Conflict, Unavailable
from nozle_server.credits import group_batch, group_commit, kept_books
from nozle_server.credits.book import Book
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.credits.model import Deduction
from nozle_server.credits.spending import Spending, deduct
from nozle_server.infra.database import Tx
from world import World, audit

pytestmark = pytest.mark.database

WHO = ("acme", "globex", "initech")
STEPS = 60
FAULTS = (
    asyncpg.CheckViolationError("refused"),
    asyncpg.DeadlockDetectedError("deadlock"),
    asyncpg.LockNotAvailableError("held"),
    asyncpg.ConnectionDoesNotExistError("gone"),
)


@dataclass
class Call:
    """One deduction that was asked for; its number is its feature."""

    number: int
    amount: int
    key: str | None
    breaks: bool
    task: asyncio.Task[dict[str, Any]]
    hung_up: bool = False


class Play:
    """What happens, by dice."""

    def __init__(self, world: World, group: GroupCommit, writes: Writes, dice: random.Random) -> None:
        self._world, self._group, self._writes, self._dice = world, group, writes, dice
        self.calls: list[Call] = []

    async def step(self) -> None:
        dice, world = self._dice, self._world
        match dice.choices(range(8), weights=(50, 25, 8, 3, 2, 3, 2, 7))[0]:
            case 0:
                for _ in range(dice.randint(1, 4)):
                    self._ask()
            case 1:
                await settled()
                if self._writes.gates:
                    await self._writes.let_go(dice.choice(FAULTS) if dice.random() < 0.15 else None)
            case 2:
                await world.deduct(dice.choice(WHO), 1)  # another process
            case 3:
                await world.grant(dice.choice(WHO), 3)
            case 4:
                self._group.forget_all()
            case 5:
                self._group._books.drop(world.org_id, (dice.choice(WHO), "credits"))
            case 6:
                if self.calls and not (one := dice.choice(self.calls)).task.done():
                    one.hung_up = one.task.cancel()
            case _:
                await asyncio.sleep(dice.choice((0, 0.002, 0.01)))

    def _ask(self) -> None:
        dice, number = self._dice, len(self.calls) + 1
        customer = dice.choice(WHO)
        entity = "bot" if customer == "acme" and dice.random() < 0.4 else None
        key = (
            f"k{max(1, number - dice.choice((0, 0, 0, dice.randint(0, 6))))}" if dice.random() < 0.3 else None
        )
        amount = 2 if key else dice.randint(1, 6)
        breaks = dice.random() < 0.02
        spending = Spending(Decimal(amount), str(number), entity)

        def decide(book: Book | None, now: datetime) -> Deduction:
            assert book is not None
            if breaks:
                book.balance -= 3  # half of it is done
                raise ZeroDivisionError
            return deduct(book, spending, now)

        async def more(tx: Tx, _deduction: object) -> None:
            await tx.execute("select 1")

        also = {"also": more} if dice.random() < 0.03 else {}
        request = a_request(
            self._world,
            amount,
            customer=customer,
            entity=entity,
            key=key,
            decide=decide,
            feature=str(number),
            **also,
        )

        async def ask() -> dict[str, Any]:
            answer = await self._group.submit(request)
            return {**json.loads(answer.body), "replayed": answer.replayed}

        self.calls.append(Call(number, amount, key, breaks, asyncio.create_task(ask())))


@pytest.mark.parametrize("seed", range(8))
async def test_every_answer_is_one_entry_or_none_in_order_of_arrival(
    world: World, group: GroupCommit, writes: Writes, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    if seed % 3 == 1:
        monkeypatch.setattr(kept_books, "KEPT_ACCOUNTS", 2)
    if seed % 3 == 2:
        for module in (group_commit, group_batch):
            monkeypatch.setattr(module, "MAX_BATCH", 4)
    await with_credits(world, 60, *WHO)
    await world.an_entity("bot")
    where = "/api/v1/customers/acme/entities/bot/budgets/run"
    await world.call("PUT", where, {"limit": 25}, headers={"Idempotency-Key": "budget"})
    play = Play(world, group, writes, dice)
    for _ in range(STEPS):
        await play.step()
    answers = await writes.let_all_go(*(call.task for call in play.calls))

    rows = await world.fetch(
        """select feature, amount, balance_after, account_id from ledger_entries
           where org_id = $1 and type = 'deduct' and feature <> 'chat' order by account_id, sequence"""
    )
    entries = {int(row["feature"]): row for row in rows}
    assert len(entries) == len(rows), "one entry a call at most"
    for call, answer in zip(play.calls, answers, strict=True):
        entry = entries.get(call.number)
        if call.hung_up and isinstance(answer, asyncio.CancelledError):
            continue
        if isinstance(answer, Exception):
            assert isinstance(answer, ZeroDivisionError if call.breaks else Conflict | Unavailable), answer
            assert entry is None
        elif answer["replayed"] or not answer["allowed"]:
            assert entry is None
        else:
            assert entry is not None
            assert (entry["amount"], entry["balance_after"]) == (-call.amount, answer["remaining"])
    effects = Counter(call.key for call in play.calls if call.key is not None and call.number in entries)
    assert set(effects.values()) <= {1}, "one effect a key"
    for account in {row["account_id"] for row in rows}:
        written = [int(row["feature"]) for row in rows if row["account_id"] == account]
        unkeyed = [number for number in written if play.calls[number - 1].key is None]
        assert unkeyed == sorted(unkeyed), "in order of arrival"
    await audit(world)
