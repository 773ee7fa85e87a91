"""What falls due is done in order and once, however many drainers there are."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from nozle_server.core.ids import new_id
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx

pytestmark = pytest.mark.database

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = ("activation", "period_end", "grant_expiry")


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[Tx]:
    """A transaction that leaves nothing behind."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


async def an_organization(tx: Tx, *, test_now: datetime | None = None) -> UUID:
    org_id = new_id()
    await tx.execute(
        """
        insert into organizations (id, name, mode, test_now, created_at) values ($1, 'Acme', 'test', $2, $3)
        """,
        org_id,
        test_now,
        NOON,
    )
    return org_id


async def schedule(
    tx: Tx, org_id: UUID, due_at: datetime, kind: str = "period_end", subject_id: UUID | None = None
) -> None:
    await due.schedule(
        tx, org_id=org_id, kind=kind, subject_id=subject_id or new_id(), due_at=due_at, now=NOON
    )


async def jobs_of(tx: Tx, org_id: UUID) -> list[datetime]:
    rows = await tx.fetch(
        "select execute_after from pgqueuer where entrypoint = 'drain_due' and payload = $1 order by 1",
        org_id.bytes,
    )
    return [row["execute_after"] for row in rows]


async def test_items_come_by_instant_then_by_rank_of_their_kind_then_by_id(tx: Tx) -> None:
    org_id, other = await an_organization(tx), await an_organization(tx)
    first_subject, second_subject = new_id(), new_id()
    await schedule(tx, org_id, NOON + HOUR, "activation")
    await schedule(tx, org_id, NOON, "grant_expiry")
    await schedule(tx, org_id, NOON, "period_end", first_subject)
    await schedule(tx, org_id, NOON, "period_end", second_subject)
    await schedule(tx, org_id, NOON, "of a newer release")  # and so left alone
    await schedule(tx, org_id, NOON + 2 * HOUR, "activation")
    await schedule(tx, other, NOON - HOUR)

    done = []
    while item := await due.next_due(tx, org_id, NOON + HOUR, kinds=KINDS):
        done.append((item.due_at, item.kind))
        if item.kind == "period_end":
            assert item.subject_id == (first_subject if len(done) == 1 else second_subject)
        await due.finish(tx, item)
    assert done == [
        (NOON, "period_end"),
        (NOON, "period_end"),
        (NOON, "grant_expiry"),
        (NOON + HOUR, "activation"),
    ]


async def test_scheduling_twice_is_scheduling_once(tx: Tx) -> None:
    org_id, subject_id = await an_organization(tx), new_id()
    for _ in range(2):
        await schedule(tx, org_id, NOON, "period_end", subject_id)
    item = await due.next_due(tx, org_id, NOON, kinds=KINDS)
    assert item is not None
    await due.finish(tx, item)
    assert await due.next_due(tx, org_id, NOON, kinds=KINDS) is None


async def test_what_is_due_at_one_instant_shares_one_job(tx: Tx) -> None:
    org_id, other = await an_organization(tx), await an_organization(tx)
    for _ in range(50):
        await schedule(tx, org_id, NOON)
    await schedule(tx, org_id, NOON + HOUR)
    await schedule(tx, other, NOON)
    assert await jobs_of(tx, org_id) == [NOON, NOON + HOUR]
    assert await jobs_of(tx, other) == [NOON]


async def test_a_test_clock_needs_no_job_and_no_sweep(tx: Tx) -> None:
    real, on_test_clock = await an_organization(tx), await an_organization(tx, test_now=NOON)
    for org_id in (real, on_test_clock):
        await schedule(tx, org_id, NOON)
    assert await jobs_of(tx, on_test_clock) == []
    due_in_real_time = await due.organizations_due(tx, NOON)
    assert real in due_in_real_time
    assert on_test_clock not in due_in_real_time
    assert real not in await due.organizations_due(tx, NOON - HOUR)


async def test_the_sweep_enqueues_one_job_for_all_that_is_overdue(tx: Tx) -> None:
    org_id = await an_organization(tx)
    for hours in range(3):
        await schedule(tx, org_id, NOON + hours * HOUR)
    await tx.execute("delete from pgqueuer where payload = $1", org_id.bytes)
    for _ in range(2):
        await due.enqueue_overdue(tx, NOON + HOUR)
    assert len(await jobs_of(tx, org_id)) == 1


async def test_drainers_take_turns_in_order_and_do_nothing_twice(database: Database) -> None:
    """Each item schedules the next of its subject, so the first one changes while another drainer waits."""
    periods = 12
    async with database.transaction() as tx:
        org_id = await an_organization(tx, test_now=NOON)
        for minutes in range(5):
            await schedule(tx, org_id, NOON + timedelta(minutes=minutes))
    done: list[tuple[datetime, UUID]] = []

    async def drain_one() -> bool:
        async with database.transaction() as tx:
            item = await due.next_due(tx, org_id, NOON + periods * HOUR, kinds=KINDS)
            if item is None:
                return False
            done.append((item.due_at, item.subject_id))
            await asyncio.sleep(0.001)
            await schedule(tx, org_id, item.due_at + HOUR, item.kind, item.subject_id)
            await due.finish(tx, item)
            return True

    async def drain() -> None:
        while await drain_one():
            pass

    await asyncio.gather(*(drain() for _ in range(4)))
    assert len(done) == len(set(done)), "nothing is done twice"
    assert done == sorted(done), "everything is done in order"
