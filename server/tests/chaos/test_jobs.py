"""K06 to K08 of reliability.md: jobs whose worker dies, sleeps or misreads the clock, and jobs that nobody can do."""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from chaos import months
from chaos.clients import Client as Caller
from chaos.conftest import NewDatabase
from chaos.harness import Command, Installation
from chaos.scale import is_large, scaled
from chaos.shifted import ShiftedClock
from chaos.stops import Stops
from nozle_server.api.app import build_app
from nozle_server.bootstrap import Services, build_services, connect
from nozle_server.core.periods import local_date, start_of_day
from nozle_server.identity.model import Mode
from nozle_server.infra import due
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import enqueue
from nozle_server.infra.migrate import migrate
from nozle_server.infra.settings import Settings
from nozle_server.workflows.drain_due import HANDLERS, MOST_LOSSES, drain_due
from world import Client, World, audit, open_world

ELSEWHERE_WITHIN_S = 60
LEASE_S = 30 if is_large() else 1


@dataclass
class Office:
    """A database of its own, workers on it, and organizations in live mode whose time is that of a clock we set."""

    installation: Installation
    database: Database
    services: Services
    clock: ShiftedClock
    stops: Stops
    workers: list[Command] = field(default_factory=list)

    async def open_world(self) -> World:
        return await open_world(Client(build_app(self.services)), self.services, Mode.LIVE)

    async def start_worker(self, clock: ShiftedClock | None = None) -> Command:
        """`nozle-server worker`."""
        worker = await self.installation.launch(
            "worker",
            DATABASE_URL=self.database.url,
            CHAOS_CLOCK=str((clock or self.clock).file),
            CHAOS_LEASE_S=str(LEASE_S),
        )
        self.workers.append(worker)
        await _until(lambda: "working" in worker.said() or worker.status is not None)
        assert worker.status is None, worker.said()
        return worker

    async def have_done(self, org_id: UUID, *, key: str = "all") -> None:
        """A job that does what is due in an organization, as one is enqueued for the instant it falls due."""
        async with self.database.transaction() as tx:
            await enqueue(tx, due.DRAIN_DUE, org_id.bytes, dedupe_key=f"{key}:{org_id}")

    async def idle(self) -> bool:
        """Whether no job of ours waits or runs."""
        async with self.database.connection() as connection:
            return not await connection.fetchval(
                "select exists (select from pgqueuer where entrypoint = 'drain_due'"
                " and status in ('queued', 'picked') and execute_after < now() + interval '1 hour')"
            )

    async def command(self, *arguments: str) -> str:
        """What an operator's command says."""
        command = await self.installation.launch(*arguments, DATABASE_URL=self.database.url)
        assert await command.wait() == 0, command.said()
        return command.said()

    async def parked(self) -> list[object]:
        """What was put aside."""
        async with self.database.connection() as connection:
            jobs = await connection.fetch("select entrypoint from pgqueuer where status = 'failed'")
            items = await connection.fetch("select kind, error from due_items where parked_at is not null")
        return [tuple(row) for row in (*jobs, *items)]


@pytest.fixture
async def office(
    installation: Installation, new_database: NewDatabase, tmp_path: Path
) -> AsyncIterator[Office]:
    url = await new_database()
    await migrate(url)
    settings = Settings(database_url=url)
    database = await connect(url, settings)
    clock = ShiftedClock(tmp_path / "clock")
    clock.set(months.BEGIN)
    office = Office(installation, database, build_services(database, settings, clock), clock, Stops(database))
    await office.stops.install()
    try:
        with capture_logs():
            yield office
    finally:
        for worker in office.workers:
            await worker.kill()
        await database.close()


async def _until(
    truth: Callable[[], bool | Awaitable[bool]], within_s: float = ELSEWHERE_WITHIN_S + 30
) -> None:
    async with asyncio.timeout(within_s):
        while True:
            is_so = truth()
            if is_so if isinstance(is_so, bool) else await is_so:
                return
            await asyncio.sleep(0.01)


async def _lived_until_next_month(office: Office, count: int) -> list[World]:
    """Organizations that all have the same before them."""
    worlds = [await office.open_world() for _ in range(count)]
    for world in worlds:
        office.clock.set(months.BEGIN)
        await months.begin(world)
        office.clock.set(months.NEXT_MONTH)
        await drain_due(office.database, office.services.seams, org_id=world.org_id, until=office.clock.now())
        await months.go_on(world)
    office.clock.set(months.MONTH_AFTER)
    return worlds


async def _as_if_nothing_had_happened(office: Office, undisturbed: World, worlds: list[World]) -> None:
    """Nothing is left, nothing was put aside, and each has come to the same as the one that nobody disturbed; numbers
    have no gap and no twin; the books are right."""
    assert await office.parked() == []
    async with office.database.connection() as connection:
        expected = await months.picture(connection, undisturbed.org_id)
        for world in worlds:
            found = await months.picture(connection, world.org_id)
            for table, rows in expected.items():
                assert found[table] == rows, table
            numbers = await world.fetch(
                "select sequential_id from invoices where org_id = $1 and status <> 'draft'"
            )
            assert sorted(row["sequential_id"] for row in numbers) == list(range(1, len(numbers) + 1))
            await audit(world)


async def test_k06_a_worker_killed_in_the_middle_of_each_step(office: Office, rng: random.Random) -> None:
    """Renewals, invoices, expiries, top-ups, alerts and whatever else falls due: killed where all of an item is done and
    not committed. Another worker takes the job over and does it, once."""
    began, kills, slowest, covered = time.monotonic(), 0, 0.0, set[str]()
    for _ in range(scaled(1, at_1000=20)):
        undisturbed, *worlds = await _lived_until_next_month(office, 6)
        already = len(await office.stops.done(undisturbed.org_id))
        await drain_due(
            office.database, office.services.seams, org_id=undisturbed.org_id, until=office.clock.now()
        )
        kinds = (await office.stops.done(undisturbed.org_id))[already:]
        covered |= set(kinds)
        # One place of each kind, spread over the organizations; in each of them one after the other.
        places = [
            rng.choice([n for n, kind in enumerate(kinds) if kind == each]) for each in sorted(set(kinds))
        ]
        rng.shuffle(places)
        plans = {world.org_id: sorted(places[n :: len(worlds)]) for n, world in enumerate(worlds)}
        for turn in range(max(map(len, plans.values()))):
            now = {org_id: already + 1 + plan[turn] for org_id, plan in plans.items() if turn < len(plan)}
            await office.stops.set(now)
            worker = await office.start_worker()
            if turn == 0:
                for world in worlds:
                    await office.have_done(world.org_id)
            await _until(lambda: _equals(office.stops.stopped, len(now)))  # noqa: B023
            await worker.kill()
            await office.stops.let_go()
            await _until(lambda: _equals(office.stops.stopped, 0))
            kills += len(now)
            killed_at = time.monotonic()
        worker = await office.start_worker()
        await _until(office.idle)
        slowest = max(slowest, time.monotonic() - killed_at)
        assert await worker.stop() == 0
        await _as_if_nothing_had_happened(office, undisturbed, worlds)
    print(
        f"{kills} kills in {time.monotonic() - began:.0f} s, done elsewhere within {slowest:.1f} s, in {len(covered)} steps"
    )
    assert not is_large() or covered == set(HANDLERS), "a step that is new belongs into `months.py`"
    assert slowest <= ELSEWHERE_WITHIN_S


async def _equals(ask: Callable[[], Awaitable[int]], count: int) -> bool:
    return await ask() == count


async def test_k07_a_worker_that_sleeps_longer_than_its_lease_and_the_one_that_takes_over(
    office: Office, rng: random.Random
) -> None:
    """The first is stopped in the middle of a step, the other takes its job; then the first wakes up and goes on."""
    for _ in range(scaled(1, at_1000=50)):
        undisturbed, world = await _lived_until_next_month(office, 2)
        already = len(await office.stops.done(undisturbed.org_id))
        await drain_due(
            office.database, office.services.seams, org_id=undisturbed.org_id, until=office.clock.now()
        )
        items = len(await office.stops.done(undisturbed.org_id)) - already
        await office.stops.set({world.org_id: already + rng.randint(1, items)})
        sleeper = await office.start_worker()
        await office.have_done(world.org_id)
        await _until(lambda: _equals(office.stops.stopped, 1))
        sleeper.signal(signal.SIGSTOP)
        other = await office.start_worker()
        await _until(lambda: _taken_over(office))
        await office.stops.let_go()
        await asyncio.sleep(rng.uniform(0, 3))
        sleeper.signal(signal.SIGCONT)
        await _until(office.idle)
        for worker in (sleeper, other):
            assert await worker.stop() == 0
        await _as_if_nothing_had_happened(office, undisturbed, [world])


async def _taken_over(office: Office) -> bool:
    async with office.database.connection() as connection:
        return bool(
            await connection.fetchval(
                "select exists (select from pgqueuer_log l join pgqueuer j on j.id = l.job_id"
                " where j.entrypoint = 'drain_due' and l.status = 'picked' group by j.id having count(*) > 1)"
            )
        )


ZONES = ("Europe/Berlin", "America/New_York", "Asia/Beirut")  # Beirut's clocks jump from midnight to one
SUNDAY = datetime(2031, 3, 2, 12, tzinfo=UTC)
NIGHTS = (datetime(2031, 3, 8, 20, tzinfo=UTC), datetime(2031, 3, 29, 20, tzinfo=UTC))
"""In the second hour of the first, or of the second, clocks in these zones are put forward."""


async def test_k07_two_schedulers_whose_clocks_jump_in_a_night_when_the_clocks_change(
    office: Office, rng: random.Random, tmp_path: Path
) -> None:
    """Each renews at its own time, an hour before or after the other, forward and back: one renewal and one invoice a
    period, at the customer's midnight."""
    clocks = [ShiftedClock(tmp_path / f"clock-{n}") for n in range(2)]
    undisturbed, world = [await office.open_world() for _ in range(2)]
    for one in (undisturbed, world):
        office.clock.set(SUNDAY)
        await one.a_plan(code="weekly", interval="weekly", amount_cents=700, credits="5")
        await one.a_plan(code="monthly", amount_cents=900, pay_in_advance=True)
        for zone in ZONES:
            customer = await one.a_customer(zone.replace("/", "-"), timezone=zone)
            await one.assign(customer, "weekly", f"weekly {zone}", billing_time="anniversary")
            await one.assign(customer, "monthly", f"monthly {zone}")
    for clock in clocks:
        clock.set(SUNDAY)
    workers = [await office.start_worker(clock) for clock in clocks]
    steps = scaled(4, at_1000=200)
    for night in NIGHTS:
        for step in range(steps):
            for clock in clocks:
                clock.set(
                    night + step * timedelta(hours=12) / steps + rng.choice((-1, 0, 1)) * timedelta(hours=1)
                )
            await asyncio.gather(*(office.have_done(world.org_id, key=f"{n}") for n in range(3)))
            await _until(office.idle)
    end = NIGHTS[-1] + timedelta(days=3)
    for clock in (*clocks, office.clock):
        clock.set(end)
    await office.have_done(world.org_id)
    await _until(office.idle)
    await drain_due(office.database, office.services.seams, org_id=undisturbed.org_id, until=end)
    for worker in workers:
        assert await worker.stop() == 0
    await _as_if_nothing_had_happened(office, undisturbed, [world])
    periods = await world.fetch(
        """select s.external_id, c.timezone, p.period_start, p.period_end
           from invoice_subscriptions p join subscriptions s on s.org_id = p.org_id and s.id = p.subscription_id
           join customers c on c.org_id = s.org_id and c.id = s.customer_id
           where p.org_id = $1 order by s.external_id, p.period_start"""
    )
    for earlier, later in itertools.pairwise(periods):
        if earlier["external_id"] == later["external_id"]:
            assert earlier["period_end"] == later["period_start"]
    for row in periods[1:]:
        assert row["period_end"] == start_of_day(
            local_date(row["period_end"], row["timezone"]), row["timezone"]
        )
    assert len(periods) > 2 * len(ZONES)


POISON = """
    create function poison() returns trigger language plpgsql as $$
        begin raise exception 'a bill that cannot be'; end $$;
    create constraint trigger poison after delete on due_items deferrable initially deferred
        for each row when (old.kind = 'recurring_top_up') execute function poison();
"""


async def test_k08_what_always_fails_is_put_aside_with_its_error_and_the_rest_goes_on(
    office: Office, rng: random.Random
) -> None:
    """Also what fails at the commit, where the database checks totals. `/metrics/queues` shows it, `due list` tells why, and
    when it can be done, `due retry` has it done, once."""
    undisturbed, world = await _lived_until_next_month(office, 2)
    seams, until = office.services.seams, office.clock.now()
    await drain_due(office.database, seams, org_id=undisturbed.org_id, until=until)
    async with office.database.as_owner() as connection:
        await connection.execute(POISON)
    server = await office.installation.start_server(
        database_url=office.database.url, CHAOS_CLOCK=str(office.clock.file)
    )
    await office.have_done(world.org_id)
    await _until(office.idle)
    items = await world.fetch(
        "select kind, parked_at from due_items where org_id = $1 and due_at <= $2", until
    )
    assert [(row["kind"], row["parked_at"] is None) for row in items] == [("recurring_top_up", False)]
    async with Caller(lambda: [server.url], world.secret, rng) as caller:
        shown = (await caller.send("GET", "/metrics/queues")).body.decode()
    assert 'asynq_queue_size{queue="due_recurring_top_up",state="parked"} 1.0' in shown
    listed = await office.command("due", "list")
    assert "RaiseError: a bill that cannot be" in listed

    async with office.database.as_owner() as connection:
        await connection.execute("drop trigger poison on due_items")
    assert "1 taken back" in await office.command("due", "retry")
    await office.have_done(world.org_id)
    await _until(office.idle)
    assert await server.stop() == 0
    office.installation.forget_ended()
    assert await office.parked() == []
    async with office.database.connection() as connection:
        expected, found = [await months.picture(connection, one.org_id) for one in (undisturbed, world)]
    assert found["wallet_transactions"] == expected["wallet_transactions"]
    await audit(world)


async def test_k08_what_kills_its_worker_again_and_again_is_put_aside(
    office: Office, rng: random.Random
) -> None:
    """Each worker that comes to the item dies of it (of our hand); in the end one passes it by and does the rest."""
    undisturbed, world, other = await _lived_until_next_month(office, 3)
    seams, until = office.services.seams, office.clock.now()
    already = len(await office.stops.done(undisturbed.org_id))
    await drain_due(office.database, seams, org_id=undisturbed.org_id, until=until)
    deadly = rng.randint(1, len(await office.stops.done(undisturbed.org_id)) - already)
    await office.stops.set({world.org_id: already + deadly})
    for one in (world, other):
        await office.have_done(one.org_id)
    for _ in range(1 + MOST_LOSSES):
        worker = await office.start_worker()
        await _until(lambda: _equals(office.stops.stopped, 1))
        await worker.kill()
        async with (
            office.database.as_owner() as connection
        ):  # its session would wait for us, and hold the item
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 7033"
            )
        await _until(lambda: _equals(office.stops.stopped, 0))
    await office.stops.let_go()
    worker = await office.start_worker()
    await _until(office.idle)
    assert await worker.stop() == 0
    rows = await world.fetch("select error from due_items where org_id = $1 and parked_at is not null")
    failed = await world.fetch(
        "select error_details::text as error from invoices where org_id = $1 and status = 'failed'"
    )
    [row] = [*rows, *failed]  # of an invoice that cannot be made, a failed one is kept
    assert "the worker died" in row["error"]
    async with office.database.connection() as connection:
        expected, found = [await months.picture(connection, one.org_id) for one in (undisturbed, other)]
    assert found == expected
