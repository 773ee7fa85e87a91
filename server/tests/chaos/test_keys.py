"""Group M of reliability.md: one Idempotency-Key is one effect and one answer, whoever sends it, when, and how often."""

import asyncio
import random
from decimal import Decimal

import pytest

from chaos.clients import Client, deduction
from chaos.gate import Gate
from chaos.harness import Installation
from chaos.scale import scaled
from world import Answer, JsonObject

DEDUCT = "/api/v1/check-and-deduct"
GRANT = "/api/v1/credits/acme/grants"
CALLS: list[tuple[str, JsonObject, JsonObject]] = [
    (DEDUCT, deduction("acme", Decimal("0.3"), "keyed"), deduction("acme", Decimal("0.4"), "keyed")),
    (GRANT, {"amount": 7, "description": "keyed"}, {"amount": 8, "description": "keyed"}),
]
called = pytest.mark.parametrize(("target", "body", "another"), CALLS, ids=["deduct", "grant"])


async def _effects(client: Client) -> int:
    return sum(entry["description"] == "keyed" for entry in await client.entries("acme"))


@called
async def test_m03_the_same_grant_sent_by_ten_workers_is_one_entry(
    client: Client, target: str, body: JsonObject, another: JsonObject
) -> None:
    """And so is the same deduction: ten at once, by way of every server, again and again."""
    await client.a_customer("acme", 100)
    for rush in range(1, scaled(5, at_1000=500) + 1):
        key = f"payment {rush}"
        answers = await asyncio.gather(*(client.insist("POST", target, body, key=key) for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert await _effects(client) == rush


@called
async def test_m04_a_key_has_one_effect_for_ever(
    installation: Installation, client: Client, target: str, body: JsonObject, another: JsonObject
) -> None:
    """Twenty at once, an hour and a year later, with another body, from another tenant, too long."""
    await client.post("/api/v1/test-clock", {"now": "2026-01-01T00:00:00Z"})
    await client.a_customer("acme", 100)
    answers = await asyncio.gather(*(client.send("POST", target, body, key="the key") for _ in range(20)))
    assert {answer.status for answer in answers} <= {200, 409, 503}
    bodies = {answer.body for answer in answers if answer.status == 200}
    for later in ("2026-01-01T01:00:00Z", "2027-01-01T00:00:00Z"):
        await client.post("/api/v1/test-clock", {"now": later})
        for url in installation.urls:
            again = await client.send("POST", target, body, key="the key", at=url)
            assert again.status == 200
            assert again.replayed
            bodies.add(again.body)
    assert len(bodies) == 1
    assert await _effects(client) == 1

    for changed in (another, body | {"feature": "other"} if target == DEDUCT else body | {"priority": 1}):
        refused = await client.send("POST", target, changed, key="the key")
        assert refused.status in (409, 422)
    for wrong in ("k" * 256, "k" * 2000, "", " "):
        refused = await client.send("POST", target, body, key=wrong)
        assert 400 <= refused.status < 500
    assert await _effects(client) == 1

    other = await installation.open_merchant()
    await client.post("/core/api/v1/customers", {"customer": {"external_id": "acme"}}, secret=other.secret)
    await client.post("/api/v1/credits/acme/grants", {"amount": 1}, secret=other.secret)
    theirs = await client.send("POST", target, body, key="the key", secret=other.secret)
    assert theirs.status == 200
    assert not theirs.replayed
    assert theirs.body not in bodies
    assert await _effects(client) == 1


async def test_m04_two_requests_that_race_for_one_key(client: Client, rng: random.Random) -> None:
    """For different customers, by way of every server at once: one of them has the key, and the other has no effect."""
    customers = ["acme", "bolt"]
    for customer in customers:
        await client.a_customer(customer, 1_000_000)
    for race in range(1, scaled(10, at_1000=1000) + 1):
        asked = [rng.choice(customers) for _ in range(8)]
        answers = await asyncio.gather(
            *(
                client.send("POST", DEDUCT, deduction(customer, 1, "keyed"), key=f"race {race}")
                for customer in asked
            )
        )
        assert {answer.status for answer in answers} <= {200, 409, 422, 503}
        winners = {who for who, answer in zip(asked, answers, strict=True) if answer.status == 200}
        assert len(winners) <= 1
        settled = {
            who: await client.insist("POST", DEDUCT, deduction(who, 1, "keyed"), key=f"race {race}")
            for who in customers
        }
        assert sorted(answer.status for answer in settled.values()) in ([200, 409], [200, 422])
        assert all(settled[who].status == 200 for who in winners)
        taken = [2_000_000 - await client.balance("acme") - await client.balance("bolt")]
        assert taken == [race]


@called
async def test_m05_a_key_reused_before_the_first_call_commits(
    installation: Installation,
    client: Client,
    rng: random.Random,
    target: str,
    body: JsonObject,
    another: JsonObject,
) -> None:
    """The first call waits for a row that a session of ours holds: the second waits too, or is told to come again."""
    await client.a_customer("acme", 100)
    for rush in range(1, scaled(2, at_1000=200) + 1):
        urls = installation.urls
        first_at, second_at = rng.choice(urls), rng.choice(urls)
        async with installation.session() as connection, connection.transaction():
            await connection.execute("select 1 from credit_accounts for update")
            first = asyncio.create_task(client.send("POST", target, body, key=f"{rush}", at=first_at))
            for _ in range(100):
                await asyncio.sleep(0.01)
                if await connection.fetchval("select exists (select 1 from pg_locks where not granted)"):
                    break
            second = asyncio.create_task(client.send("POST", target, body, key=f"{rush}", at=second_at))
            await asyncio.sleep(rng.uniform(0, 0.3))
            assert not first.done(), "it waits for the row"
            assert not second.done() or second.result().status in (409, 503)
        await _one_effect(client, target, body, f"{rush}", [await first, await second])
        assert await _effects(client) == rush


@called
async def test_m05_a_key_reused_before_the_first_call_is_answered(
    installation: Installation, client: Client, target: str, body: JsonObject, another: JsonObject
) -> None:
    """The first call has committed, but its server does not know yet: the second gets the answer of the first."""
    await client.a_customer("acme", 100)
    async with Gate(installation) as gate:
        slow = await installation.start_server(database_url=gate.url)
        installation.servers.remove(slow)
        try:
            await client.get("/api/v1/credits/acme/balance", at=slow.url)
            for rush in range(1, scaled(2, at_1000=200) + 1):
                gate.hold()
                first = asyncio.create_task(client.send("POST", target, body, key=f"{rush}", at=slow.url))
                for _ in range(100):
                    await asyncio.sleep(0.01)
                    if await _effects(client) == rush:
                        break
                second = await client.send("POST", target, body, key=f"{rush}")
                assert not first.done()
                assert second.status == 200, second.body
                assert second.replayed
                gate.release()
                await _one_effect(client, target, body, f"{rush}", [await first, second])
                assert await _effects(client) == rush
        finally:
            gate.release()
            await slow.stop()


async def _one_effect(client: Client, target: str, body: JsonObject, key: str, answers: list[Answer]) -> None:
    """All that were answered were answered the same, and so is whoever asks once more."""
    assert {answer.status for answer in answers} <= {200, 409, 503}
    last = await client.insist("POST", target, body, key=key)
    assert last.status == 200
    assert {answer.body for answer in answers if answer.status == 200} <= {last.body}
