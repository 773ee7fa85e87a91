"""K04 of reliability.md: one server, four workers that answer requests and one that does the jobs; any of them killed."""

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from chaos.auditor import audit
from chaos.clients import Attempt, Client, insist_on_all
from chaos.conftest import NewDatabase
from chaos.families import family, named, until
from chaos.harness import Installation, Launcher, Server, installed
from chaos.scale import is_large, scaled

WORKERS = 4
REPLACED_WITHIN_S = 5


@pytest.fixture(scope="module")
async def several(launcher: Launcher) -> AsyncIterator[Installation]:
    async with installed(launcher, servers=1, NOZLE_WORKERS=str(WORKERS)) as installation:
        yield installation


@pytest.fixture
async def installation(several: Installation) -> AsyncIterator[Installation]:
    yield several
    await audit(several)
    several.merchants.clear()


@pytest.fixture
def server(installation: Installation) -> Server:
    return installation.servers[0]


async def test_k04_connections_to_a_dead_worker_wait_for_its_successor(server: Server) -> None:
    """The others serve theirs; nobody is refused or cut off, however long it takes. (Its birth is held up here.)"""
    [nursery] = named(server.pid, "nozle-nursery").values()
    victim = named(server.pid, "nozle-worker-")["nozle-worker-2"]
    os.kill(nursery, signal.SIGSTOP)
    try:
        os.kill(victim, signal.SIGKILL)
        calls = [asyncio.create_task(_new_connection(server)) for _ in range(64)]
        await asyncio.sleep(1)
        served = sum(call.done() for call in calls)
        assert 24 <= served < 64, "three of four workers live"
    finally:
        os.kill(nursery, signal.SIGCONT)
    assert await asyncio.gather(*calls) == [200] * 64


async def test_k04_a_killed_worker_of_four_is_replaced_and_nothing_happens_twice(
    client: Client, server: Server, rng: random.Random
) -> None:
    """Under load; each call that was cut off is asked again with its key, and was answered by somebody meanwhile."""
    kills, slowest, answered_meanwhile = scaled(3, at_1000=300), 0.0, 0
    customers = [await client.a_customer(f"acme-{n}", 1_000_000) for n in range(3)]
    attempts: list[Attempt] = []
    stop = asyncio.Event()

    async def keep_deducting() -> None:
        while not stop.is_set():
            one = Attempt(rng.choice(customers), Decimal(rng.choice(["1", "0.1", "0.01"])))
            attempts.append(one)
            await one.send(client)

    callers = [asyncio.create_task(keep_deducting()) for _ in range(8)]
    for _ in range(kills):
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        name, victim = rng.choice(sorted(named(server.pid, "nozle-worker-").items()))
        already, began = sum(one.answer is not None for one in attempts), time.monotonic()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: named(server.pid, name).get(name, victim) != victim)  # noqa: B023
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.05)
        answered_meanwhile += sum(one.answer is not None for one in attempts) - already
    stop.set()
    await asyncio.gather(*callers)
    assert answered_meanwhile, "nobody was answered while a worker was gone"
    lost = [one for one in attempts if one.answer is None]
    await insist_on_all(lost, client)
    await _check_once(client, attempts)
    print(f"{kills} kills, replaced within {slowest:.2f} s, {len(lost)} of {len(attempts)} calls cut off")
    assert not is_large() or slowest <= REPLACED_WITHIN_S


async def _check_once(client: Client, attempts: Sequence[Attempt]) -> None:
    """Each attempt is one entry of the ledger, with `remaining` as it was answered."""
    entries = [
        entry for customer in {one.customer for one in attempts} for entry in await client.entries(customer)
    ]
    taken = {
        entry["feature"]: Decimal(entry["balance_after"]) for entry in entries if entry["type"] == "deduct"
    }
    assert len([entry for entry in entries if entry["type"] == "deduct"]) == len(taken)
    assert taken == {one.key: one.remaining for one in attempts}


async def test_k04_a_worker_that_dies_again_and_again_is_held_back_and_the_others_get_its_connections(
    server: Server,
) -> None:
    already = len(_pauses(server))
    for deaths in range(1, 6):
        await until(lambda: "nozle-worker-3" in named(server.pid, "nozle-worker-"))
        os.kill(named(server.pid, "nozle-worker-")["nozle-worker-3"], signal.SIGKILL)
        await until(lambda: len(_pauses(server)) == already + deaths)  # noqa: B023
    assert await asyncio.gather(*(_new_connection(server) for _ in range(64))) == [200] * 64
    pauses = _pauses(server)[-4:]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 2, "it was not held back"
    assert "nozle-worker-3" not in named(server.pid, "nozle-worker-"), "the others were not on their own"
    await until(lambda: len(named(server.pid, "nozle-worker-")) == WORKERS)


def _pauses(server: Server) -> list[float]:
    said = re.findall(r'"msg":"worker_ended","worker":"worker-3",[^\n]*"again_in_s":([0-9.]+)', server.said())
    return [float(pause) for pause in said]


async def _new_connection(server: Server) -> int:
    """The status of a call on a connection of its own."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["nozle-jobs", "nozle-nursery"])
async def test_k04_whatever_else_is_killed_comes_back(client: Client, server: Server, name: str) -> None:
    """The one that does the jobs alone; the nursery takes all with it, and all come back."""
    [before] = named(server.pid, name).values()
    os.kill(before, signal.SIGKILL)
    await until(lambda: before not in family(server.pid))
    await until(lambda: len(named(server.pid, "nozle-")) == WORKERS + 2)
    await client.a_customer("acme", 5)
    one = Attempt("acme", Decimal(1))
    await one.insist(client)
    assert one.remaining == 4


async def test_metrics_are_those_of_all_workers_and_do_not_fall_when_one_dies(
    server: Server, client: Client
) -> None:
    """Whichever worker is asked."""
    for _ in range(40):
        assert await _new_connection(server) == 200
    before = {await _count_of_health(client) for _ in range(5)}
    victim = named(server.pid, "nozle-worker-")["nozle-worker-1"]
    os.kill(victim, signal.SIGKILL)
    await until(lambda: named(server.pid, "nozle-worker-").get("nozle-worker-1", victim) != victim)
    await _new_connection(server)
    after = {await _count_of_health(client) for _ in range(5)}
    assert len(before) == len(after) == 1
    assert after == {count + 1 for count in before}


async def _count_of_health(client: Client) -> int:
    answer = await client.send("GET", "/metrics", headers={"connection": "close"})
    [count] = re.findall(
        rb'nozle_api_requests_total\{endpoint="GET /health",status="200"\} ([0-9.]+)', answer.body
    )
    return int(float(count))


async def test_k01_all_workers_finish_what_they_have_begun_and_the_server_ends_with_0(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """SIGTERM again and again while deductions wait for a lock: all are answered; no process is left."""
    server = await installation.start_server(NOZLE_WORKERS="3")
    await client.a_customer("acme", 100)
    begun = [Attempt("acme", Decimal(1)) for _ in range(40)]
    processes = family(server.pid)
    async with installation.session() as session, session.transaction():
        await session.execute("select from credit_accounts for update")
        calls = [asyncio.create_task(one.send(client, at=server.url)) for one in begun]
        await asyncio.sleep(0.5)
        for _ in range(rng.randint(1, 4)):
            server.signal(signal.SIGTERM)
            await asyncio.sleep(rng.uniform(0, 0.1))
    await asyncio.gather(*calls)
    assert [one.allowed for one in begun] == [True] * len(begun)
    assert await server.wait() == 0
    assert not [pid for pid in processes if _lives(pid)]
    installation.forget_ended()


async def test_a_port_that_several_workers_listen_on_is_in_use(
    installation: Installation, server: Server
) -> None:
    """Theirs is shared with each other only: a second server is told, in one line."""
    port = server.url.rpartition(":")[2]
    where = {"DATABASE_URL": installation.database_url, "NOZLE_WORKERS": "2"}
    second = await installation.launch("serve", "--port", port, **where)
    assert await second.wait() == 1
    [line] = second.said().splitlines()
    assert "the port is in use" in line
    assert await _new_connection(server) == 200


async def test_a_server_whose_workers_cannot_serve_ends_and_says_so(
    installation: Installation, new_database: NewDatabase
) -> None:
    """Instead of trying for ever: here the database lets in the supervisor, and then too few for all of its workers."""
    url = await new_database()
    async with installation.session() as session:
        # Three for the supervisor while it starts, and two that may not have ended yet; three workers want two at least.
        await session.execute("create role narrow login connection limit 5")
        await session.execute(f"alter database {urlsplit(url).path[1:]} owner to narrow")
    where = {"DATABASE_URL": url.replace("//nozle@", "//narrow@"), "NOZLE_WORKERS": "2"}
    command = await installation.launch("serve", "--port", "0", **where)
    assert await command.wait(60) == 1
    assert "before it could serve" in command.said().splitlines()[-1]
    assert "too many connections" in command.said()


async def test_k02_nobody_outlives_a_killed_supervisor(installation: Installation) -> None:
    """kill -9: the kernel ends its workers, also one that is stopped, and the port is free."""
    server = await installation.start_server(NOZLE_WORKERS="2")
    processes = family(server.pid)
    assert len(processes) == 4
    os.kill(named(server.pid, "nozle-worker-")["nozle-worker-1"], signal.SIGSTOP)
    await server.kill()
    await until(lambda: not [pid for pid in processes if _lives(pid)])
    with pytest.raises(ConnectionError):
        await _new_connection(server)
    installation.forget_ended()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
