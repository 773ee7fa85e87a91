"""K01 to K03 of reliability.md: a server that is stopped or killed at any moment, and what the next one finds."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from chaos.clients import Attempt, Client, Lost, insist_on_all
from chaos.conftest import NewDatabase
from chaos.families import until
from chaos.harness import Command, Installation, Launcher, Server, installed
from chaos.scale import is_large, scaled
from nozle_server.infra.migrate import MIGRATION_LOCK

ENDED_WITHIN_S = 10
UP_WITHIN_S = 15


async def _stop(command: Command, rng: random.Random, *, times: int) -> None:
    """SIGTERM, again and again; it ends with 0, and within ten seconds."""
    began = time.monotonic()
    for _ in range(times):
        command.signal(signal.SIGTERM)
        await asyncio.sleep(rng.uniform(0, 0.1))
    assert await command.wait() == 0, command.said()[-2000:]
    assert not is_large() or time.monotonic() - began <= ENDED_WITHIN_S


async def test_k01_a_stopped_server_answers_what_it_has_begun(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Calls that wait for a lock at that moment, and others that keep coming on connections kept; SIGTERM once or more."""
    for stop in range(scaled(2, at_1000=100)):
        server = await installation.start_server()
        customer = await client.a_customer(f"acme-{stop}", 1000)
        begun = [Attempt(customer, Decimal(1)) for _ in range(30)]
        others = [await client.a_customer(f"bolt-{stop}-{n}", 1000) for n in range(8)]
        more: list[Attempt] = []
        cut_off: list[Lost] = []
        async with installation.session() as session, session.transaction():
            await session.execute(
                "select from credit_accounts a join customers c on c.id = a.customer_id"
                " where c.external_id = $1 for update of a",
                customer,
            )
            calls = [asyncio.create_task(one.send(client, at=server.url)) for one in begun]
            callers = [
                asyncio.create_task(_deduct_until_refused(client, server, one, more, cut_off))
                for one in others
            ]
            await asyncio.sleep(rng.uniform(0.3, 0.6))
            stopping = asyncio.create_task(_stop(server, rng, times=rng.randint(1, 4)))
            await asyncio.sleep(rng.uniform(0, 0.3))
        await asyncio.gather(*calls, *callers, stopping)
        assert [one.allowed for one in begun] == [True] * len(begun), "begun, and not answered"
        assert not cut_off, "sent on a connection that stood, and not answered"
        await insist_on_all([one for one in more if one.answer is None], client)
        taken = [entry for each in (customer, *others) for entry in await client.entries(each)]
        assert sorted(entry["feature"] for entry in taken if entry["type"] == "deduct") == sorted(
            one.key for one in [*begun, *more]
        )
        installation.forget_ended()


async def _deduct_until_refused(
    client: Client, server: Server, customer: str, attempts: list[Attempt], cut_off: list[Lost]
) -> None:
    """One call after the other, until there is nobody to connect to."""
    while True:
        one = Attempt(customer, Decimal("0.1"))
        attempts.append(one)
        try:
            answer = await client.send(
                "POST", "/api/v1/check-and-deduct", one.body, key=one.key, at=server.url
            )
        except Lost as lost:
            if isinstance(lost.__cause__, aiohttp.ClientConnectorError):
                return
            cut_off.append(lost)
        else:
            assert answer.status == 200, answer.body
            one.answer = answer


async def _keep_deducting(client: Client, server: Server, customer: str, attempts: list[Attempt]) -> None:
    while server.status is None:
        one = Attempt(customer, Decimal("0.1"))
        attempts.append(one)
        await one.send(client, at=server.url)


async def test_k01_a_server_that_migrates_ends_when_told_and_the_next_one_goes_on(
    installation: Installation, new_database: NewDatabase, rng: random.Random
) -> None:
    """While it waits for another one that migrates; in the middle of a migration; at any moment of its start."""
    for stop in range(scaled(3, at_1000=150)):
        url = await new_database()
        session = await asyncpg.connect(url)
        if stop % 3 == 0:
            await session.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
        command = await installation.launch("serve", "--port", "0", DATABASE_URL=url)
        if stop % 3 == 0:
            await _until(session, "select exists (select from pg_locks where not granted)")
        elif stop % 3 == 1:
            await _until(
                session,
                "select exists (select from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and query ~* 'create table')",
            )
        else:
            await asyncio.sleep(rng.uniform(0, 2))
        await _stop(command, rng, times=rng.randint(1, 3))
        await session.close()
        server = await installation.start_server(database_url=url)
        assert await server.stop() == 0
        installation.forget_ended()


async def _until(session: asyncpg.Connection, truth: str) -> None:
    async with asyncio.timeout(60):
        while not await session.fetchval(truth):  # noqa: ASYNC110 - the truth is in the database
            await asyncio.sleep(0.002)


async def test_k01_a_server_that_makes_its_database_ends_when_told_and_leaves_nobody(
    launcher: Launcher, rng: random.Random, tmp_path: Path
) -> None:
    """The embedded one: while it is being made, started or migrated, with one process or with several; the next start
    finds whatever lies there and serves."""
    for stop in range(scaled(1, at_1000=100)):
        folder = open_folder(tmp_path, str(stop))
        installation = Installation(launcher, folder)
        for _ in range(2):
            workers = rng.choice(["1", "2"])
            command = await installation.launch("serve", "--port", "0", NOZLE_WORKERS=workers)
            await asyncio.sleep(rng.uniform(0, 3))
            await _stop(command, rng, times=rng.randint(1, 3))
            assert not _processes_in(folder)
        server = await installation.start_owner()
        assert await server.stop() == 0


def open_folder(parent: Path, name: str) -> Path:
    """Root's PostgreSQL runs as another user, who has to get into it."""
    parent.chmod(0o755)
    folder = Path(parent, name)
    folder.mkdir(mode=0o755)
    return folder


def _processes_in(folder: Path) -> list[int]:
    """Those at work below a folder, as all of PostgreSQL are in theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
async def alone(launcher: Launcher) -> AsyncIterator[Installation]:
    """One server and its database, which the tests below kill."""
    async with installed(launcher, servers=1) as installation:
        yield installation


async def test_k02_a_killed_server_leaves_no_second_postmaster_and_nothing_is_lost(
    alone: Installation, rng: random.Random
) -> None:
    """kill -9 while it serves, or while it starts; the next one is started at once, and meets what is left of the
    database of the last."""
    kills, slowest = scaled(3, at_1000=300), 0.0
    merchant = await alone.open_merchant()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(_postmasters(alone)))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    async with Client(lambda: alone.urls, merchant.secret, rng) as client:
        attempts: list[Attempt] = []
        await client.a_customer("acme", 1_000_000)
        for kill in range(kills):
            callers = [
                asyncio.create_task(_keep_deducting(client, alone.servers[0], "acme", attempts))
                for _ in range(4)
            ]
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            await alone.servers[0].kill()
            await asyncio.gather(*callers)
            if kill % 3 == 2:
                starting = await alone.launch("serve", "--port", "0")
                await asyncio.sleep(rng.uniform(0, 1.5))
                await starting.kill()
            began = time.monotonic()
            await alone.start_owner()
            slowest = max(slowest, time.monotonic() - began)
            acknowledged = {one.key for one in attempts if one.answer is not None}
            taken = [entry["feature"] for entry in await client.entries("acme") if entry["type"] == "deduct"]
            assert acknowledged <= set(taken), "an acknowledged deduction is gone"
            await insist_on_all([one for one in attempts if one.answer is None], client)
            attempts.clear()
    watching.cancel()
    print(f"{kills} kills, up again within {slowest:.1f} s")
    assert most == 1
    assert not is_large() or slowest <= UP_WITHIN_S


def _postmasters(installation: Installation) -> list[int]:
    """PostgreSQL's first processes in this database: those that no other of them has forked."""
    parents = {}
    for pid in _processes_in(installation.data_dir):
        with suppress(OSError):
            entry = Path("/proc", str(pid))
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            # A session is called "postgres: ..." and outlives its postmaster for a moment.
            if state != "Z" and b"-D" in (entry / "cmdline").read_bytes().split(b"\0"):
                parents[pid] = int(parent)
    return [pid for pid, parent in parents.items() if parent not in parents]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_k03_a_second_server_on_the_same_data_refuses_in_one_line(
    alone: Installation, workers: str
) -> None:
    """It names the folder and who holds it; the first one serves on."""
    server = alone.servers[0]
    second = await alone.launch("serve", "--port", "0", NOZLE_WORKERS=workers)
    assert await second.wait() == 1
    [line] = second.said().splitlines()
    assert str(alone.data_dir) in line
    assert f"pid {server.pid}" in line
    assert server.status is None
    async with alone.session() as session:
        assert await session.fetchval("select 1") == 1


async def test_k03_of_servers_started_together_one_serves(
    launcher: Launcher, rng: random.Random, tmp_path: Path
) -> None:
    """On a folder with nothing in it: no two of them make a database there."""
    installation = Installation(launcher, open_folder(tmp_path, "one"))
    commands = [await installation.launch("serve", "--port", "0") for _ in range(3)]
    try:
        await until(lambda: sum(one.status is not None for one in commands) == 2)
        [first] = [one for one in commands if one.status is None]
        server = await Server.listening(first)
        for other in commands:
            if other is not first:
                assert other.status == 1
                assert len(other.said().splitlines()) == 1, other.said()
        assert await server.stop() == 0
    finally:
        for one in commands:
            await one.kill()
