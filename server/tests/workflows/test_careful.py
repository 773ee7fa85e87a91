"""What is done again after a worker died: alone, so that nothing is blamed for what another did."""

import asyncio
from datetime import timedelta

import pytest

from nozle_server.bootstrap import Services
from nozle_server.core.ids import new_id
from nozle_server.identity.model import Mode
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.due import DueItem
from nozle_server.infra.seams import Seams
from nozle_server.workflows import drain_due
from world import Client, World, open_world

pytestmark = pytest.mark.database

KIND = drain_due.EXPIRE_GRANT


async def _an_item(world: World, tries: int) -> None:
    now = world.services.clock.now()

    async def schedule(tx: Tx) -> None:
        await due.schedule(
            tx,
            org_id=world.org_id,
            kind=KIND,
            subject_id=new_id(),
            due_at=now - timedelta(seconds=1),
            now=now,
        )

    await world.database.run(schedule)
    async with world.database.transaction() as tx:
        await tx.execute("update due_items set tries = $2 where org_id = $1", world.org_id, tries)


async def _tries(world: World) -> list[int]:
    return [row["tries"] for row in await world.fetch("select tries from due_items where org_id = $1")]


@pytest.fixture
async def worlds(client: Client, services: Services) -> list[World]:
    return [await open_world(client, services, Mode.LIVE) for _ in range(2)]


async def _drain_both(worlds: list[World]) -> list[int]:
    suspects = asyncio.Lock()
    return await asyncio.gather(
        *(
            drain_due.drain_due(
                one.database,
                one.services.seams,
                org_id=one.org_id,
                until=one.services.clock.now(),
                careful=suspects,
            )
            for one in worlds
        )
    )


async def test_of_items_that_a_worker_died_over_one_is_begun_at_a_time(
    worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is not even counted as begun: it would not be to blame for this one's end."""
    seen: list[list[int]] = []

    async def handle(tx: Tx, seams: Seams, item: DueItem) -> None:
        [other] = [one for one in worlds if one.org_id != item.org_id]
        await tx.execute("select pg_sleep(0.3)")  # long enough for the other one to begin, if it may
        seen.append(await _tries(other))

    monkeypatch.setitem(drain_due.HANDLERS, KIND, handle)  # type: ignore[misc]
    for one in worlds:
        await _an_item(one, tries=1)
    assert await _drain_both(worlds) == [1, 1]
    assert seen == [[1], []]


async def test_items_that_are_done_for_the_first_time_wait_for_nobody(
    worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = asyncio.Barrier(2)

    async def handle(tx: Tx, seams: Seams, item: DueItem) -> None:
        async with asyncio.timeout(20):
            await both.wait()

    monkeypatch.setitem(drain_due.HANDLERS, KIND, handle)  # type: ignore[misc]
    for one in worlds:
        await _an_item(one, tries=0)
    assert await _drain_both(worlds) == [1, 1]
