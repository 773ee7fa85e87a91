"""Group M of reliability.md: what is taken of a balance at once, by way of several servers, adds up to the last digit."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from chaos.clients import Attempt, Client, deduction, insist_on_all, rfc3339
from chaos.harness import Installation
from chaos.scale import scaled
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits
from nozle_server.identity.model import Mode
from nozle_server.infra.change_bus import PostgresChangeBus
from nozle_server.infra.database import Database


@pytest.fixture
async def live_client(installation: Installation, rng: random.Random) -> AsyncIterator[Client]:
    """Of a merchant on real time."""
    merchant = await installation.open_merchant(Mode.LIVE)
    async with Client(lambda: installation.urls, merchant.secret, rng) as client:
        yield client


def _assert_staircase(attempts: list[Attempt], *, granted: Decimal, step: Decimal, covered: int) -> None:
    """Exactly `covered` were allowed, each with a `remaining` of its own; the others were told what is left."""
    stairs = sorted((one.remaining for one in attempts if one.allowed), reverse=True)
    assert stairs == [granted - step * n for n in range(1, covered + 1)]
    assert {one.remaining for one in attempts if not one.allowed} == {granted - step * covered}


@pytest.mark.parametrize("step", ["1", "0.1", "0.01", "0.3"])
async def test_m01_concurrent_deductions_make_a_staircase(
    client: Client, rng: random.Random, step: str
) -> None:
    """A balance for K, and more than K callers at once: exactly K are allowed, whatever server they asked."""
    taken, covered = Decimal(step), scaled(40, at_1000=1000)
    granted = taken * covered + taken / 2
    await client.a_customer("acme", granted)
    attempts = [Attempt("acme", taken) for _ in range(covered + rng.randint(1, covered // 2))]
    await asyncio.gather(*(one.insist(client) for one in attempts))
    _assert_staircase(attempts, granted=granted, step=taken, covered=covered)
    assert await client.balance("acme") == taken / 2


async def test_m03_the_same_payment_settled_by_ten_workers_is_one_grant(
    installation: Installation, client: Client
) -> None:
    """By its reference: as a job does it that runs twice, or in ten workers at once."""
    await client.a_customer("acme")
    database = await Database.connect(installation.database_url, connections=10)
    try:
        org_id = installation.merchants[-1].org_id
        async with database.connection() as connection:
            customer_id = await connection.fetchval("select id from customers where org_id = $1", org_id)

        async def settle(payment: str) -> Any:
            async def work(tx: asyncpg.Connection) -> Any:
                grant, _ = await grant_credits(
                    tx,
                    PostgresChangeBus(database),
                    org_id=org_id,
                    customer_id=customer_id,
                    amount=Decimal(7),
                    source=GrantSource.TOP_UP,
                    now=datetime.now(UTC),
                    reference=payment,
                )
                return grant.id

            return await database.run(work)

        payments = scaled(5, at_1000=500)
        for payment in range(payments):
            settled = await asyncio.gather(*(settle(f"payment {payment}") for _ in range(10)))
            assert len(set(settled)) == 1
    finally:
        await database.close()
    assert [Decimal(entry["amount"]) for entry in await client.entries("acme")] == [Decimal(7)] * payments


async def test_m12_a_hundred_first_requests_to_cold_servers_count_the_balance_once(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Servers that have seen neither key nor customer, asked all at once, beside one that knows them."""
    for start in range(scaled(1, at_1000=50)):
        granted, customer = Decimal("20.3"), f"acme-{start}"
        await client.a_customer(customer, granted + 1)
        await client.deduct(customer, 1)
        cold = await asyncio.gather(*(installation.start_server() for _ in range(2)))
        try:
            attempts = [Attempt(customer, Decimal("0.3")) for _ in range(100)]
            asked = [*(server.url for server in cold), installation.servers[0].url]
            await asyncio.gather(*(one.send(client, at=rng.choice(asked)) for one in attempts))
            await insist_on_all([one for one in attempts if one.answer is None], client)
            _assert_staircase(attempts, granted=granted, step=Decimal("0.3"), covered=67)
        finally:
            await asyncio.gather(*(server.stop() for server in cold))
            installation.forget_ended()


async def test_m12_what_one_server_did_every_other_knows_at_once(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """A grant, a deduction, a refusal and a suspension that one server has answered are what the next one decides by."""
    await client.a_customer("acme")
    agent = "/api/v1/customers/acme/entities/agent"
    left, status = Decimal(0), "active"
    await client.must("PUT", agent, {"status": status}, key=uuid4().hex)
    for _ in range(scaled(60, at_1000=20_000)):
        at, amount, deed = rng.choice(installation.urls), Decimal(rng.choice(["1", "0.3"])), rng.random()
        if deed < 0.25:
            granted = await client.post("/api/v1/credits/acme/grants", {"amount": amount}, at=at)
            left += amount
            assert granted["balance"] == left
        elif deed < 0.4:
            status = "suspended" if status == "active" else "active"
            await client.must("PUT", agent, {"status": status}, key=uuid4().hex, at=at)
        else:
            body, may = deduction("acme", amount), amount <= left
            if rng.random() < 0.5:
                body, may = body | {"entity_id": "agent"}, may and status == "active"
            answer = await client.post("/api/v1/check-and-deduct", body, at=at)
            assert answer["allowed"] == may
            left -= amount if may else 0
    assert await client.balance("acme") == left


async def test_m13_credits_that_expire_while_they_are_deducted_are_spent_in_order_and_in_time(
    installation: Installation, live_client: Client, rng: random.Random
) -> None:
    """Priority, then earliest expiry, then oldest; never after the expiry; and each entry says which grants it drew on.

    The ledger is replayed by a model of its own.
    """
    client, org_id = live_client, installation.merchants[-1].org_id
    for rush in range(scaled(1, at_1000=100)):
        customers = [await client.a_customer(f"acme-{rush}-{n}") for n in range(2)]
        done = asyncio.Event()

        async def keep_granting(customer: str, done: asyncio.Event = done) -> None:
            while not done.is_set():
                amount, priority = rng.choice([1, 2, 5]), rng.choice([0, 50, 50, 60])
                if rng.random() < 0.8:
                    expires_at = datetime.now(UTC) + timedelta(milliseconds=rng.randint(150, 900))
                    await client.grant_until(customer, amount, expires_at, priority=priority)
                else:
                    await client.grant(customer, amount, priority=priority)
                await asyncio.sleep(rng.uniform(0, 0.1))

        async def keep_deducting(customer: str, done: asyncio.Event = done) -> None:
            while not done.is_set():
                one = Attempt(customer, Decimal(rng.choice(["1", "0.1", "0.7"])))
                await one.insist(client)
                await asyncio.sleep(0.005)

        async def wait(customers: Sequence[str] = customers, done: asyncio.Event = done) -> None:
            """For two seconds at least, and until something has expired while it was being spent."""
            try:
                async with asyncio.timeout(90), installation.session() as session:
                    await asyncio.sleep(2)
                    while {"deduct", "expire"} - await _kinds_of_entries(session, org_id, customers):  # noqa: ASYNC110  # nobody tells us
                        await asyncio.sleep(0.05)
            finally:
                done.set()

        await asyncio.gather(
            wait(),
            *(keep_granting(one) for one in customers),
            *(keep_deducting(one) for one in customers * 3),
        )
    await _replay_all(installation, org_id)


async def _kinds_of_entries(
    connection: asyncpg.Connection, org_id: UUID, customers: Sequence[str]
) -> set[str]:
    rows = await connection.fetch(
        """select distinct e.type from ledger_entries e
           join credit_accounts a on a.org_id = e.org_id and a.id = e.account_id
           join customers c on c.org_id = a.org_id and c.id = a.customer_id
           where e.org_id = $1 and c.external_id = any($2)""",
        org_id,
        list(customers),
    )
    return {row["type"] for row in rows}


async def test_m13_a_clock_that_is_turned_is_turned_for_every_server_at_once(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """Credits expire by the test clock, which is turned while all servers deduct: what is asked for after a turn was
    answered happens after it, whatever server is asked, and is not paid with credits that had expired by then."""
    clock, turns = datetime(2026, 1, 1, tzinfo=UTC), scaled(12, at_1000=2000)
    await client.post("/api/v1/test-clock", {"now": rfc3339(clock)})
    customers = [await client.a_customer(f"acme-{n}") for n in range(2)]
    asked: list[tuple[Attempt, datetime]] = []
    turning = True

    async def keep_turning() -> None:
        nonlocal clock, turning
        try:
            for _ in range(turns):
                await asyncio.sleep(rng.uniform(0, 0.1))
                to = clock + timedelta(hours=1)
                await client.post("/api/v1/test-clock", {"now": rfc3339(to)})
                clock = to
        finally:
            turning = False

    async def keep_granting(customer: str) -> None:
        while turning:
            expires_at = clock + timedelta(hours=rng.randint(1, 4))
            await client.grant_until(customer, rng.choice([1, 2]), expires_at, priority=rng.choice([0, 50]))
            await asyncio.sleep(rng.uniform(0, 0.1))

    async def keep_deducting(customer: str) -> None:
        while turning:
            one = Attempt(customer, Decimal(rng.choice(["1", "0.1", "0.7"])))
            asked.append((one, clock))
            await one.insist(client)

    await asyncio.gather(
        keep_turning(),
        *(keep_granting(one) for one in customers),
        *(keep_deducting(one) for one in customers * 3),
    )
    happened = {
        entry["feature"]: datetime.fromisoformat(entry["created_at"])
        for customer in customers
        for entry in await client.entries(customer)
    }
    for one, at in asked:
        assert not one.allowed or happened[one.key] >= at, "a server had an old clock"
    await _replay_all(installation, installation.merchants[-1].org_id)


async def _replay_all(installation: Installation, org_id: Any) -> None:
    async with installation.session() as connection:
        accounts = await connection.fetch("select id from credit_accounts where org_id = $1", org_id)
        replayed = [await _replay(connection, org_id, account["id"]) for account in accounts]
    assert sum(spent for spent, _ in replayed) > 0
    assert sum(expired for _, expired in replayed) > 0, "nothing expired while it was being spent"


async def _replay(connection: asyncpg.Connection, org_id: Any, account_id: Any) -> tuple[int, int]:
    """Go through an account's ledger as it was written; how many entries spent, and how many expired."""
    grants = {
        row["id"]: row
        for row in await connection.fetch(
            "select * from credit_grants where org_id = $1 and account_id = $2", org_id, account_id
        )
    }
    rows = await connection.fetch(
        """select e.sequence, e.type, e.amount, e.occurred_at,
               (select jsonb_object_agg(l.grant_id, l.amount::text) from ledger_allocations l
                where l.org_id = e.org_id and l.entry_id = e.id) as moved
           from ledger_entries e where e.org_id = $1 and e.account_id = $2 order by e.sequence""",
        org_id,
        account_id,
    )
    left: dict[Any, Decimal] = {}
    counted = {"grant": 0, "deduct": 0, "expire": 0}
    never = datetime.max.replace(tzinfo=UTC)
    for row in rows:
        counted[row["type"]] += 1
        moved = {type(account_id)(grant): Decimal(amount) for grant, amount in row["moved"].items()}
        if row["type"] == "grant":
            left |= moved
        elif row["type"] == "expire":
            for grant in moved:
                assert grants[grant]["expires_at"] <= row["occurred_at"]
                assert left.pop(grant) == -moved[grant]
        else:
            at, owed, expected = row["occurred_at"], -row["amount"], {}
            for grant in sorted(
                left,
                key=lambda id: (
                    grants[id]["priority"],
                    grants[id]["expires_at"] or never,
                    grants[id]["created_at"],
                    id,
                ),
            ):
                taken = min(left[grant], owed)
                if taken and (grants[grant]["expires_at"] or never) > at:
                    expected[grant] = -taken
                    owed -= taken
            assert moved == expected, f"entry {row['sequence']} at {at} drew on other grants"
            for grant, amount in moved.items():
                left[grant] += amount
    return counted["deduct"], counted["expire"]


@pytest.mark.parametrize(
    ("granted", "step", "times"),
    [
        ("1", "0.333333333333", 3),
        ("1000000000000000", "0.000000000001", 20),
        ("999999999999999999.999999999999", "123456789012345678.123456789012", 8),
        ("0.000000000007", "0.000000000001", 7),
        ("9007199254740993", "1", 20),
    ],
)
async def test_m14_amounts_stay_exact_by_way_of_several_servers(
    client: Client, granted: str, step: str, times: int
) -> None:
    """12 decimals, 10^15, the smallest unit, a third in three parts: each `remaining` and the balance, as text."""
    await client.a_customer("acme", Decimal(granted))
    attempts = [Attempt("acme", Decimal(step)) for _ in range(times)]
    await asyncio.gather(*(one.insist(client) for one in attempts))
    written = sorted(
        re.search(rb'"remaining":([^,}]+)', one.answer.body)[1].decode()  # type: ignore[union-attr,index]
        for one in attempts
    )
    with localcontext(prec=60):
        left = [Decimal(granted) - Decimal(step) * n for n in range(1, times + 1)]
    assert written == sorted(_plainly(amount) for amount in left)
    balance = await client.send("GET", "/api/v1/credits/acme/balance")
    assert f'"balance":{_plainly(left[-1])},'.encode() in balance.body
    listed = await client.send("GET", "/api/v1/credits/acme/transactions")
    assert {Decimal(entry["amount"]) for entry in listed.json["transactions"]} == {
        Decimal(granted),
        Decimal(step),
    }
    assert not re.search(rb"\d[eE][+-]?\d", re.sub(rb'"[^"]*"', b'""', balance.body + listed.body))


def _plainly(amount: Decimal) -> str:
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


async def test_m14_no_table_and_no_endpoint_has_a_binary_float(installation: Installation) -> None:
    """Not one column of the database, not one member of the OpenAPI document."""
    async with installation.session() as connection:
        columns = await connection.fetch(
            """select table_name, column_name from information_schema.columns
               where table_schema = current_schema() and data_type in ('real', 'double precision')"""
        )
    assert not columns
    async with (
        aiohttp.ClientSession() as session,
        session.get(installation.urls[0] + "/openapi.json") as answer,
    ):
        document = json.loads(await answer.read())
    formats = re.findall(r'"format": "(\w+)"', json.dumps(document))
    assert formats, "the document tells formats"
    assert not {"float", "double"} & set(formats)
