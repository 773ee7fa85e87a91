"""Every process hears of every committed change, once, however commits interleave and connections die."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from uuid import UUID

import asyncpg
import pytest

from nozle_server.core.ids import new_id
from nozle_server.infra.change_bus import (
    CHANNEL,
    Change,
    Gap,
    PostgresChangeBus,
    Publication,
    write_publications,
)
from nozle_server.infra.database import Database, prepare_connection
from nozle_server.infra.subscription import Subscription
from nozle_server.infra.wake_ups import PAUSE_S

pytestmark = pytest.mark.database

ORG_ID = new_id()


@asynccontextmanager
async def running(*buses: PostgresChangeBus) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(bus.run()) for bus in buses]
    await asyncio.sleep(0.2)  # until they listen; nothing is lost before, but the tests below measure times
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Ear:
    """Listens to a bus and remembers what it heard."""

    def __init__(self, bus: PostgresChangeBus) -> None:
        self.changes: list[Change] = []
        self.gaps = 0
        self._heard = asyncio.Event()
        self._task = asyncio.create_task(self._listen(bus.subscribe()))

    async def _listen(self, news: AsyncIterator[Change | Gap]) -> None:
        async for each in news:
            if isinstance(each, Gap):
                self.gaps += 1
            else:
                self.changes.append(each)
                self._heard.set()

    def subjects(self) -> list[str]:
        return [change.subject for change in self.changes]

    async def until_heard(self, count: int, *, timeout_s: float = 5) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.changes) < count:
                await self._heard.wait()
                self._heard.clear()


@pytest.fixture
async def elsewhere(fresh_database: Database) -> AsyncIterator[Database]:
    """The same database as another process sees it."""
    other = await Database.connect(fresh_database.url, connections=8)
    yield other
    await other.close()


def a_change(subject: str, *, org_id: UUID = ORG_ID) -> Change:
    return Change(org_id, "plan_changed", subject, {"price": 12})


async def publish(database: Database, bus: PostgresChangeBus, subject: str, *, pause_s: float = 0) -> None:
    async with database.transaction() as tx:
        await bus.publish(tx, a_change(subject))
        await asyncio.sleep(pause_s)


async def test_the_own_process_hears_right_after_the_commit(fresh_database: Database) -> None:
    bus = PostgresChangeBus(fresh_database)
    news = bus.subscribe()
    assert await anext(news) == Gap()
    async with fresh_database.transaction() as tx:
        await bus.publish(tx, a_change("pro"))
    heard = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0)
    assert heard.done(), "without `run`, and before anything else gets its turn"
    assert heard.result() == a_change("pro")


async def test_another_process_hears_once_and_so_does_the_own(
    fresh_database: Database, elsewhere: Database
) -> None:
    here, there = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    own, other = Ear(here), Ear(there)
    async with running(here, there):
        for n in range(20):
            await publish(fresh_database, here, f"{n}")
        await other.until_heard(20)
        await asyncio.sleep(1.2)  # a look of each bus later, still nothing twice
    assert other.changes == own.changes == [a_change(f"{n}") for n in range(20)]


async def test_another_process_is_woken_at_once(fresh_database: Database, elsewhere: Database) -> None:
    here, there = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    ear = Ear(there)
    async with running(here, there):
        delays_s = []
        for n in range(7):
            committed_at = time.monotonic()
            await publish(fresh_database, here, f"{n}")
            await ear.until_heard(n + 1)
            delays_s.append(time.monotonic() - committed_at)
    assert median(delays_s) < 0.2, "mere looking takes half a second on average"


async def test_what_comes_with_every_event_wakes_the_others_too(
    fresh_database: Database, elsewhere: Database
) -> None:
    """A little later, so that others share the notification; the own process hears at once all the same."""
    here, there = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    own, ear = Ear(here), Ear(there)
    async with running(here, there):
        delays_s = []
        for n in range(7):
            async with fresh_database.transaction() as tx:
                promised = here.promise(tx, a_change(f"{n}"))
                await write_publications(tx, here.origin, [promised])
            committed_at = time.monotonic()
            await own.until_heard(n + 1)
            await ear.until_heard(n + 1)
            delays_s.append(time.monotonic() - committed_at)
    assert ear.subjects() == own.subjects() == [f"{n}" for n in range(7)]
    assert median(delays_s) < 0.4, "mere looking takes half a second on average"


async def test_what_is_rolled_back_is_never_told(fresh_database: Database) -> None:
    bus = PostgresChangeBus(fresh_database)
    ear = Ear(bus)

    async def publish_and_fail() -> None:
        async with fresh_database.transaction() as tx:
            await bus.publish(tx, a_change("rolled back"))
            raise RuntimeError

    async with running(bus):
        with pytest.raises(RuntimeError):
            await publish_and_fail()
        await publish(fresh_database, bus, "committed")
        await ear.until_heard(1)
    assert ear.subjects() == ["committed"]


async def test_nothing_is_missed_when_commits_cross_and_the_listener_is_killed(
    fresh_database: Database, elsewhere: Database
) -> None:
    here, there = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    ear = Ear(there)
    dice = random.Random(7)
    async with running(here, there):
        gaps_before = ear.gaps

        async def write(writer: int) -> None:
            for n in range(40):
                await publish(fresh_database, here, f"{writer}-{n}", pause_s=dice.random() * 0.02)

        async def kill() -> None:
            async with asyncio.timeout(5):
                for _ in range(3):
                    await asyncio.sleep(0.1)
                    async with fresh_database.as_owner() as connection:
                        await connection.execute(
                            """
                            select pg_terminate_backend(pid) from pg_stat_activity
                            where datname = current_database() and application_name = $1
                            """,
                            f"nozle-server {CHANNEL}",
                        )

        await asyncio.gather(*(write(writer) for writer in range(6)), kill())
        await ear.until_heard(240)
        await asyncio.sleep(0.1)
    assert sorted(ear.subjects()) == sorted(f"{writer}-{n}" for writer in range(6) for n in range(40))
    assert ear.gaps > gaps_before, "after a lost connection, copies are dropped"


async def test_a_long_transaction_delays_nobodys_news(fresh_database: Database, elsewhere: Database) -> None:
    here, there = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    ear = Ear(there)
    async with running(here, there):
        async with fresh_database.transaction() as long:
            await here.publish(long, a_change("begun first"))
            for n in range(3):
                await publish(fresh_database, here, f"{n}")
                await ear.until_heard(n + 1)
        await ear.until_heard(4)
    assert ear.subjects() == ["0", "1", "2", "begun first"]


async def test_news_arrives_within_a_second_without_any_notification(
    fresh_database: Database, elsewhere: Database
) -> None:
    bus, silent = PostgresChangeBus(fresh_database), PostgresChangeBus(elsewhere)
    ear = Ear(bus)
    async with running(bus):
        await publish(elsewhere, silent, "quiet")  # its bus does not run, so it notifies nobody
        await ear.until_heard(1, timeout_s=3)


async def test_many_commits_share_a_notification(fresh_database: Database) -> None:
    heard = 0

    def count(*_: object) -> None:
        nonlocal heard
        heard += 1

    listener = await asyncpg.connect(fresh_database.url)
    bus = PostgresChangeBus(fresh_database)
    async with running(bus):
        await listener.add_listener(CHANNEL, count)
        started = asyncio.get_running_loop().time()

        async def write() -> None:
            for n in range(50):
                await publish(fresh_database, bus, f"{n}")

        await asyncio.gather(*(write() for _ in range(6)))
        took_s = asyncio.get_running_loop().time() - started
        await asyncio.sleep(0.1)
    await listener.close()
    assert 1 <= heard <= took_s / PAUSE_S + 2


async def test_a_subscriber_that_does_not_read_gets_a_gap_instead_of_a_pile() -> None:
    subscription = Subscription[str](limit=3, lost="gap")
    for news in "abcdefg":
        subscription.tell(news)
    assert [await anext(subscription) for _ in range(2)] == ["gap", "g"]


async def test_a_subscriber_waits_for_news() -> None:
    subscription = Subscription[str](limit=3, lost="gap")
    assert await anext(subscription) == "gap"
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    subscription.tell("news")
    assert await waiting == "news"


async def test_a_commit_in_doubt_that_comes_later_is_heard_like_anothers(database: Database) -> None:
    """The connection is lost while it commits, the gap is told at once, and the rows become visible after that."""
    bus = PostgresChangeBus(database)
    async with running(bus):
        ear = Ear(bus)
        earlier = bus.origin
        late = await asyncpg.connect(database.url, server_settings=dict(database.session_settings))
        await prepare_connection(late)
        await late.execute("begin")
        await write_publications(late, earlier, [Publication(new_id(), Change(ORG_ID, "k", "late"))])
        gaps = ear.gaps
        database.doubt([object()])
        await late.execute("commit")
        await ear.until_heard(1)
        await late.close()
    assert ear.subjects() == ["late"]
    assert ear.gaps > gaps
