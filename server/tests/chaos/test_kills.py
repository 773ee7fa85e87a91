"""Group M of reliability.md: what was taken stays taken, once, whatever is killed while it is being taken."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

import pytest

from chaos.clients import Attempt, Client, Lost, Settling, Use, a_hold, insist_on_all, rate_uses
from chaos.gate import Gate
from chaos.harness import Installation, Server
from chaos.scale import is_large, scaled

READY_WITHIN_S = 15


async def _check_effects(client: Client, attempts: Sequence[Attempt]) -> None:
    """All of them have been answered by now: what was allowed is one entry of the ledger, with `remaining` as it was
    answered, and the use of a metric one event; what was denied is none."""
    for customer in {attempt.customer for attempt in attempts}:
        taken = [entry for entry in await client.entries(customer) if entry["type"] == "deduct"]
        mine = [one for one in attempts if one.customer == customer]
        settled = {one.key: one for one in mine if isinstance(one, Settling)}
        allowed = {one.entry_id: one for one in mine if one.key not in settled and one.allowed}
        entries = {entry["id"]: entry for entry in taken if entry["feature"] not in ("chat", *settled)}
        assert entries.keys() == allowed.keys()
        for entry_id, one in allowed.items():
            assert Decimal(entries[entry_id]["amount"]) == one.amount
            assert Decimal(entries[entry_id]["balance_after"]) == one.remaining
            if isinstance(one, Use):
                event = (await client.get(f"/core/api/v1/events/{entry_id}"))["event"]
                assert Decimal(event["properties"]["n"]) == one.amount
        for key, one in settled.items():
            [entry] = [entry for entry in taken if entry["feature"] == key]
            assert (Decimal(entry["amount"]), Decimal(entry["balance_after"])) == (one.taken, one.remaining)
            hold = await client.get(f"/api/v1/credits/{customer}/holds/{one.hold_id}")
            assert (hold["status"], Decimal(hold["settled"])) == ("settled", one.amount)


async def _an_attempt(
    client: Client, rng: random.Random, kind: type[Attempt], customer: str, victim: Server
) -> Attempt:
    amount = Decimal(rng.choice(["1", "0.1", "0.3"]))
    if kind is Settling:
        return await a_hold(
            client, customer, amount, amount * rng.choice([Decimal("0.5"), 1, 2]), at=victim.url
        )
    return kind(customer, amount)


async def _is_any_committed(installation: Installation, attempts: Sequence[Attempt]) -> bool:
    """Or denied, which is kept as well."""
    async with installation.session() as connection:
        return bool(
            await connection.fetchval(
                "select exists (select from idempotency_keys where key = any($1))",
                [one.key for one in attempts],
            )
        )


class _Victims:
    """Servers behind a gate, the next one started while the last is being killed."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._next = asyncio.create_task(self._start())

    async def _start(self) -> tuple[Gate, Server]:
        gate = await Gate(self._installation).__aenter__()
        server = await self._installation.start_server(database_url=gate.url)
        self._installation.servers.remove(server)  # the survivors are the others
        return gate, server

    async def take(self, *, last: bool) -> tuple[Gate, Server]:
        taken = await self._next
        if not last:
            self._next = asyncio.create_task(self._start())
        return taken


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        (Attempt, scaled(2, at_1000=1000)),
        (Use, scaled(2, at_1000=200)),
        (Settling, scaled(2, at_1000=200)),
    ],
    ids=["deduct", "use", "settle"],
)
async def test_m06_a_server_killed_between_commit_and_answer_takes_once(
    installation: Installation, client: Client, rng: random.Random, kind: type[Attempt], kills: int
) -> None:
    """The caller never heard, asks another server with its key, and gets the answer that was committed.

    Two kills of three come when the database has committed and the server has not been told; the others at any moment.
    """
    between, lost, began = 0, 0, time.monotonic()
    await rate_uses(client)
    victims = _Victims(installation)
    for kill in range(kills):
        gate, victim = await victims.take(last=kill == kills - 1)
        customers = [f"acme-{kill}-{n}" for n in range(rng.randint(1, 3))]
        for customer in customers:
            await client.a_customer(customer, rng.randint(2, 12))
            await client.deduct(customer, 1, at=victim.url)  # so that the victim knows the account as it is
        attempts = [
            await _an_attempt(client, rng, kind, rng.choice(customers), victim)
            for _ in range(rng.randint(1, 16))
        ]
        unanswered = kill % 3 < 2
        if unanswered:
            gate.hold()
        calls = [asyncio.create_task(one.send(client, at=victim.url)) for one in attempts]
        if unanswered:
            for _ in range(100):
                await asyncio.sleep(0.01)
                if await _is_any_committed(installation, attempts):
                    break
        else:
            await asyncio.sleep(rng.uniform(0, 0.03))
        await victim.kill()
        await asyncio.gather(*calls)
        heard = {one.key: one.answer for one in attempts if one.answer is not None}
        assert not (unanswered and heard), "the gate was held: nobody can have been told of a commit"
        lost += len(attempts) - len(heard)
        between += unanswered and await _is_any_committed(installation, attempts)
        await gate.__aexit__()

        await insist_on_all(attempts, client)
        for one in attempts:
            assert one.answer is not None
            if one.key in heard:
                assert one.answer.replayed
                assert one.answer.body == heard[one.key].body
        await _check_effects(client, attempts)
    assert between >= kills // 2, "the kills were meant to come between commit and answer"
    print(
        f"{kills} kills in {time.monotonic() - began:.0f} s, {between} between commit and answer, {lost} calls lost"
    )


async def test_m07_a_killed_database_keeps_what_was_acknowledged(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """kill -9 of the postmaster or of one of its sessions: acknowledged is present; not acknowledged is whole or absent,
    and becomes whole when it is asked for again."""
    kills, slowest, began = scaled(2, at_1000=200), 0.0, time.monotonic()
    customers = [await client.a_customer(f"acme-{n}", 10_000_000) for n in range(3)]
    for kill in range(kills):
        waited_s, attempts = await _kill_the_database(installation, client, rng, customers, kill)
        slowest = max(slowest, waited_s)
        acknowledged = {one.key for one in attempts if one.answer is not None}
        effects = await _effects(installation, attempts)
        assert acknowledged <= effects.keys(), "an acknowledged deduction is gone"
        assert all(amounts == [amounts[0]] for amounts in effects.values()), "a deduction happened twice"
        await insist_on_all([one for one in attempts if one.answer is None], client)
        assert await _effects(installation, attempts) == {
            one.key: [(one.amount, one.remaining)] for one in attempts
        }
    print(f"{kills} kills in {time.monotonic() - began:.0f} s, ready again within {slowest:.1f} s")
    assert not is_large() or slowest <= READY_WITHIN_S


async def _effects(
    installation: Installation, attempts: Sequence[Attempt]
) -> dict[str, list[tuple[Decimal, Decimal]]]:
    """What the ledger holds of each attempt: amounts and balances after them."""
    found: dict[str, list[tuple[Decimal, Decimal]]] = {}
    async with installation.session() as connection:
        for row in await connection.fetch(
            "select feature, amount, balance_after from ledger_entries where feature = any($1)",
            [one.key for one in attempts],
        ):
            found.setdefault(row["feature"], []).append((-row["amount"], row["balance_after"]))
    return found


async def _kill_the_database(
    installation: Installation, client: Client, rng: random.Random, customers: Sequence[str], kill: int
) -> tuple[float, list[Attempt]]:
    """While eight callers deduct; the seconds until both servers deduct again, and what was attempted."""
    attempts: list[Attempt] = []
    stop = asyncio.Event()

    async def keep_deducting() -> None:
        while not stop.is_set():
            one = Attempt(rng.choice(customers), Decimal(rng.choice(["1", "0.1", "0.01"])))
            attempts.append(one)
            await one.send(client)
            if one.answer is None:
                await asyncio.sleep(0.1)

    callers = [asyncio.create_task(keep_deducting()) for _ in range(8)]
    await asyncio.sleep(rng.uniform(0.05, 0.4))
    postmaster = installation.postmaster_pid
    assert postmaster is not None
    victim = postmaster if kill % 2 == 0 else await _a_session(installation, rng)
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    back_s = await installation.until_database_answers()
    for server in installation.servers:
        while not await _deducts(client, server, customers[0], attempts):
            assert time.monotonic() - killed_at < 60, "the servers did not recover"
            await asyncio.sleep(0.05)
    waited_s = time.monotonic() - killed_at
    print(
        f"  {'session' if kill % 2 else 'postmaster'} killed: database back after {back_s:.1f} s, servers {waited_s:.1f} s"
    )
    stop.set()
    await asyncio.gather(*callers)
    return waited_s, attempts


async def _a_session(installation: Installation, rng: random.Random) -> int:
    async with installation.session() as connection:
        rows = await connection.fetch(
            "select pid from pg_stat_activity where application_name = 'nozle-server' order by state = 'active', pid"
        )
    return int(rng.choice(rows[-8:])["pid"])


async def _deducts(client: Client, server: Server, customer: str, attempts: list[Attempt]) -> bool:
    one = Attempt(customer, Decimal(1))
    attempts.append(one)
    await one.send(client, at=server.url)
    return one.answer is not None


async def test_m08_callers_who_hang_up_leave_nothing_behind(
    installation: Installation, client: Client, rng: random.Random
) -> None:
    """A hundred at once, 0 to 10 ms after they asked: each deduction is whole or absent, no lock and no connection of the
    pool is kept, and whoever asks again with a key is answered once.

    The server has four connections: a single one that was kept would soon be missed.
    """
    server = await installation.start_server(NOZLE_DATABASE_CONNECTIONS="4")
    try:
        for storm in range(scaled(2, at_1000=200)):
            customers = [await client.a_customer(f"acme-{storm}-{n}", 1000) for n in range(3)]
            attempts = [Attempt(rng.choice(customers), Decimal("0.3")) for _ in range(100)]
            keyed = rng.sample(attempts, 50)
            await asyncio.gather(
                *(
                    _hang_up(client, server, one, rng.uniform(0, 0.01), with_key=one in keyed)
                    for one in attempts
                )
            )
            began = time.monotonic()
            for customer in customers:
                answer = await client.insist(
                    "POST",
                    "/api/v1/check-and-deduct",
                    Attempt(customer, Decimal(1)).body,
                    key=f"next-{customer}",
                )
                assert answer.status == 200
            assert not is_large() or time.monotonic() - began < 5
            await insist_on_all(keyed, client)
            found = [entry for customer in customers for entry in await client.entries(customer)]
            taken = [entry["feature"] for entry in found if Decimal(entry["amount"]) == Decimal("0.3")]
            assert len(taken) == len(set(taken)), "a deduction happened twice"
            assert {one.key for one in keyed} <= set(taken) <= {one.key for one in attempts}
            after = [Attempt(rng.choice(customers), Decimal(1)) for _ in range(20)]
            await insist_on_all(after, client)
        async with installation.session() as connection:
            for _ in range(200):
                busy = await connection.fetchval(
                    "select count(*) from pg_stat_activity where application_name = 'nozle-server'"
                    " and state <> 'idle'"
                )
                if not busy:
                    break
                await asyncio.sleep(0.05)
        assert busy == 0, "a session is still at work for somebody who is gone"
    finally:
        await server.stop()
        installation.forget_ended()


async def _hang_up(client: Client, server: Server, one: Attempt, after_s: float, *, with_key: bool) -> None:
    call = asyncio.create_task(
        client.send(
            "POST", "/api/v1/check-and-deduct", one.body, key=one.key if with_key else None, at=server.url
        )
    )
    await asyncio.sleep(after_s)
    call.cancel()
    with suppress(asyncio.CancelledError, Lost):
        await call
