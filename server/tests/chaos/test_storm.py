"""Group M of reliability.md: everything at once, with somebody who looks into the books all the while."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from chaos.clients import Client
from chaos.harness import Installation, Merchant
from chaos.scale import is_large, scaled
from nozle_server.identity.model import Mode

# What must not be, at any moment, to whoever looks at a snapshot.
BROKEN = """
    with entries as (
        select account_id, sum(amount) as balance, -sum(amount) filter (where type in ('hold', 'release')) as held
        from ledger_entries where org_id = $1 group by account_id
    ), grants as (
        select account_id, sum(remaining) as remaining from credit_grants where org_id = $1 group by account_id
    ), holds as (
        select account_id, sum(amount) as held from credit_holds where org_id = $1 and status = 'open' group by account_id
    )
    select a.id, a.balance, e.balance, g.remaining, a.held, e.held, h.held
    from credit_accounts a left join entries e on e.account_id = a.id left join grants g on g.account_id = a.id
        left join holds h on h.account_id = a.id
    where a.org_id = $1 and (a.balance < 0 or a.balance <> coalesce(e.balance, 0)
        or a.balance <> coalesce(g.remaining, 0) or a.held <> coalesce(e.held, 0) or a.held <> coalesce(h.held, 0))
"""


@dataclass
class _Told:
    """What the merchant was told about one customer."""

    granted: Decimal = Decimal(0)
    taken: Decimal = Decimal(0)
    denied: int = 0
    entries: int = 0
    holds: list[tuple[str, Decimal]] = field(default_factory=list)
    deductions: list[tuple[str, Decimal]] = field(default_factory=list)
    refunded: Decimal = Decimal(0)


async def test_m02_the_books_are_right_at_every_moment(
    installation: Installation, rng: random.Random
) -> None:
    """Random grants, deductions, refunds, holds, expiries of many customers by way of several servers, and a reader who finds
    balance = sum of entries = what is left of grants, never below zero, and what is held in open holds, in every snapshot.
    In the end the ledger holds what was answered, no more and no less."""
    many, seconds = scaled(12, at_1000=200), scaled(3, at_1000=600)
    merchant = await installation.open_merchant(Mode.LIVE)
    async with AsyncExitStack() as stack:
        if is_large():
            for _ in range(2):
                stack.push_async_callback((await installation.start_server()).stop)
        client = await stack.enter_async_context(Client(lambda: installation.urls, merchant.secret, rng))
        told = {await client.a_customer(f"acme-{n}"): _Told() for n in range(many)}
        ends = time.monotonic() + seconds
        looks = asyncio.create_task(_look(installation, merchant, client, list(told), ends, rng))
        await asyncio.gather(*(_trade(client, told, ends, rng) for _ in range(16)))
        looked = await looks
        for customer, what in told.items():
            entries = await client.entries(customer)
            of = {
                kind: [Decimal(entry["amount"]) for entry in entries if entry["type"] == kind]
                for kind in ("grant", "deduct", "refund")
            }
            assert sum(of["grant"]) == what.granted
            assert sum(of["deduct"]) == what.taken
            assert sum(of["refund"]) == what.refunded
            assert len(of["grant"]) + len(of["deduct"]) == what.entries
            assert all(Decimal(entry["balance_after"]) >= 0 for entry in entries)
    installation.forget_ended()
    print(f"{sum(one.entries for one in told.values())} movements, {looked} looks into the books")
    assert looked > 0
    assert any(one.denied for one in told.values()), "nobody ran out of credits: the storm was too mild"


async def _trade(client: Client, told: dict[str, _Told], ends: float, rng: random.Random) -> None:
    while time.monotonic() < ends:
        customer = rng.choice(list(told))
        what, deed = told[customer], rng.random()
        if deed < 0.2:
            amount = Decimal(rng.choice(["1", "2.5", "0.000000000001", "7"]))
            priority = rng.randint(0, 100)
            if rng.random() < 0.5:
                expires_at = datetime.now(UTC) + timedelta(milliseconds=rng.randint(300, 1500))
                if not await client.grant_until(customer, amount, expires_at, priority=priority):
                    continue
            else:
                await client.grant(customer, amount, priority=priority)
            what.granted += amount
            what.entries += 1
        elif deed < 0.3:
            amount = Decimal(rng.choice(["1", "0.3"]))
            body = {"amount": amount, "feature": "chat", "expires_in": rng.choice([1, 600])}
            answer = await client.send("POST", f"/api/v1/credits/{customer}/holds", body)
            assert answer.status == 200, answer.body
            if answer.json["allowed"]:
                what.holds.append((answer.json["hold_id"], amount))
        elif deed < 0.4 and what.holds:
            await _end_a_hold(client, customer, what, rng)
        elif deed < 0.5 and what.deductions:
            transaction_id, amount = what.deductions.pop(rng.randrange(len(what.deductions)))
            await client.post(f"/api/v1/credits/{customer}/transactions/{transaction_id}/refund", {})
            what.refunded += amount
        else:
            amount = Decimal(rng.choice(["1", "0.1", "0.3", "0.000000000001"]))
            answer = await client.deduct(customer, amount)
            assert answer.status == 200, answer.body
            if answer.json["allowed"]:
                what.taken += amount
                what.entries += 1
                what.deductions.append((answer.json["transaction_id"], amount))
            else:
                what.denied += 1


async def _end_a_hold(client: Client, customer: str, what: _Told, rng: random.Random) -> None:
    """Settle it, put it back, or find that it was over."""
    hold_id, held = what.holds.pop(rng.randrange(len(what.holds)))
    settled = held * rng.choice([Decimal("0.5"), 1]) if rng.random() < 0.7 else None
    way, body = ("release", None) if settled is None else ("settle", {"amount": settled})
    answer = await client.send("POST", f"/api/v1/credits/{customer}/holds/{hold_id}/{way}", body)
    if answer.status == 409:
        assert answer.code == "hold_ended"
        return
    assert answer.status == 200, answer.body
    if settled is not None:
        what.taken += settled
        what.entries += 1


async def _look(
    installation: Installation,
    merchant: Merchant,
    client: Client,
    customers: list[str],
    ends: float,
    rng: random.Random,
) -> int:
    """Into the database, and at a balance as the API tells it; how often."""
    looked = 0
    async with installation.session() as connection:
        while time.monotonic() < ends:
            broken = await connection.fetch(BROKEN, merchant.org_id)
            assert not broken, [tuple(row) for row in broken]
            assert await client.balance(rng.choice(customers)) >= 0
            looked += 1
            await asyncio.sleep(0.05)
    return looked
