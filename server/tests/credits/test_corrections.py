"""Refunds, corrections, transfers: exactly what is meant, never more than there is, whoever else is at it."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.core.ids import new_id, to_text
from world import Answer, World, audit

from .ledger_api import a_key, deduct, figures, grants, hold, left, refund, send, settle, twin
from .product import a_system, give, transfer

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """A customer with grants of 10, 20 and 30 credits, spent in this order; the first expires in a month."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.grant("acme", 10, priority=1, expires_at="2026-02-01T00:00:00Z")
    await world.grant("acme", 20, priority=2)
    await world.grant("acme", 30, priority=3)
    return world


# Refunds.


async def test_what_was_taken_last_goes_back_first(acme: World) -> None:
    taken = await deduct(acme, 35)
    assert await left(acme) == [0, 0, 25]
    given = (await refund(acme, taken["transaction_id"], 8, description="half wrong")).json
    assert (given["type"], given["amount"], given["balance"]) == ("refund", 8, 33)
    assert (given["refunds_transaction_id"], given["feature"]) == (taken["transaction_id"], "chat")
    assert given["description"] == "half wrong"
    assert await left(acme) == [0, 3, 30]
    assert (await refund(acme, taken["transaction_id"], 20)).status == 200
    assert await left(acme) == [3, 20, 30]
    answer = await refund(acme, taken["transaction_id"], "7.000000000001")
    assert (answer.status, answer.code) == (422, "refund_too_large")
    assert (await refund(acme, taken["transaction_id"])).json["amount"] == 7
    assert await left(acme) == [10, 20, 30]
    for amount in (None, "0.000000000001"):
        answer = await refund(acme, taken["transaction_id"], amount)
        assert (answer.status, answer.code) == (422, "already_refunded")
    assert await figures(acme) == (60, 0, 0)
    await audit(acme)


async def test_what_goes_back_to_an_expired_grant_is_written_off(acme: World) -> None:
    taken = await deduct(acme, 15)
    await acme.turn("2026-02-01")
    given = (await refund(acme, taken["transaction_id"])).json
    assert (given["amount"], given["balance_after"], given["balance"]) == (15, 60, 50)
    assert await left(acme) == [0, 20, 30]
    assert (await acme.transactions("acme"))[-2:] == [("refund", 15), ("expire", 10)]
    await audit(acme)


async def test_a_settlement_is_refunded(acme: World) -> None:
    held = await hold(acme, 15)
    await settle(acme, held["hold_id"], 12)
    [row] = (await acme.get("/api/v1/credits/acme/transactions", type="deduct"))["transactions"]
    assert (await refund(acme, row["id"], 7)).status == 200
    assert await left(acme) == [5, 20, 30]
    await audit(acme)


async def test_what_an_ended_entity_gets_back_goes_where_the_rest_went(acme: World) -> None:
    """Top-ups that were allocated to it return to the customer, its own grants expire."""
    await a_system(acme)
    await give(acme, 50)
    await acme.an_entity("agent", pool_policy="entity_only")
    assert (await transfer(acme, "8")).json["transferred"]
    await give(acme, 4, entity="agent", priority=60)
    taken = await deduct(acme, 12, entity_id="agent", credit_system="ai")
    await acme.an_entity("agent", status="suspended")
    given = (await refund(acme, taken["transaction_id"])).json
    assert (given["amount"], given["entity_id"], given["balance"]) == (12, "agent", 50)
    assert [one["remaining"] for one in await grants(acme, credit_system="ai")] == [50]
    assert await grants(acme, credit_system="ai", entity_id="agent") == []
    await audit(acme)


async def test_only_the_customers_own_deductions_are_refunded(acme: World, other_world: World) -> None:
    taken = (await deduct(acme, 5))["transaction_id"]
    await acme.a_customer("other")
    await other_world.a_customer()
    rows = (await acme.get("/api/v1/credits/acme/transactions", type="grant"))["transactions"]
    for world, customer, txn_id, status, code in (
        (acme, "acme", rows[0]["id"], 422, "not_refundable"),
        (acme, "other", taken, 404, "transaction_not_found"),
        (other_world, "acme", taken, 404, "transaction_not_found"),
        (acme, "acme", to_text("txn", new_id()), 404, "transaction_not_found"),
        (acme, "acme", "txn_1", 404, "transaction_not_found"),
        (acme, "nobody", taken, 404, "customer_not_found"),
    ):
        answer = await refund(world, txn_id, customer=customer)
        assert (answer.status, answer.code) == (status, code)
    for amount in (0, -1, "x"):
        assert (await refund(acme, taken, amount)).status == 400
    given = (await refund(acme, taken)).json["id"]
    assert (await refund(acme, given)).code == "not_refundable"
    assert await figures(acme) == (60, 0, 0)


async def test_refunds_at_once_never_give_back_more_than_was_taken(acme: World) -> None:
    """On two servers, while others spend what comes back."""
    other = twin(acme)
    taken = (await deduct(acme, 60))["transaction_id"]
    deeds: list[Any] = []
    for n in range(20):
        world = (acme, other)[n % 2]
        deeds += [refund(world, taken, random.choice([1, 7, 9]), key=a_key()), world.deduct("acme", 3)]
    random.shuffle(deeds)
    done = await asyncio.gather(*deeds)
    refunds = [one for one in done if isinstance(one, Answer)]
    assert {one.status for one in refunds} <= {200, 422}
    given = sum(one.json["amount"] for one in refunds if one.status == 200)
    spent = sum(3 for one in done if not isinstance(one, Answer) and one[0])
    assert given <= 60
    assert await figures(acme) == (given - spent, 0, 0)
    last = await refund(acme, taken)
    assert last.status == (200 if given < 60 else 422)
    assert last.status == 422 or last.json["amount"] == 60 - given
    await audit(acme)


# Corrections.


async def test_a_correction_adds_or_takes(acme: World) -> None:
    up = (await send(acme, "/acme/corrections", {"amount": 5, "description": "lost event"})).json
    assert (up["type"], up["direction"], up["amount"], up["balance"]) == ("adjustment", "in", 5, 65)
    down = (await send(acme, "/acme/corrections", {"amount": -12, "description": "twice"})).json
    assert (down["direction"], down["amount"], down["balance"]) == ("out", 12, 53)
    assert await left(acme) == [0, 18, 30, 5]
    found = await acme.get("/api/v1/credits/acme/balance")
    assert found["adjusted_credits"] == -7
    await acme.an_entity("agent", pool_policy="entity_only")
    await acme.grant("acme", 40, entity_id="agent")
    answer = await send(acme, "/acme/corrections", {"amount": -54, "description": "more than its own"})
    assert (answer.status, answer.code) == (422, "insufficient_credits")
    assert (await send(acme, "/acme/corrections", {"amount": -53, "description": "all"})).status == 200
    await audit(acme)


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 0, "description": "x"},
        {"amount": 1},
        {"amount": 1, "description": " "},
        {"amount": 1, "description": None},
        {"amount": "x", "description": "x"},
        {"description": "x"},
    ],
)
async def test_a_malformed_correction_changes_nothing(acme: World, body: object) -> None:
    assert (await send(acme, "/acme/corrections", body)).status == 400
    assert await figures(acme) == (60, 0, 0)


async def test_a_correction_upwards_pays_what_is_owed(acme: World) -> None:
    held = await hold(acme, 60)
    await settle(acme, held["hold_id"], 70, uncovered_limit=10)
    up = (await send(acme, "/acme/corrections", {"amount": 12, "description": "goodwill"})).json
    assert (up["amount"], up["balance_after"], up["balance"]) == (12, 12, 2)
    assert await figures(acme) == (2, 0, 0)
    await audit(acme)


# Transfers.


async def move(
    world: World, amount: object, to: str = "other", by: str = "acme", key: str | None = None, **more: object
) -> Answer:
    body = {"from_customer_id": by, "to_customer_id": to, "amount": amount, **more}
    return await send(world, "/transfers", body, key=key or a_key())


async def test_credits_keep_priority_and_expiry_when_they_change_hands(acme: World) -> None:
    await acme.a_customer("other")
    moved = (await move(acme, 25, description="gift")).json
    assert (moved["transferred"], moved["amount"], moved["credit_system"]) == (True, 25, "credits")
    assert (moved["from"]["customer_id"], moved["from"]["direction"], moved["from"]["balance"]) == (
        "acme",
        "out",
        35,
    )
    assert (moved["to"]["customer_id"], moved["to"]["direction"], moved["to"]["balance"]) == (
        "other",
        "in",
        25,
    )
    mine = [(one["amount"], one["priority"], one["source"]) for one in await grants(acme, "other")]
    assert sorted(mine) == [(10, 1, "transfer"), (15, 2, "transfer")]
    await acme.turn("2026-02-01")
    assert await figures(acme, "other") == (15, 0, 0)
    assert await acme.transactions("other") == [("transfer", 25), ("expire", 10)]
    await audit(acme)


async def test_a_transfer_is_all_or_nothing(acme: World) -> None:
    await acme.a_customer("other")
    for answer, status, code in (
        (await move(acme, 61), 422, "insufficient_credits"),
        (await move(acme, 1, by="other", to="acme"), 422, "insufficient_credits"),
        (await move(acme, 1, to="acme"), 422, "same_customer"),
        (await move(acme, 1, to="nobody"), 404, "customer_not_found"),
        (await move(acme, 1, by="nobody"), 404, "customer_not_found"),
        (await move(acme, 1, credit_system="none"), 404, "credit_system_not_found"),
        (await move(acme, 0), 400, "invalid_request"),
        (await move(acme, -1), 400, "invalid_request"),
    ):
        assert (answer.status, answer.code) == (status, code)
    body = {"from_customer_id": "acme", "to_customer_id": "other", "amount": 1}
    unnamed = await send(acme, "/transfers", body)
    assert (unnamed.status, unnamed.code) == (400, "idempotency_key_required")
    assert await figures(acme) == (60, 0, 0)
    assert await figures(acme, "other") == (0, 0, 0)


async def test_a_transfer_pays_what_the_other_one_owes(acme: World) -> None:
    await acme.a_customer("other")
    await acme.grant("other", 1)
    held = await hold(acme, 1, "other")
    await settle(acme, held["hold_id"], 8, "other", uncovered_limit=20)
    assert (await move(acme, 10)).json["to"]["balance"] == 3
    assert await figures(acme, "other") == (3, 0, 0)
    await audit(acme)


async def test_one_key_is_one_transfer(acme: World) -> None:
    await acme.a_customer("other")
    other, key = twin(acme), a_key()
    answers = await asyncio.gather(*(move(one, 10, key=key) for one in [acme, other] * 4))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert (await move(acme, 11, key=key)).code == "idempotency_key_reused"
    assert await figures(acme) == (50, 0, 0)


async def test_transfers_in_a_circle_and_in_both_directions_never_deadlock(acme: World) -> None:
    """M09: on two servers, while the same customers spend; nothing is lost on the way."""
    names = ["acme", "b", "c", "d"]
    for name in names[1:]:
        await acme.a_customer(name)
    other = twin(acme)
    deeds: list[Any] = []
    for n in range(60):
        giver, taker = random.sample(names, 2)
        world = (acme, other)[n % 2]
        deeds.append(move(world, random.randint(1, 20), to=taker, by=giver))
        if n % 3 == 0:
            deeds.append(world.deduct(random.choice(names), 1))
    done = await asyncio.gather(*deeds)
    moves = [one for one in done if isinstance(one, Answer)]
    assert {one.status for one in moves} <= {200, 422}
    spent = sum(1 for one in done if not isinstance(one, Answer) and one[0])
    balances = [(await figures(acme, name))[0] for name in names]
    assert sum(balances) == Decimal(60 - spent)
    await audit(acme)
