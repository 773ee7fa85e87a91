"""Group C of reliability.md: processes that know nothing yet, have no room, hear nothing or cannot ask."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from chaos.clients import Client, is_try_again
from chaos.gate import Gate
from chaos.harness import Installation
from chaos.processes import FEW
from chaos.scale import is_large, scaled
from chaos.views import DEAF_PROCESS_S, UNDER_LOAD
from nozle_server.bootstrap import RESERVED
from nozle_server.entitlements import snapshot_store

APPLICATION = "nozle-server"
READING_A_CUSTOMER = (APPLICATION, snapshot_store._CUSTOMER)
P99_S = 1.0
ROOM_FOR = 3


@pytest.fixture
async def gate(installation: Installation) -> AsyncIterator[Gate]:
    """And whatever server was started behind it ends with the test."""
    before = len(installation.servers)
    async with Gate(installation) as gate:
        yield gate
        gate.speak()
        for server in installation.servers[before:]:
            await server.stop()
        installation.forget_ended()


async def _enrol(client: Client, customers: Sequence[str]) -> None:
    """A shop with a feature, and these on its plan."""
    metric = {"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}
    await client.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
    feature = {"code": "chat", "name": "Chat", "billable_metric_code": "tokens"}
    await client.post("/core/api/v1/features", {"feature": feature})
    plan = {"code": "basic", "name": "Basic", "interval": "monthly", "amount_cents": 0}
    await client.post("/core/api/v1/plans", {"plan": plan})
    wanted = {"entitlements": {"chat": {"limit": 10}}}
    await client.post("/core/api/v1/plans/basic/entitlements", wanted)
    some = asyncio.Semaphore(16)

    async def enrol(customer: str) -> None:
        async with some:
            await client.a_customer(customer)
            subscription = {"external_customer_id": customer, "external_id": customer, "plan_code": "basic"}
            await client.post("/core/api/v1/subscriptions", {"subscription": subscription})

    await asyncio.gather(*(enrol(customer) for customer in customers))


def _can(customer: str) -> str:
    return f"/api/v1/can?customer_id={customer}&feature=chat"


async def _set_limit(client: Client, customer: str, limit: int, *, at: str) -> None:
    target = f"/core/api/v1/subscriptions/{customer}/entitlements"
    await client.must("PATCH", target, {"entitlements": {"chat": {"limit": limit}}}, at=at)


async def test_c09_each_of_many_customers_is_read_once_though_all_come_at_once(
    installation: Installation, client: Client, gate: Gate, rng: random.Random
) -> None:
    """To a process that has just started, three times each; with no more connections than it was given."""
    customers = [f"acme-{n}" for n in range(scaled(200, at_1000=10_000))]
    await _enrol(client, customers)
    cold = await installation.start_server(database_url=gate.url, **FEW)
    some, seconds, again = asyncio.Semaphore(500), [], 0

    async def ask(customer: str) -> None:
        nonlocal again
        async with some:
            began = time.monotonic()
            while is_try_again(answer := await client.send("GET", _can(customer), at=cold.url)):
                again += 1
                await asyncio.sleep(0.05)
            seconds.append(time.monotonic() - began)
        assert answer.status == 200
        assert (answer.json["allowed"], answer.json["limit"]) == (True, 10)

    rng.shuffle(customers)
    await asyncio.gather(*(ask(customer) for customer in customers for _ in range(3)))
    p99_s = sorted(seconds)[len(seconds) * 99 // 100]
    most = gate.most_sessions[APPLICATION]
    print(f"{len(seconds)} answers, p99 {p99_s:.3f} s, {again} told to try again, {most} connections at most")
    assert gate.asked[READING_A_CUSTOMER] == len(customers)
    assert most <= int(FEW["NOZLE_DATABASE_CONNECTIONS"]) + RESERVED
    assert not is_large() or (p99_s <= P99_S and not again)


async def test_c08_where_there_is_no_room_the_database_answers(
    installation: Installation, client: Client, gate: Gate, rng: random.Random
) -> None:
    """A process that may keep three customers is asked about twelve, and changes them."""
    limits = {f"acme-{n}": 10 for n in range(4 * ROOM_FOR)}
    await _enrol(client, list(limits))
    narrow = await installation.start_server(
        database_url=gate.url, NOZLE_CACHED_CUSTOMERS=str(ROOM_FOR), **FEW
    )
    for turn in range(scaled(100, at_1000=10_000)):
        customer = rng.choice(list(limits))
        if rng.random() < 0.3:
            limits[customer] = 100 + turn
            await _set_limit(client, customer, limits[customer], at=narrow.url)
        answer = await client.get(_can(customer), at=narrow.url)
        assert (answer["allowed"], answer["limit"]) == (True, limits[customer])
    assert gate.asked[READING_A_CUSTOMER] > scaled(100, at_1000=10_000) / 2


async def test_c08_a_process_that_never_hears_any_news_asks_the_database_each_time(
    installation: Installation, client: Client, gate: Gate, rng: random.Random
) -> None:
    """What was changed by another process it knows at once: it believes nothing that it has read before."""
    await _enrol(client, ["acme"])
    others = installation.urls
    deaf = await installation.start_server(database_url=gate.url, CHAOS_DEAF="1", **FEW)
    times = scaled(20, at_1000=1_000)
    for limit in range(100, 100 + times):
        await _set_limit(client, "acme", limit, at=rng.choice(others))
        for _ in range(3):
            assert (await client.get(_can("acme"), at=deaf.url))["limit"] == limit
    assert gate.asked[READING_A_CUSTOMER] == 3 * times


async def test_c08_who_cannot_ask_the_database_says_so_and_allows_nobody(
    installation: Installation, client: Client, gate: Gate, rng: random.Random
) -> None:
    """What it knows it may say for a few seconds; then nothing more, of nobody, until the database is back."""
    await _enrol(client, ["known", "unknown"])
    cut_off = await installation.start_server(database_url=gate.url, **FEW)
    assert (await client.get(_can("known"), at=cut_off.url))["allowed"]
    gate.silence(APPLICATION)
    began = time.monotonic()
    told_after: list[float] = []

    async def ask(customer: str) -> None:
        passed = time.monotonic() - began
        answer = await client.send("GET", _can(customer), at=cut_off.url)
        if not is_try_again(answer):
            assert (customer, answer.status) == ("known", 200)
            told_after.append(passed)

    # None waits for the one before it: who is not answered learns so after ten seconds only.
    asking = []
    while time.monotonic() - began < DEAF_PROCESS_S + 3:
        asking += [asyncio.create_task(ask(customer)) for customer in ("known", "unknown")]
        await asyncio.sleep(0.2)
    await asyncio.gather(*asking)
    print(f"asked {len(asking)} times, answered {len(told_after)} times, last after {max(told_after):.1f} s")
    assert max(told_after) <= DEAF_PROCESS_S
    await _set_limit(client, "known", 77, at=installation.urls[0])
    gate.speak()
    began = time.monotonic()
    while is_try_again(answer := await client.send("GET", _can("known"), at=cut_off.url)):
        assert time.monotonic() - began < 10 * UNDER_LOAD
        await asyncio.sleep(0.1)
    assert answer.json["limit"] == 77
