"""What is kept of a customer: read once, gone with its change, never another's, and never believed without reason."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from nozle_server.core.errors import Unavailable
from nozle_server.core.standing import FOR_NOW
from nozle_server.entitlements import snapshots as module
from nozle_server.entitlements.news import ENTITLEMENTS_CHANGED, USAGE_COUNTED
from nozle_server.entitlements.snapshots import Snapshots
from nozle_server.infra.change_bus import LEASE_S, Change, Gap, PostgresChangeBus
from nozle_server.infra.database import Database
from world import World

pytestmark = pytest.mark.database


class Reads:
    """Counts the statements about customers and organizations, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.customers: list[str] = []
        self.organizations: list[UUID] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        read_customer, read_organization = module.read_customer, module.read_organization

        async def customer(tx: Any, organization: Any, external_id: str) -> Any:
            self.customers.append(external_id)
            if self.fault:
                raise self.fault
            found = await read_customer(tx, organization, external_id)
            await self.gate.wait()
            return found

        async def organization(tx: Any, org_id: UUID) -> Any:
            self.organizations.append(org_id)
            return await read_organization(tx, org_id)

        monkeypatch.setattr(module, "read_customer", customer)
        monkeypatch.setattr(module, "read_organization", organization)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def kept(database: Database) -> Iterator[Snapshots]:
    """A process's snapshots of its own, whose news are trusted."""
    bus = PostgresChangeBus(database)
    bus.lease.until = FOR_NOW
    yield Snapshots(database, bus, kept_at_most=100)
    bus.lease.until = 0.0


async def a_subscriber(world: World, *customers: str) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(entitlements={"chat": {"limit": 10}})
    for customer in customers or ("acme",):
        await world.a_customer(customer)
        await world.subscribe(customer, "pro")


async def test_a_miss_is_one_query_and_a_hit_is_none(world: World, kept: Snapshots, reads: Reads) -> None:
    await a_subscriber(world, "acme", "other")
    for customer in ("acme", "other", "acme", "other"):
        assert (await kept.get(world.org_id, customer)).customer_id is not None
    assert reads.customers == ["acme", "other"]
    assert reads.organizations == [world.org_id]


async def test_that_nobody_has_an_id_is_known_too_until_somebody_has(
    world: World, kept: Snapshots, reads: Reads
) -> None:
    for _ in range(2):
        assert (await kept.get(world.org_id, "acme")).customer_id is None
    assert reads.customers == ["acme"]
    await a_subscriber(world)
    assert len((await kept.get(world.org_id, "acme")).subscriptions) == 1


async def test_however_many_ask_one_reads(world: World, kept: Snapshots, reads: Reads) -> None:
    await a_subscriber(world)
    found = await asyncio.gather(*[kept.get(world.org_id, "acme") for _ in range(200)])
    assert len({id(one) for one in found}) == 1
    assert (reads.customers, reads.organizations) == (["acme"], [world.org_id])


async def test_who_hangs_up_takes_the_answer_from_nobody(world: World, kept: Snapshots, reads: Reads) -> None:
    await a_subscriber(world)
    reads.gate.clear()
    leaving, staying = [asyncio.create_task(kept.get(world.org_id, "acme")) for _ in range(2)]
    await asyncio.sleep(0.05)
    leaving.cancel()
    reads.gate.set()
    assert (await staying).customer_id is not None


async def test_what_was_read_before_a_change_is_kept_for_nobody(
    world: World, kept: Snapshots, reads: Reads
) -> None:
    """The reading began before the commit and ends after it: whoever asks after the commit reads anew."""
    await a_subscriber(world)
    reads.gate.clear()
    early = asyncio.create_task(kept.get(world.org_id, "acme"))
    await _until(lambda: bool(reads.customers))
    await asyncio.sleep(0.05)  # it has read, and waits
    await world.use("acme", 7)
    late = asyncio.create_task(kept.get(world.org_id, "acme"))
    await asyncio.sleep(0)
    reads.gate.set()
    await early
    [counters] = (await late).subscriptions[0].counters.values()
    assert counters[0][1] == 7
    assert kept.peek(world.org_id, "acme") is late.result()


@pytest.mark.parametrize("kind", [ENTITLEMENTS_CHANGED, USAGE_COUNTED])
async def test_news_of_one_customer_leave_the_others_alone(
    world: World, kept: Snapshots, reads: Reads, kind: str
) -> None:
    await a_subscriber(world, "acme", "other")
    before = [await kept.get(world.org_id, one) for one in ("acme", "other")]
    kept.hear(Change(world.org_id, kind, "acme", {"external_customer_id": "acme"}))
    assert [one.standing.until for one in before] == [0.0, FOR_NOW]
    assert (kept.peek(world.org_id, "acme"), kept.peek(world.org_id, "other")) == (None, before[1])


async def test_news_of_an_organization_and_gaps_are_everybodys(
    world: World, other_world: World, kept: Snapshots, reads: Reads
) -> None:
    await a_subscriber(world)
    await a_subscriber(other_world)
    ours, theirs = await kept.get(world.org_id, "acme"), await kept.get(other_world.org_id, "acme")
    kept.hear(Change(world.org_id, ENTITLEMENTS_CHANGED, "plan"))
    assert kept.peek(world.org_id, "acme") is None
    assert ours.organization.standing.until == 0
    assert kept.peek(other_world.org_id, "acme") is theirs
    kept.hear(Gap())
    assert kept.peek(other_world.org_id, "acme") is None


async def test_news_of_something_else_drop_nothing(world: World, kept: Snapshots, reads: Reads) -> None:
    await a_subscriber(world)
    found = await kept.get(world.org_id, "acme")
    kept.hear(Change(world.org_id, "invoice.created", "x", {"external_customer_id": "acme"}))
    assert kept.peek(world.org_id, "acme") is found


async def test_while_no_news_can_be_trusted_the_database_answers_each_time(
    world: World, database: Database, reads: Reads
) -> None:
    await a_subscriber(world)
    now = 1000.0
    bus = PostgresChangeBus(database)
    kept = Snapshots(database, bus, kept_at_most=100, monotonic=lambda: now)
    for _ in range(2):
        await kept.get(world.org_id, "acme")
    assert reads.customers == ["acme"] * 2
    assert kept.peek(world.org_id, "acme") is None
    bus.lease.until = now + LEASE_S
    for _ in range(2):
        await kept.get(world.org_id, "acme")
    assert reads.customers == ["acme"] * 3
    now += LEASE_S
    await kept.get(world.org_id, "acme")
    assert reads.customers == ["acme"] * 4


async def test_the_lease_is_renewed_by_looking_and_a_silence_distrusts_everything(
    world: World, database: Database, reads: Reads
) -> None:
    await a_subscriber(world)
    bus = PostgresChangeBus(database)
    kept = Snapshots(database, bus, kept_at_most=100)
    running = asyncio.create_task(bus.run())
    try:
        await _until(lambda: bus.lease.until > 0)
        found = await kept.get(world.org_id, "acme")
        assert kept.peek(world.org_id, "acme") is found
        bus.lease.until = 0.0  # as after a long pause of the process
        await _until(lambda: bus.lease.until > 0)
        assert kept.peek(world.org_id, "acme") is None
    finally:
        running.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_another_process_hears_of_it(world: World, database: Database, reads: Reads) -> None:
    await a_subscriber(world)
    other = await Database.connect(database.url, connections=2)
    bus = PostgresChangeBus(other)
    kept = Snapshots(other, bus, kept_at_most=100)
    running = asyncio.create_task(bus.run())
    try:
        await _until(lambda: bus.lease.until > 0)
        found = await kept.get(world.org_id, "acme")
        await world.use("acme", 1)
        await _until(lambda: found.standing.until == 0)
        [counters] = (await kept.get(world.org_id, "acme")).subscriptions[0].counters.values()
        assert counters[0][1] == 1
    finally:
        running.cancel()
        await other.close()


async def test_what_cannot_be_told_is_never_allowed(world: World, kept: Snapshots, reads: Reads) -> None:
    await a_subscriber(world)
    reads.fault = asyncpg.CannotConnectNowError("gone")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await kept.get(world.org_id, "acme")
    reads.fault = None
    assert (await kept.get(world.org_id, "acme")).customer_id is not None, "a fault is not kept"


async def test_there_is_room_for_so_many(world: World, database: Database, reads: Reads) -> None:
    bus = PostgresChangeBus(database)
    bus.lease.until = FOR_NOW
    kept = Snapshots(database, bus, kept_at_most=3)
    first = await kept.get(world.org_id, "c0")
    for n in range(1, 5):
        await kept.get(world.org_id, f"c{n}")
    assert len(kept) == 3
    assert first.standing.until == 0, "what is not kept hears no news"
    assert kept.peek(world.org_id, "c4") is not None
    bus.lease.until = 0.0


async def test_equal_ids_of_two_tenants_never_meet(
    world: World, other_world: World, kept: Snapshots, reads: Reads
) -> None:
    await a_subscriber(world)

    found = await asyncio.gather(*[kept.get(one.org_id, "acme") for one in (world, other_world) * 50])
    assert {len(one.subscriptions) for one in found[::2]} == {1}
    assert {one.customer_id for one in found[1::2]} == {None}


async def test_what_refers_to_an_organization_as_it_was_is_freed(
    world: World, other_world: World, kept: Snapshots, reads: Reads
) -> None:
    for n in range(50):
        await kept.get(world.org_id, f"c{n}")
    theirs = await kept.get(other_world.org_id, "c0")
    kept.hear(Change(world.org_id, ENTITLEMENTS_CHANGED, "plan"))
    await _until(lambda: len(kept) == 1)
    assert kept.peek(other_world.org_id, "c0") is theirs
