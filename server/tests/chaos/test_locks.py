"""Group M of reliability.md: a row that somebody holds stops whoever needs it, for a while, and nobody else."""

import asyncio
import random
import time
from decimal import Decimal
from uuid import uuid4

import pytest

from chaos.clients import Attempt, Client, deduction
from chaos.harness import Installation
from chaos.scale import is_large, scaled
from world import Answer

OTHERS = 20
# More than the connections of both servers together.
CROWD = 40


@pytest.mark.parametrize(("accounts", "waiting"), [(1, 8), (1, CROWD), (6, CROWD)])
async def test_m10_a_held_account_stops_its_own_customer_only(
    installation: Installation, client: Client, rng: random.Random, accounts: int, waiting: int
) -> None:
    """A session of ours holds the rows of some accounts. Their customers are told 503 and when to come again, and nothing is
    taken; the others are answered all the while.

    Held for 3 s in `make test`, for 30 s in the large run.
    """
    others = [await client.a_customer(f"other-{n}", 1_000_000) for n in range(OTHERS)]
    held = [await client.a_customer(f"acme-{n}", 100) for n in range(accounts)]
    hold_s = scaled(3, at_1000=30)
    answered: list[float] = []
    refusals: list[tuple[Answer, float]] = []
    async with installation.session() as connection, connection.transaction():
        await connection.execute(
            """select 1 from credit_accounts a join customers c on c.org_id = a.org_id and c.id = a.customer_id
               where c.org_id = $1 and c.external_id like 'acme-%' for update of a""",
            installation.merchants[-1].org_id,
        )
        ends = time.monotonic() + hold_s

        async def wait_for_the_row() -> None:
            while (began := time.monotonic()) < ends - 2.5:
                answer = await client.deduct(rng.choice(held), 1)
                refusals.append((answer, time.monotonic() - began))

        async def go_on() -> None:
            while (began := time.monotonic()) < ends:
                answer = await client.deduct(rng.choice(others), Decimal("0.01"))
                assert answer.status == 200, answer.body
                answered.append(time.monotonic() - began)
                await asyncio.sleep(0.05)

        await asyncio.gather(*(wait_for_the_row() for _ in range(waiting)), *(go_on() for _ in range(4)))
        assert {answer.status for answer, _ in refusals} == {503}
        assert all(answer.headers["retry-after"].isdigit() for answer, _ in refusals)
    answered.sort()
    p99, slowest = answered[len(answered) * 99 // 100], max(took for _, took in refusals)
    print(
        f"{len(answered)} others answered, p99 {p99 * 1000:.0f} ms; {len(refusals)} refusals within {slowest:.1f} s"
    )
    assert not is_large() or (p99 < 0.5 and slowest < 3.5)
    for customer in held:
        assert await client.balance(customer) == 100
        now = (await client.deduct(customer, 1)).json
        assert (now["allowed"], now["remaining"]) == (True, 99)


async def test_m10_a_row_let_go_in_time_is_waited_for(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Who waits less than the limit is answered as if nobody had held the row."""
    await client.a_customer("acme", 100)
    async with installation.session() as connection, connection.transaction():
        await connection.execute("select 1 from credit_accounts for update")
        attempts = [Attempt("acme", Decimal("0.3")) for _ in range(8)]
        calls = [asyncio.create_task(one.send(client)) for one in attempts]
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        assert not any(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert sorted(one.remaining for one in attempts) == [100 - Decimal("0.3") * n for n in range(8, 0, -1)]


async def test_m09_a_deadlock_is_tried_again_inside(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """A session of ours has the account and wants the key, the server has the key and wants the account: the database
    ends the server's transaction, and the caller does not notice."""
    await client.a_customer("acme", 100)
    org_id = installation.merchants[-1].org_id
    for rush in range(scaled(1, at_1000=100)):
        key = f"rush {rush}"
        async with installation.session() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("set local deadlock_timeout = '30s'")  # the server finds it, not we
            await connection.execute("select 1 from credit_accounts where org_id = $1 for update", org_id)
            call = asyncio.create_task(
                client.send("POST", "/api/v1/credits/acme/grants", {"amount": 7}, key=key)
            )
            while not await connection.fetchval(WAITS_FOR_US):
                assert not call.done(), "it waits for the account"
                await asyncio.sleep(0.01)
            # Waits for the server's transaction, which waits for this one: after a second, that one is ended.
            await connection.execute(
                """insert into idempotency_keys (org_id, operation, key, request_hash, ledger, created_at)
                   values ($1, 'POST /credits/{id}/grants', $2, '', true, now())""",
                org_id,
                key,
            )
            await transaction.rollback()
        answer = await call
        if answer.status == 503:  # so slow a machine that we came after the server had looked for a deadlock
            assert answer.code == "lock_timeout"
            answer = await client.insist("POST", "/api/v1/credits/acme/grants", {"amount": 7}, key=key)
        assert (answer.status, answer.replayed) == (200, False), answer.body
        assert await client.balance("acme") == 100 + 7 * (rush + 1)


WAITS_FOR_US = """
    select exists (select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid)))
"""


async def test_m09_opposite_orders_do_not_meet_in_a_deadlock(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Entities changed many at a time in every order, top-ups moved between them and their customer, and everybody
    deducting: each call is answered as if it had been alone."""
    agents, deeds = [f"agent-{n}" for n in range(4)], scaled(120, at_1000=40_000)
    customers = [await client.a_customer(f"acme-{n}", 100_000, source="top_up") for n in range(2)]

    async def put(customer: str, statuses: dict[str, str]) -> None:
        entities = [{"external_id": agent, "status": status} for agent, status in statuses.items()]
        target = f"/api/v1/customers/{customer}/entities/bulk-upsert"
        await client.must("POST", target, {"entities": entities}, key=uuid4().hex)

    async def move(customer: str) -> None:
        way = rng.choice(["credit-allocations", "credit-deallocations"])
        target = f"/api/v1/customers/{customer}/entities/{rng.choice(agents)}/{way}"
        await client.must("POST", target, {"credit_system": "credits", "amount": "1.5"}, key=uuid4().hex)

    async def deduct(customer: str) -> None:
        entity = {"entity_id": rng.choice(agents)} if rng.random() < 0.7 else {}
        await client.post("/api/v1/check-and-deduct", deduction(customer, Decimal("0.3")) | entity)

    async def do_some() -> None:
        for _ in range(deeds // 12):
            customer, deed = rng.choice(customers), rng.random()
            if deed < 0.3:
                some = rng.sample(agents, rng.randint(2, 4))
                await put(customer, {one: rng.choice(["active", "active", "suspended"]) for one in some})
            elif deed < 0.6:
                await move(customer)
            else:
                await deduct(customer)

    for customer in customers:
        await put(customer, dict.fromkeys(agents, "active"))
    await asyncio.gather(*(do_some() for _ in range(12)))


async def test_m09_transfers_in_opposite_directions_do_not_meet_in_a_deadlock(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Every customer gives to every other one while all of them deduct: each call is answered, and nothing is lost or made
    on the way."""
    customers = [await client.a_customer(f"acme-{n}", 30) for n in range(4)]
    moves, taken = scaled(150, at_1000=50_000), [Decimal(0)]

    async def transfer() -> None:
        giver, taker = rng.sample(customers, 2)
        body = {
            "from_customer_id": giver,
            "to_customer_id": taker,
            "amount": rng.choice([1, 7, Decimal("0.3")]),
        }
        answer = await client.send("POST", "/api/v1/credits/transfers", body, key=uuid4().hex)
        assert answer.status == 200 or answer.code == "insufficient_credits", answer.body

    async def deduct() -> None:
        one = Attempt(rng.choice(customers), Decimal("0.1"))
        await one.send(client)
        assert one.answer is not None
        taken[0] += one.amount if one.allowed else 0

    async def do_some() -> None:
        for _ in range(moves // 15):
            await (transfer() if rng.random() < 0.7 else deduct())

    await asyncio.gather(*(do_some() for _ in range(15)))
    assert sum([await client.balance(one) for one in customers]) == 120 - taken[0]
