"""What arrives while a batch is being written is decided as if that were there already: it is told when it is written itself,
and decided anew where what it was decided on did not come true."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from deductions import take, with_credits
from held_writes import Call, Writes, asking, settled
from nozle_server.core.errors import RuleBroken, Unavailable
from nozle_server.credits import group_commit
from nozle_server.credits.book import Book
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.credits.model import ZERO, Deduction
from nozle_server.infra import database
from nozle_server.infra.database import Tx
from world import World, audit

pytestmark = pytest.mark.database


@asynccontextmanager
async def one_under_way(
    world: World, group: GroupCommit, writes: Writes, amount: object, **more: Any
) -> AsyncIterator[Call]:
    """A deduction whose write is held up, by a process that knows the account."""
    known = asyncio.create_task(take(group, world, 0.5, **more))
    await writes.let_all_go(known)
    writes.begun = 0
    call = asyncio.create_task(take(group, world, amount, **more))
    await writes.held_up()
    yield call
    await writes.let_all_go(call)


def seen(decided: list[int], number: int) -> Callable[[Book | None, datetime], Deduction]:
    """Notes when it is decided, and refuses."""

    def decide(_book: Book | None, _now: datetime) -> Deduction:
        decided.append(number)
        return Deduction(False, ZERO)

    return decide


async def test_who_asks_meanwhile_is_decided_at_once_and_told_when_it_is_written(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world, 10)
    async with one_under_way(world, group, writes, 4) as first:
        decided: list[int] = []
        later = [*asking(group, world, 3, 5), *asking(group, world, 1, decide=seen(decided, 1))]
        await settled()
        assert decided == [1]
        assert not any(call.done() for call in (first, *later))
        await writes.let_go()
        await writes.held_up()
        assert (await first)["remaining"] == 5.5
        assert not any(call.done() for call in later)
        answers = await writes.let_all_go(*later)
    assert [(one["allowed"], one["remaining"]) for one in answers[:2]] == [(True, 2.5), (False, 2.5)]
    assert writes.begun == 2
    await audit(world)


async def test_what_another_process_took_meanwhile_is_not_there_for_who_was_decided_ahead(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world, "10.5")
    async with one_under_way(world, group, writes, 4) as first:
        later = asking(group, world, 6)
        await settled()
        assert await world.deduct("acme", 5) == (True, 5)
        answers = await writes.let_all_go(first, *later)
    assert [(one["allowed"], one["remaining"]) for one in answers] == [(True, 1), (False, 1)]
    await audit(world)


async def test_a_refusal_decided_ahead_is_told_only_if_it_came_true(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world, "10.5")
    async with one_under_way(world, group, writes, 10) as first:
        later = asking(group, world, 1)
        await settled()
        await world.grant("acme", 5)
        answers = await writes.let_all_go(first, *later)
    assert [(one["allowed"], one["remaining"]) for one in answers] == [(True, 5), (True, 4)]
    await audit(world)


async def test_of_two_accounts_the_one_that_was_written_goes_on(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world, 20, "acme", "globex")
    await writes.let_all_go(*asking(group, world, 1, customer="globex"))
    async with one_under_way(world, group, writes, 1) as first:
        other = asking(group, world, 2, 3, customer="globex")
        mine = asking(group, world, 2, 3)
        await settled()
        await world.deduct("acme", 10)
        await writes.let_go()  # the first: not written
        await writes.held_up()  # the other account's, decided ahead
        assert writes.begun == 2
        await writes.let_go()
        assert [(await call)["remaining"] for call in other] == [17, 14]
        answers = await writes.let_all_go(first, *mine)
    assert [one["remaining"] for one in answers] == [8.5, 6.5, 3.5]
    await audit(world)


@pytest.mark.parametrize(
    "fault",
    [asyncpg.ConnectionDoesNotExistError("gone"), asyncpg.CheckViolationError("refused"), ValueError()],
)
async def test_when_a_batch_fails_what_was_decided_ahead_is_decided_anew(
    world: World, group: GroupCommit, writes: Writes, fault: Exception
) -> None:
    """Whether nobody knows what became of it, or the database refused it, which has it done again alone."""
    await with_credits(world, 10, "acme", "globex")
    await writes.let_all_go(*asking(group, world, 1, customer="globex"))
    async with one_under_way(world, group, writes, 4) as first:
        later = asking(group, world, 6, 3)
        other = asking(group, world, 1, customer="globex")
        await settled()
        await writes.let_go(fault)
        [one, *more] = await writes.let_all_go(first, *later, *other)
    if isinstance(fault, asyncpg.CheckViolationError):
        assert one["remaining"] == 5.5
        expected = [(False, 5.5), (True, 2.5), (True, 8)]
    else:
        assert isinstance(one, Unavailable | ValueError)
        expected = [(True, 3.5), (True, 0.5), (True, 8)]
    assert [(one["allowed"], one["remaining"]) for one in more] == expected
    await audit(world)


async def test_a_fault_of_ours_ahead_takes_no_neighbour_along(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world)

    def break_down(book: Book | None, _now: datetime) -> Deduction:
        assert book is not None
        book.balance -= 50  # half of it is done
        raise ZeroDivisionError

    async with one_under_way(world, group, writes, 4) as first:
        before = asking(group, world, 1)
        broken = asking(group, world, 1, decide=break_down)
        after = asking(group, world, 1)
        answers = await writes.let_all_go(first, *before, *broken, *after)
    assert isinstance(answers[2], ZeroDivisionError)
    assert [answers[n]["remaining"] for n in (0, 1, 3)] == [95.5, 94.5, 93.5]
    await audit(world)


async def test_a_clock_turned_meanwhile_is_seen_by_who_was_decided_ahead(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    """M13."""
    await world.turn("2026-01-01")
    await with_credits(world, "5.5")
    await world.grant("acme", 7, expires_at="2026-02-01T00:00:00Z")
    async with one_under_way(world, group, writes, 1) as first:
        later = asking(group, world, 8)
        await settled()
        await world.turn("2026-02-01")
        answers = await writes.let_all_go(first, *later)
    assert [one["allowed"] for one in answers] == [True, False]
    assert answers[1]["remaining"] == 4.5
    await audit(world)


async def test_budgets_and_holds_count_for_who_is_decided_ahead(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world)
    await world.an_entity("bot")
    where = "/api/v1/customers/acme/entities/bot/budgets/run"
    await world.call("PUT", where, {"limit": 5}, headers={"Idempotency-Key": "budget"})
    async with one_under_way(world, group, writes, 2, entity="bot") as first:
        later = asking(group, world, 2, 2, 0.5, entity="bot")
        await settled()
        answers = await writes.let_all_go(first, *later)
    assert [one["allowed"] for one in answers] == [True, True, False, True]
    assert answers[2]["reason"] == "budget_exceeded"
    used = await world.fetch(
        """select u.used from credit_budget_usage u join credit_budgets b on b.org_id = u.org_id and b.id = u.budget_id
           where b.org_id = $1"""
    )
    assert [row["used"] for row in used] == [5]
    await audit(world)


async def test_who_has_more_to_do_waits_behind_who_was_decided_ahead(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    """The order of arrival is kept where an account leaves for a lane."""
    await with_credits(world, 10)
    done: list[str] = []

    async def note(tx: Tx, _deduction: object) -> None:
        done.append("also")

    async with one_under_way(world, group, writes, 1) as first:
        later = asking(group, world, 2)
        more = asking(group, world, 3, also=note)
        last = asking(group, world, 4)
        answers = await writes.let_all_go(first, *later, *more, *last)
    assert [(one["allowed"], one["remaining"]) for one in answers] == [
        (True, 8.5),
        (True, 6.5),
        (True, 3.5),
        (False, 3.5),
    ]
    assert done == ["also"]
    await audit(world)


async def test_a_server_that_stops_tells_whoever_was_decided_ahead(
    world: World, group: GroupCommit, writes: Writes
) -> None:
    await with_credits(world)
    async with one_under_way(world, group, writes, 1) as first:
        later = asking(group, world, 1)
        await settled()
        for task in list(group._tasks):
            task.cancel()
        async with asyncio.timeout(5):
            answers = await asyncio.gather(first, *later, return_exceptions=True)
    assert [type(one) for one in answers] == [Unavailable, Unavailable]
    assert (await world.balance("acme")) == 99.5
    await audit(world)


async def test_who_is_told_that_the_server_stops_has_nothing_written_later(
    world: World, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided and not sent: the copy goes with it."""
    await with_credits(world)
    await take(group, world, 1)
    reached = asyncio.Event()

    async def replan(_connection: object, _rows: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(database._Connection, "replan", replan)
        call = asyncio.create_task(take(group, world, 10))
        await reached.wait()
        for task in list(group._tasks):
            task.cancel()
        [told] = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(told, Unavailable)
    assert (await take(group, world, 1))["remaining"] == 98
    await audit(world)


async def test_who_waited_for_a_key_comes_to_the_queue_that_all_others_wait_in(
    world: World, other_world: World, group: GroupCommit, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M04: of an organization there is one batch at a time, also where a queue that nobody waits in is forgotten in between:
    two would be decided over one copy of an account."""
    monkeypatch.setattr(group_commit, "KEPT_ORGANIZATIONS", 1)
    await with_credits(world)
    await other_world.a_customer("theirs")
    await other_world.grant("theirs", 10)
    await writes.let_all_go(*asking(group, world, 1))

    def refuse(_book: Book | None, _now: datetime) -> Deduction:
        raise RuleBroken("no", code="no")

    [first] = asking(
        group, world, 1, key="k", decide=refuse
    )  # not kept, so that the second is decided itself
    await writes.held_up()
    theirs: list[Call] = []
    [done] = group._keys.values()
    done.add_done_callback(lambda _: theirs.extend(asking(group, other_world, 1, customer="theirs")))
    [second] = asking(group, world, 5, key="k")
    await settled()
    await writes.let_go()
    with pytest.raises(RuleBroken):
        await first
    await writes.held_up(2)
    [third] = asking(group, world, 7)
    await asyncio.sleep(0.2)
    assert len(writes.gates) == 2
    answers = await writes.let_all_go(second, third, *theirs)
    assert [one["remaining"] for one in answers] == [94, 87, 9]
    await audit(world)
