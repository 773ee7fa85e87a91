"""Deductions decided and written together: in order of arrival, exactly once, on what is true at that moment, also when
several processes (here: group commits over one database) decide over the same accounts."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest

from deductions import take, with_credits
from nozle_server.core.errors import Conflict, NotFound, RuleBroken, Unavailable
from nozle_server.credits import entry_writes, group_commit
from nozle_server.credits.book import Book
from nozle_server.credits.entry_writes import Statement
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.credits.model import Deduction
from nozle_server.credits.spending import Spending, deduct
from nozle_server.infra.database import Database, Tx
from world import World, audit

pytestmark = pytest.mark.database


@pytest.fixture
def group(world: World) -> GroupCommit:
    """The process under test."""
    return world.services.group_commit


@pytest.fixture
def other(world: World) -> GroupCommit:
    """Another process on the same database."""
    return GroupCommit(world.database.reserve, world.services.bus)


@asynccontextmanager
async def held(world: World, customer: str = "acme") -> AsyncIterator[None]:
    """Somebody holds the row of a customer's account."""
    connection = await asyncpg.connect(world.database.url)
    try:
        await connection.execute("begin")
        await connection.execute(
            """select from credit_accounts a join customers c on c.org_id = a.org_id and c.id = a.customer_id
               where a.org_id = $1 and c.external_id = $2 for update of a""",
            world.org_id,
            customer,
        )
        yield
    finally:
        await connection.close()


async def test_what_arrives_together_is_decided_in_order_of_arrival(world: World, group: GroupCommit) -> None:
    await with_credits(world)
    amounts = [1, 2, 3, 50, 60, 4]
    answers = await asyncio.gather(*(take(group, world, amount) for amount in amounts))
    left, expected = Decimal(100), []
    for amount in amounts:
        allowed = amount <= left
        left -= amount if allowed else 0
        expected.append((allowed, left))
    assert [(one["allowed"], one["remaining"]) for one in answers] == expected
    rows = await world.fetch("select -amount as a from ledger_entries where org_id = $1 order by sequence")
    assert [row["a"] for row in rows][1:] == [1, 2, 3, 50, 4]
    await audit(world)


async def test_a_batch_is_one_transaction(world: World, group: GroupCommit) -> None:
    customers = [f"c{n}" for n in range(8)]
    await with_credits(world, 10, *customers)
    await asyncio.gather(*(take(group, world, 1, customer=one) for one in customers * 5))
    counted = await world.fetch(
        """select count(distinct transaction) as n from outbox where org_id = $1 and kind = 'credits.deducted'"""
    )
    assert counted[0]["n"] <= 3  # the first goes alone, all others together
    await audit(world)


async def test_several_processes_never_take_more_than_there_is(
    world: World, group: GroupCommit, other: GroupCommit
) -> None:
    """M01: two processes, each with its own copy of the account."""
    await with_credits(world, "10")
    third = GroupCommit(world.database.reserve, world.services.bus)
    answers = await asyncio.gather(
        *(take(random.choice([group, other, third]), world, "0.1") for _ in range(150))
    )
    allowed = sorted((one["remaining"] for one in answers if one["allowed"]), reverse=True)
    assert allowed == [Decimal(10) - Decimal("0.1") * n for n in range(1, 101)]
    assert await world.balance("acme") == 0
    await audit(world)


async def test_no_decision_is_made_on_what_was_true_before(
    world: World, group: GroupCommit, other: GroupCommit
) -> None:
    """C05, C12: a copy is compared when it is used; a refusal too is only given on what is true."""
    await with_credits(world, 5)
    assert (await take(group, world, 9))["allowed"] is False
    assert (await take(other, world, 9))["allowed"] is False
    await world.grant("acme", 10)
    assert (await take(other, world, 9))["remaining"] == 6
    assert (await take(group, world, 9))["remaining"] == 6
    assert (await take(group, world, 6))["allowed"] is True
    await audit(world)


async def test_a_suspended_entity_spends_nothing_from_that_moment(
    world: World, group: GroupCommit, other: GroupCommit
) -> None:
    await with_credits(world)
    await world.an_entity("bot")
    assert (await take(group, world, 1, entity="bot"))["allowed"] is True
    assert (await take(other, world, 1, entity="bot"))["allowed"] is True
    await world.call(
        "PUT",
        "/api/v1/customers/acme/entities/bot",
        {"status": "suspended"},
        headers={"Idempotency-Key": "suspend"},
    )
    for each in (group, other):
        assert (await take(each, world, 1, entity="bot"))["reason"] == "entity_inactive"
    await audit(world)


async def test_an_entity_made_meanwhile_is_known(world: World, group: GroupCommit) -> None:
    """That there was none is remembered no longer than it is true."""
    await with_credits(world)
    with pytest.raises(NotFound) as refused:
        await take(group, world, 1, entity="late")
    assert refused.value.code == "entity_not_found"
    await world.an_entity("late")
    assert (await take(group, world, 1, entity="late"))["allowed"] is True
    await audit(world)


async def test_the_turned_clock_is_seen(world: World, group: GroupCommit) -> None:
    """M13: a copy made before the clock was turned spends nothing that has expired since."""
    await world.turn("2026-01-01")
    await with_credits(world, 5)
    await world.grant("acme", 7, expires_at="2026-02-01T00:00:00Z")
    assert (await take(group, world, 1))["remaining"] == 11
    await world.turn("2026-02-01")
    assert (await take(group, world, 6))["allowed"] is False
    assert (await take(group, world, 5))["remaining"] == 0
    await audit(world)


async def test_a_deleted_customer_is_nobody(world: World, group: GroupCommit) -> None:
    await with_credits(world)
    await take(group, world, 1)
    await world.call("DELETE", "/core/api/v1/customers/acme")
    with pytest.raises(NotFound) as refused:
        await take(group, world, 1)
    assert refused.value.code == "customer_not_found"
    await audit(world)


async def test_a_held_account_stops_its_own_customer_alone(world: World, group: GroupCommit) -> None:
    """M10: the others are answered while the row is held; who waits too long has taken nothing."""
    await with_credits(world, 100, "acme", "globex")
    await take(group, world, 1)
    async with held(world):
        waiting = [asyncio.ensure_future(take(group, world, 1)) for _ in range(30)]
        await asyncio.sleep(0)
        for _ in range(20):
            assert (await take(group, world, 1, customer="globex"))["allowed"] is True
        assert not any(one.done() for one in waiting)
        refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in refused} == {Unavailable}
    assert {one.code for one in refused} == {"lock_timeout"}  # type: ignore[union-attr]
    assert (await take(group, world, 1))["remaining"] == 98
    await audit(world)


async def test_who_waits_for_a_held_account_goes_on_when_it_is_free(world: World, group: GroupCommit) -> None:
    await with_credits(world)
    await take(group, world, 1)
    async with held(world):
        waiting = [asyncio.ensure_future(take(group, world, 1)) for _ in range(10)]
        await asyncio.sleep(0.3)
    assert [(await one)["remaining"] for one in waiting] == [Decimal(98 - n) for n in range(10)]
    await audit(world)


async def test_more_held_accounts_than_lanes_leave_the_others_alone(world: World, group: GroupCommit) -> None:
    customers = [f"held{n}" for n in range(6)]
    await with_credits(world, 10, "free", *customers)
    for one in customers:
        await take(group, world, 1, customer=one)
    async with AsyncExitStack() as stack:
        for one in customers:
            await stack.enter_async_context(held(world, one))
        waiting = [asyncio.ensure_future(take(group, world, 1, customer=one)) for one in customers]
        await asyncio.sleep(0.1)
        assert (await take(group, world, 1, customer="free"))["allowed"] is True
        refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in refused} == {Unavailable}
    await audit(world)


async def test_what_is_refused_or_fails_fails_alone(world: World, group: GroupCommit) -> None:
    await with_credits(world)

    def refuse(_book: Book | None, _now: datetime) -> Deduction:
        raise RuleBroken("no", code="no")

    async def fail(tx: Tx, _deduction: Deduction) -> None:
        await tx.execute("select 1 / 0")

    answers = await asyncio.gather(
        take(group, world, 1),
        take(group, world, 1, decide=refuse),
        take(group, world, 1, also=fail),
        take(group, world, 1),
        take(group, world, 1, customer="nobody"),
        return_exceptions=True,
    )
    kinds = [type(one) for one in answers]
    assert kinds == [dict, RuleBroken, asyncpg.DivisionByZeroError, dict, NotFound]
    assert await world.balance("acme") == 98
    await audit(world)


async def test_a_fault_of_ours_takes_no_neighbour_along(world: World, group: GroupCommit) -> None:
    """A decision that breaks down fails alone: nothing was written when it did."""
    await with_credits(world, 100, "acme", "globex")

    def break_down(_book: Book | None, _now: datetime) -> Deduction:
        raise ZeroDivisionError

    answers = await asyncio.gather(
        take(group, world, 1, customer="globex"),
        take(group, world, 1),
        take(group, world, 1, decide=break_down),
        take(group, world, 1),
        take(group, world, 1, customer="globex"),
        return_exceptions=True,
    )
    assert [type(one) for one in answers] == [dict, dict, ZeroDivisionError, dict, dict]
    assert (await world.balance("acme"), await world.balance("globex")) == (98, 98)
    await audit(world)


async def test_what_was_refused_is_not_decided_afterwards(world: World) -> None:
    """Who was told that the database cannot be had has taken nothing, also when it comes back."""
    await with_credits(world)
    database = await Database.connect(world.database.url, connections=1)
    group = GroupCommit(database, world.services.bus)
    await database.close()
    refused = await asyncio.gather(*(take(group, world, 1) for _ in range(5)), return_exceptions=True)
    assert {type(one) for one in refused} == {Unavailable}
    group._database = world.database.reserve  # it is back
    assert (await take(group, world, 1))["remaining"] == 99
    await audit(world)


async def test_a_row_that_the_database_refuses_takes_no_neighbour_along(
    world: World, group: GroupCommit
) -> None:
    """A batch that failed is done again one account at a time."""
    await with_credits(world, 100, "acme", "globex")

    def too_much(book: Book | None, now: datetime) -> Deduction:
        assert book is not None
        made = deduct(book, Spending(Decimal(1), "chat"), now)
        wrong = replace(
            book.changes.entries[-1], balance_after=Decimal(-1)
        )  # no arithmetic of ours comes to it
        book.changes.entries[-1] = wrong
        return made

    answers = await asyncio.gather(
        take(group, world, 1),
        *(take(group, world, 1, customer="globex") for _ in range(3)),
        take(group, world, 1, decide=too_much),
        return_exceptions=True,
    )
    assert isinstance(answers[-1], Exception)
    assert all(isinstance(one, dict) and one["allowed"] for one in answers[:-1])
    assert (await world.balance("acme"), await world.balance("globex")) == (99, 97)
    await audit(world)


async def test_a_lost_connection_leaves_whole_deductions(world: World, group: GroupCommit) -> None:
    """M07: what was not acknowledged is there as a whole or not at all, and the next call goes on."""
    await with_credits(world)
    acknowledged = 0
    for _ in range(5):
        calls = [asyncio.ensure_future(take(group, world, 1)) for _ in range(10)]
        await asyncio.sleep(random.random() * 0.01)
        async with world.database.as_owner() as owner:
            await owner.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
                   and pid <> pg_backend_pid() and query like '%ledger_entries%'"""
            )
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in done} <= {dict, Unavailable}
        acknowledged += sum(isinstance(one, dict) for one in done)
    taken = 100 - await world.balance("acme")
    assert acknowledged <= taken <= 50
    assert (await take(group, world, 1))["remaining"] == 99 - taken
    await audit(world)


async def test_a_key_is_one_effect_in_every_process(
    world: World, group: GroupCommit, other: GroupCommit
) -> None:
    """M04, M05: also sent at once to two processes, and for another account at the same moment."""
    await with_credits(world, 100, "acme", "globex")
    answers = await asyncio.gather(
        *(take(random.choice([group, other]), world, 5, key="once") for _ in range(20)),
        return_exceptions=True,
    )
    told = [one for one in answers if isinstance(one, dict)]
    assert len(told) == 20
    assert {one["remaining"] for one in told} == {Decimal(95)}
    assert sum(not one["replayed"] for one in told) == 1
    for each in (group, other):
        with pytest.raises(Conflict):
            await take(each, world, 6, key="once")
    races = await asyncio.gather(
        *(
            take(process, world, 1, key=f"race{n}", customer=customer)
            for n in range(10)
            for process, customer in ((group, "acme"), (other, "globex"))
        )
    )
    assert sum(not one["replayed"] for one in races) == 10
    left = await world.balance("acme") + await world.balance("globex")
    assert left == 95 + 100 - 10
    await audit(world)


async def test_a_refusal_is_kept_with_its_key(world: World, group: GroupCommit) -> None:
    """A denial too is one answer, also for a customer who never had credits; credits that come later change nothing."""
    await world.a_customer()
    first = await take(group, world, 5, key="none")
    await world.grant("acme", 3)
    second = await take(group, world, 5, key="some")
    await world.grant("acme", 100)
    assert (await take(group, world, 5, key="none")) == {**first, "replayed": True}
    assert (await take(group, world, 5, key="some")) == {**second, "replayed": True}
    assert (first["allowed"], first["remaining"]) == (False, 0)
    assert (second["allowed"], second["remaining"]) == (False, 3)
    await audit(world)


async def test_a_feature_spends_on_the_system_it_belongs_to_now(world: World, group: GroupCommit) -> None:
    await with_credits(world)
    await take(group, world, 1, feature="images")
    made = {
        "credit_system": {"code": "pixels", "name": "Pixels", "unit_name": "pixel", "features": ["images"]}
    }
    await world.post("/core/api/v1/credit-systems", made)
    assert (await take(group, world, 1, feature="images"))["allowed"] is False
    assert (await take(group, world, 1, feature="chat"))["remaining"] == 98
    with pytest.raises(NotFound) as refused:
        await take(group, world, 1, credit_system="nothing")
    assert refused.value.code == "credit_system_not_found"
    await audit(world)


async def test_one_who_hangs_up_takes_nothing_back(world: World, group: GroupCommit) -> None:
    """M08: whole deductions, and nothing is held afterwards."""
    await with_credits(world)
    calls = [asyncio.ensure_future(take(group, world, 1)) for _ in range(40)]
    await asyncio.sleep(0.001)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = sum(isinstance(one, dict) for one in done)
    await group.close()
    taken = 100 - await world.balance("acme")
    assert acknowledged <= taken <= 40
    assert (await take(group, world, 1))["remaining"] == 99 - taken
    await audit(world)


_WRITTEN = """
select a.version, a.balance, a.last_sequence, a.granted, a.consumed, a.expired, a.voided, a.held, a.refunded, a.adjusted,
    a.transferred, a.receivable, e.sequence, e.type, e.amount, e.balance_after, e.feature, e.description, e.entity_id,
    e.hold_id, e.refunds_id, l.amount as drawn, g.remaining, o.kind, o.origin, o.subject = a.customer_id::text as told,
    o.payload - 'entry_id' as payload, o.payload ->> 'entry_id' = e.id::text as named, o.id = e.id as same,
    k.operation, k.request_hash, k.status, k.response, k.ledger
from credit_accounts a
join customers c on c.org_id = a.org_id and c.id = a.customer_id
join ledger_entries e on e.org_id = a.org_id and e.account_id = a.id
join ledger_allocations l on l.org_id = e.org_id and l.entry_id = e.id
join credit_grants g on g.org_id = l.org_id and g.id = l.grant_id
join outbox o on o.org_id = e.org_id and o.payload ->> 'entry_id' = e.id::text
left join idempotency_keys k on k.org_id = a.org_id and k.operation = 'test' and k.key = c.external_id
where a.org_id = $1 and c.external_id = $2 order by e.sequence
"""


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_deduction_alone_writes_what_one_of_a_batch_writes(
    world: World, group: GroupCommit, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    """The statement for one and the statement for many leave the same rows behind."""
    await with_credits(world, "12.5", "alone", "batch")
    await world.an_entity("bot", customer="alone")
    await world.an_entity("bot", customer="batch")
    for customer in ("alone", "batch"):
        if customer == "batch":
            monkeypatch.setattr(entry_writes, "_is_one_deduction", lambda _changes: False)
        for number in range(3):
            key = customer if keyed and number == 0 else None
            await take(group, world, "1.25", customer=customer, key=key, feature='say "no"\\')
        await take(group, world, 100, customer=customer)
    alone = [dict(row) for row in await world.fetch(_WRITTEN, "alone")]
    batch = [dict(row) for row in await world.fetch(_WRITTEN, "batch")]
    assert len(alone) == 4
    assert alone == batch
    await audit(world)


async def test_a_refusal_without_an_account_is_true(world: World, group: GroupCommit) -> None:
    """The label may belong to a system that was made since the process last looked."""
    await with_credits(world)
    await take(group, world, 1)
    await world.a_customer("late")
    pixels = {"code": "pixels", "name": "Pixels", "unit_name": "pixel", "features": ["images"]}
    await world.post("/core/api/v1/credit-systems", {"credit_system": pixels})
    await world.grant("late", 50, credit_system="pixels")
    assert (await take(group, world, 1, customer="late", feature="images", key="first"))["remaining"] == 49
    await audit(world)


async def test_a_zone_that_changed_is_known_also_when_the_queue_was_forgotten(
    world: World, other_world: World, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget's day begins anew by the zone of now."""
    monkeypatch.setattr(group_commit, "KEPT_ORGANIZATIONS", 1)
    await world.turn("2026-01-01T23:30:00Z")
    await with_credits(world)
    await other_world.a_customer("theirs")
    await world.an_entity("bot")
    where = "/api/v1/customers/acme/entities/bot/budgets/day"
    await world.call("PUT", where, {"limit": 5}, headers={"Idempotency-Key": "budget"})
    assert (await take(group, world, 5, entity="bot"))["allowed"]
    assert not (await take(group, world, 1, entity="bot"))["allowed"]
    await take(group, other_world, 1, customer="theirs")
    await world.settings(timezone="Europe/Berlin")
    assert (await take(group, world, 1, entity="bot"))["allowed"]
    await audit(world)


async def test_a_commit_in_doubt_is_told_as_such(
    world: World, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C08: what this process keeps of the customer is not to be trusted then."""
    await with_credits(world)
    await take(group, world, 1)
    doubts: list[bool] = []
    group._database.on_doubt(lambda: doubts.append(True))
    real = entry_writes.write

    async def write(tx: Tx, statement: Statement) -> set[UUID]:
        await real(tx, statement)
        raise asyncpg.ConnectionDoesNotExistError("gone after the commit")

    with monkeypatch.context() as patched:
        patched.setattr(entry_writes, "write", write)
        with pytest.raises(Unavailable):
            await take(group, world, 5)
    assert doubts
    assert await world.balance("acme") == 94
