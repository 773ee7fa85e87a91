"""Tracking among everything else that holds the same rows, on several servers, and with a database that does not answer."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credits.product import a_rate, a_system, balance, check, give, operations, track, transfer
from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.credits.model import GrantSource
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Client, World, audit, open_world

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """A token costs a credit; the customer bought 100."""
    await a_shop(world)
    return world


async def a_shop(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await a_system(world)
    await a_rate(world, credits="1", per="1")
    await world.a_customer()
    await world.an_entity("agent")
    await give(world, 100)


@pytest.fixture
async def another_server(acme: World) -> AsyncIterator[World]:
    """The same organization, by way of a server of its own on the same database."""
    database = await Database.connect(acme.database.url, connections=6, reserve=6)
    try:
        services = build_services(database, Settings(), SystemClock())
        yield World(Client(build_app(services)), services, acme.org_id, acme.secret, acme.publishable)
        await services.group_commit.close()
    finally:
        await database.close()


async def test_one_key_on_two_servers_is_one_operation(acme: World, another_server: World) -> None:
    """M04, with credits, without enough, and where the customer never had any."""
    await acme.a_customer("poor")
    for use in (
        {"properties": {"n": 3}},
        {"properties": {"n": 300}},
        {"properties": {"n": 3}, "customer_id": "poor"},
        {"properties": {"n": 3}, "entity_id": "agent"},
    ):
        for _ in range(3):
            key = uuid.uuid4().hex
            worlds = [acme, another_server] * 6
            answers = await asyncio.gather(*(track(one, key=key, **use) for one in worlds))
            assert {answer.status for answer in answers} == {200}
            assert len({answer.body for answer in answers}) == 1
            assert Counter(answer.replayed for answer in answers)[False] == 1
    rows = await acme.fetch("select status, count(*) as n from usage_operations where org_id = $1 group by 1")
    assert {row["status"]: row["n"] for row in rows} == {"succeeded": 6, "denied": 6}
    await audit(acme)


async def test_two_servers_never_spend_what_is_not_there(acme: World, another_server: World) -> None:
    """M01: as many as there are credits for, and `remaining` is the staircase down, no value twice; beside
    check-and-deduct, which is written in batches."""
    deducted = {"customer_id": "acme", "feature": "x", "credits": 1, "credit_system": "ai"}
    calls = []
    for one in (acme, another_server):
        calls += [track(one, properties={"n": 1}) for _ in range(40)]
        calls += [one.call("POST", "/api/v1/check-and-deduct", deducted) for _ in range(25)]
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    allowed = [answer.json for answer in answers if answer.json["allowed"]]
    assert sorted(Decimal(one["remaining"]) for one in allowed) == list(range(100))
    refused = [answer.json for answer in answers if not answer.json["allowed"]]
    assert {one["reason"] for one in refused} == {"insufficient_credits"}
    assert (await balance(acme))["available"] == "0"
    await audit(acme)


async def test_a_held_account_is_503_and_stops_nobody_else(acme: World) -> None:
    """M10: nothing is taken, nothing kept; the same key does it afterwards."""
    await acme.a_customer("other")
    await give(acme, 5, customer="other")
    async with acme.database.transaction() as tx:
        await tx.execute(
            """select from credit_accounts a join customers c on c.org_id = a.org_id and c.id = a.customer_id
               where a.org_id = $1 and c.external_id = 'acme' for update of a""",
            acme.org_id,
        )
        held = asyncio.create_task(track(acme, key="once", properties={"n": 1}))
        other = await track(acme, customer_id="other", properties={"n": 1})
        assert (other.status, other.json["remaining"]) == (200, "4")
        assert not held.done()
        looked = await check(acme, properties={"n": 1})
        assert (looked.status, looked.json["projected_remaining"]) == (200, "99")
        answer = await held
        assert (answer.status, answer.code) == (503, "lock_timeout")
        assert int(answer.headers["retry-after"]) >= 1
    assert (await balance(acme))["available"] == "100"
    assert await acme.fetch("select from idempotency_keys where org_id = $1 and key = 'once'") == []
    assert (await track(acme, key="once", properties={"n": 1})).json["remaining"] == "99"
    await audit(acme)


async def test_a_database_that_is_gone_is_503(acme: World) -> None:
    database = await Database.connect(acme.database.url, connections=2, reserve=2)
    services = build_services(database, Settings(), SystemClock())
    lost = World(Client(build_app(services)), services, acme.org_id, acme.secret, acme.publishable)
    assert (await track(lost, properties={"n": 1})).status == 200
    await database.close()
    for answer in (await track(lost, properties={"n": 1}), await check(lost, properties={"n": 1})):
        assert answer.status == 503
        assert "retry-after" in answer.headers
    assert (await balance(acme))["available"] == "99"


async def test_a_failure_after_the_deduction_takes_it_back(acme: World) -> None:
    """The event cannot be stored: no deduction, no operation, no key either."""
    await acme.fetch(
        """insert into event_ids (org_id, transaction_id, event_id, occurred_at, payload_hash)
           select $1, 'x', gen_random_uuid(), now(), ''"""
    )
    log = acme.services.seams.event_log
    stored = log.append

    async def fail(*_values: Any, **_named: Any) -> Any:
        raise OSError("no space left on device")

    log.append = fail  # type: ignore[method-assign]
    try:
        answer = await track(acme, key="once", properties={"n": 1})
    finally:
        log.append = stored  # type: ignore[method-assign]
    assert answer.status == 503
    assert (await balance(acme))["available"] == "100"
    for table in ("usage_operations", "events"):
        assert await acme.fetch(f"select from {table} where org_id = $1") == []
    assert (await track(acme, key="once", properties={"n": 1})).json["remaining"] == "99"


async def test_nobody_waits_in_a_circle(acme: World) -> None:
    """M09: uses, among changes of plan that grant, of entities, of rates and of systems, and transfers: nobody is refused,
    and PostgreSQL never had to break a circle."""
    for n in range(9):
        grants = [{"credit_system": "ai", "amount": str(10 * n + 10), "interval": "monthly"}]
        await acme.a_plan(code=f"plan-{n}", credit_grants=grants, amount_cents=100 * n)
    await acme.subscribe("acme", "plan-0")
    before = await _deadlocks(acme)
    done = False
    seen: Counter[tuple[int, str | None]] = Counter()

    async def use(**more: Any) -> None:
        while not done:
            answer = await track(acme, properties={"n": 1}, **more)
            seen[answer.status, answer.code] += 1

    async def move() -> None:
        while not done:
            for back in (False, True):
                answer = await transfer(acme, "1", back=back)
                seen[answer.status, answer.code] += 1

    busy = [asyncio.create_task(one) for one in (use(), use(), use(entity_id="agent"), move())]
    try:
        for turn in range(8):
            await acme.change_plan("acme", f"plan-{turn + 1}")
            await acme.an_entity("agent", status="suspended" if turn % 2 == 0 else "active")
            if turn % 3 == 2:
                await a_rate(acme, credits=str(turn), per="1")
            await acme.call(
                "PUT", "/core/api/v1/credit-systems/ai", {"credit_system": {"features": [f"f{turn}"]}}
            )
            await acme.turn(f"2026-01-{turn + 2:02d}")
    finally:
        done = True
        await asyncio.gather(*busy)
    assert set(seen) == {(200, None)}
    assert await _deadlocks(acme) == before
    await audit(acme)


async def _deadlocks(world: World) -> int:
    await asyncio.sleep(1.1)  # the statistics of an idle session are a second old at most
    async with world.database.connection() as connection:
        return int(
            await connection.fetchval(
                "select deadlocks from pg_stat_database where datname = current_database()"
            )
        )


amounts = st.decimals(min_value=Decimal("0.000000000001"), max_value=60, places=12)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("track"), amounts, st.sampled_from([None, "agent", "sub-agent"])),
        st.tuples(st.just("give"), amounts, st.sampled_from([None, "agent", "sub-agent"])),
        st.tuples(st.just("allocate"), amounts, st.sampled_from(["agent", "sub-agent"])),
        st.tuples(st.just("return"), amounts, st.sampled_from(["agent", "sub-agent"])),
        st.tuples(st.just("suspend"), amounts, st.sampled_from(["sub-agent"])),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, rate=st.tuples(amounts, amounts))
async def test_what_is_answered_is_what_the_ledger_says(
    client: Client, services: Any, steps: list[tuple[str, Decimal, str | None]], rate: tuple[Decimal, Decimal]
) -> None:
    """The sum of deductions is what was consumed, allocations sum to their operation, answers and operations agree, and a
    plain sum over the answers is the balance."""
    world = await open_world(client, services)
    await a_shop(world)
    await world.an_entity("sub-agent", parent_entity_id="agent")
    await a_rate(world, credits=format(rate[0], "f"), per=format(rate[1], "f"))
    have = Decimal(100)
    consumed: dict[str, Decimal] = {}
    for kind, amount, entity in steps:
        if kind == "track":
            who = {} if entity is None else {"entity_id": entity}
            answer = await track(world, properties={"n": amount}, **who)
            if answer.status == 422:
                assert answer.code == "usage_not_positive"
                continue
            tracked = answer.json
            taken = Decimal(tracked["credits_consumed"])
            assert sum(Decimal(one["amount"]) for one in tracked["deductions"]) == taken
            assert Decimal(tracked["available"]) - taken == Decimal(tracked["remaining"])
            assert tracked["allowed"] == (taken > 0)
            if tracked["allowed"]:
                assert tracked["credits_required"] == tracked["credits_consumed"]
                consumed[tracked["operation_id"]] = taken
                have -= taken
        elif kind == "give":
            await give(world, format(amount, "f"), GrantSource.TOP_UP, entity=entity)
            have += amount
        elif kind == "suspend":
            [before] = await world.fetch(
                "select sum(amount) from ledger_entries where org_id = $1 and type = 'expire'"
            )
            await world.an_entity("sub-agent", status="suspended")
            [after] = await world.fetch(
                "select sum(amount) from ledger_entries where org_id = $1 and type = 'expire'"
            )
            have += (after[0] or 0) - (before[0] or 0)
            await world.an_entity("sub-agent")
        else:
            moved = await transfer(
                world, format(amount, "f"), back=kind == "return", entity=entity or "agent"
            )
            assert moved.status == 200
            sums = [
                sum(Decimal(one["after"]) - Decimal(one["before"]) for one in moved.json[side])
                for side in ("parent_sources", "entity_sources")
            ]
            assert sums[0] == -sums[1]
            assert abs(sums[0]) == (amount if moved.json["transferred"] else 0)
    shown = await operations(world, limit=3)
    total = Decimal(0)
    for one in shown:
        deltas = sum(Decimal(part["delta"]) for part in one["source_allocations"])
        assert abs(deltas) == (0 if one["status"] == "denied" else Decimal(one["credit_amount"]))
        total += deltas
        if one["type"] == "consume" and one["status"] == "succeeded":
            assert consumed.pop(one["id"]) == Decimal(one["credit_amount"])
    assert not consumed
    [account] = await world.fetch("select balance from credit_accounts where org_id = $1")
    assert account["balance"] == total == have
    await audit(world)
