"""Group C of reliability.md: processes to which no notification comes, and listeners that hold up nobody."""

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from chaos.auditor import audit
from chaos.clients import Attempt, Client, Use, rate_uses
from chaos.gate import Gate
from chaos.harness import Installation, Launcher, Merchant, Server, installed
from chaos.processes import FEW
from chaos.rights import Moods, look, shows
from chaos.scale import is_large, scaled
from chaos.views import DEAF_PROCESS_S, Book, Lags, look_once, until_all_know, watching
from nozle_server.infra.change_bus import CHANNEL
from nozle_server.infra.wake_ups import RECONNECT_S

LISTENER = f"nozle-server {CHANNEL}"
DEAF_FOR_S = 60 if is_large() else 9
AT_MOST_S = DEAF_PROCESS_S if is_large() else DEAF_PROCESS_S + 2
"""Less than it is deaf for: who only learns when it hears again has failed."""


@pytest.fixture
async def gate(installation: Installation) -> AsyncIterator[Gate]:
    async with Gate(installation) as gate:
        yield gate


@pytest.fixture
async def deaf(installation: Installation, gate: Gate) -> AsyncIterator[Server]:
    """A third server, on the other side of the gate."""
    server = await installation.start_server(database_url=gate.url, **FEW)
    yield server
    gate.speak()
    await server.stop()
    installation.forget_ended()


async def _change_for(seconds: float, moods: Moods, book: Book, urls: list[str]) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await _change(moods, book, urls)
        await asyncio.sleep(moods.rng.uniform(0, 0.3))


async def _change(moods: Moods, book: Book, urls: list[str]) -> None:
    async with book.deed(at=moods.rng.choice(urls)) as deed:
        await moods.change(deed.at)
        deed.makes(*moods.truth)


async def _change_and_have_all_know(client: Client, moods: Moods, book: Book, urls: list[str]) -> None:
    """Something that can be seen, and then nothing for a while: who has missed it would believe what was before until something
    else happens, and is found out here. A view is only as late as it was when it was last asked for."""
    before = book.now
    while book.now == before:
        await _change(moods, book, urls)
    await asyncio.gather(
        *(until_all_know(book, client, [url], look, within_s=AT_MOST_S) for url in urls),
    )


@asynccontextmanager
async def _asked(client: Client, urls: list[str], rng: random.Random) -> AsyncIterator[tuple[Moods, Book]]:
    """A merchant whose customer's rights all servers are asked for without pause."""
    moods = Moods(client, rng)
    await moods.begin()
    book = Book(moods.truth, shows)
    await until_all_know(book, client, urls, look, within_s=AT_MOST_S)
    async with watching(book, client, urls, look, poll_s=0.02):
        yield moods, book


def _check(lags: Lags) -> None:
    print(lags)
    assert not lags.own, "a process was late about what it did itself"
    assert lags.max_s <= AT_MOST_S


async def test_c04_a_process_cut_off_from_notifications_is_late_by_seconds_and_never_about_itself(
    installation: Installation, client: Client, gate: Gate, deaf: Server, rng: random.Random
) -> None:
    """Nothing passes on the connection that listens, which stays open, and none can be made instead."""
    urls = installation.urls
    others = [url for url in urls if url != deaf.url]
    async with _asked(client, urls, rng) as (moods, book):
        gate.silence(CHANNEL)
        # At first only others, whose changes it cannot come to know by the way, when it makes one itself.
        await _change_for(DEAF_FOR_S, moods, book, others)
        await _change_for(2, moods, book, [deaf.url])
        gate.speak()
        await _change_for(3, moods, book, urls)
    _check(book.lags(urls))


async def test_c04_the_listeners_connection_is_killed_again_and_again(
    installation: Installation, client: Client, deaf: Server, rng: random.Random
) -> None:
    urls = installation.urls
    kills = scaled(5, at_1000=200)
    async with _asked(client, urls, rng) as (moods, book), installation.session() as session:
        for _ in range(kills):
            await session.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", LISTENER
            )
            await asyncio.sleep(rng.uniform(0, 1.2 * RECONNECT_S))
            await _change_and_have_all_know(client, moods, book, urls)
    _check(book.lags(urls))


async def test_c04_the_session_that_notifies_is_stopped(
    installation: Installation, client: Client, deaf: Server, rng: random.Random
) -> None:
    """As if its processor were gone: the connection stands, and nobody answers on it."""
    urls = installation.urls
    async with _asked(client, urls, rng) as (moods, book), installation.session() as session:
        stopped = await session.fetch(
            "select pid from pg_stat_activity where application_name = $1 and state = 'idle'", LISTENER
        )
        try:
            for row in stopped:
                os.kill(row["pid"], signal.SIGSTOP)
            await _change_for(DEAF_FOR_S, moods, book, urls[:1])
        finally:
            for row in stopped:
                with suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGCONT)
    assert stopped
    _check(book.lags(urls))


async def test_c04_who_was_cut_off_believes_nothing_of_what_it_had(
    installation: Installation,
    client: Client,
    merchant: Merchant,
    gate: Gate,
    deaf: Server,
    rng: random.Random,
) -> None:
    """Even what nobody ever told of: rows that were changed behind everybody's back."""
    moods = Moods(client, rng)
    await moods.begin()
    book = Book(moods.truth, shows)
    others = [url for url in installation.urls if url != deaf.url]
    for limit in (211, 212):
        await until_all_know(book, client, [deaf.url], look, within_s=AT_MOST_S)
        if limit == 211:
            gate.silence(CHANNEL)
        else:
            await _kill_listeners(installation)
        await _set_limit_behind_their_backs(installation, merchant, limit)
        moods.catalog = replace(moods.catalog, limits={**moods.catalog.limits, "basic": limit})
        book = Book(moods.truth, shows)
        await _until_known(book, client, deaf.url)
        gate.speak()
    assert await look_once(book, client, rng.choice(others), look)


async def _until_known(book: Book, client: Client, url: str) -> None:
    began = time.monotonic()
    while True:
        view = await look_once(book, client, url, look)
        if view is not None and view.seen == book.now:
            return
        assert time.monotonic() - began < AT_MOST_S, "it still believes what it had"
        await asyncio.sleep(0.02)


async def _kill_listeners(installation: Installation) -> None:
    async with installation.session() as session:
        await session.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", LISTENER
        )


async def _set_limit_behind_their_backs(installation: Installation, merchant: Merchant, limit: int) -> None:
    async with installation.session() as session:
        changed = await session.execute(
            """update plan_entitlements e set privileges = jsonb_build_object('limit', $2::int) from plans p
               where e.org_id = $1 and p.org_id = $1 and p.id = e.plan_id and p.code = 'basic'""",
            *(merchant.org_id, limit),
        )
        assert changed == "UPDATE 1"


# Listeners that hold up nobody.

ANSWERED_WITHIN_S = 2 if is_large() else 10


@pytest.fixture
async def narrow(launcher: Launcher) -> AsyncIterator[Installation]:
    """Two servers on a PostgreSQL whose queue of notifications holds half a megabyte, instead of eight gigabytes."""
    async with installed(launcher, servers=1) as installation:
        async with installation.session() as session:
            await session.execute("alter system set max_notify_queue_pages = 64")
        await installation.servers[0].stop()
        await installation.start_owner()
        await installation.start_server(**FEW)
        yield installation
        await audit(installation)


async def test_c07_a_listener_that_never_reads_and_a_full_queue_of_notifications_hold_up_nobody(
    narrow: Installation, rng: random.Random
) -> None:
    """Deductions, uses and changes go on, and so does the news of them, though nobody can notify any more."""
    merchant = await narrow.open_merchant()
    urls, slowest, answered = narrow.urls, 0.0, 0
    stop = asyncio.Event()

    async def keep_deducting(client: Client, number: int) -> None:
        nonlocal slowest, answered
        while not stop.is_set():
            began = time.monotonic()
            answer = await client.deduct(f"spender-{number}", 1)
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status == 200, answer.body
            answered += 1

    async with (
        Client(lambda: urls, merchant.secret, rng) as client,
        _never_reading(narrow),
        _in_a_transaction_while_listening(narrow),
        _asked(client, urls, rng) as (moods, book),
    ):
        for number in range(4):
            await client.a_customer(f"spender-{number}", 1_000_000)
        filling = asyncio.create_task(_notify_without_end(narrow, stop))
        deducting = [asyncio.create_task(keep_deducting(client, number)) for number in range(4)]
        for _ in range(100):
            shown = (await client.send("GET", "/metrics/queues")).body
            [usage] = re.findall(rb"^nozle_notification_queue_usage_ratio (\S+)$", shown, re.MULTILINE)
            if float(usage) > 0.9:
                break
            await asyncio.sleep(0.05)
        assert float(usage) > 0.9, "the queue was not filled, or nobody is told"
        await _change_for(20 if is_large() else 3, moods, book, urls)
        await _change_and_have_all_know(client, moods, book, urls)
        stop.set()
        await asyncio.gather(filling, *deducting)
    print(f"{answered} deductions, the slowest in {slowest:.2f} s")
    assert answered
    assert slowest <= ANSWERED_WITHIN_S
    _check(book.lags(urls))


@asynccontextmanager
async def _never_reading(installation: Installation) -> AsyncIterator[None]:
    """A session that listens as the servers do, and reads nothing of what it is sent."""
    connection = await installation.connect()
    await connection.add_listener(CHANNEL, lambda *_: None)
    connection._transport.pause_reading()
    try:
        yield
    finally:
        connection.terminate()


@asynccontextmanager
async def _in_a_transaction_while_listening(installation: Installation) -> AsyncIterator[None]:
    """PostgreSQL keeps all notifications for such a session."""
    connection = await installation.connect()
    await connection.add_listener(CHANNEL, lambda *_: None)
    await connection.execute("begin; select 1")
    try:
        yield
    finally:
        connection.terminate()


async def _notify_without_end(installation: Installation, stop: asyncio.Event) -> None:
    """Notifications of the greatest length, on the servers' own channel, until the queue is full and whenever it is not."""
    async with installation.session() as session:
        while not stop.is_set():
            with suppress(asyncpg.PostgresError):  # the queue is full
                await session.execute(
                    "select pg_notify($1, repeat('x', 7900) || n) from generate_series(1, 8) n", CHANNEL
                )
            await asyncio.sleep(0.01)


async def test_c07_no_transaction_that_writes_notifies(
    client: Client, gate: Gate, deaf: Server, rng: random.Random
) -> None:
    """Only the connections that listen do, outside of any transaction."""
    await rate_uses(client)
    await client.a_customer("acme", 1_000)
    for attempt in (
        *(Attempt("acme", Decimal(1)) for _ in range(20)),
        *(Use("acme", Decimal(1)) for _ in range(5)),
    ):
        await attempt.send(client, at=deaf.url)
        assert attempt.allowed
    notifying = {asked for asked in gate.asked if "notify" in asked[1].lower()}
    assert {statement for _, statement in notifying} >= {f"notify {CHANNEL}"}
    for application, statement in notifying:
        assert application.startswith("nozle-server nozle_"), f"{application}: {statement}"
    beginning = {
        application for application, statement in gate.asked if statement.lower().startswith("begin")
    }
    assert not beginning & {application for application, _ in notifying}
