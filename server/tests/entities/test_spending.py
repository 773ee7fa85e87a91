"""What becomes of an entity decides from the next call on who spends which credits."""

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.core.ids import from_text
from nozle_server.credits import book_store, giving, store
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits
from nozle_server.customers.queries import get_customer
from nozle_server.entities.queries import get_entity
from nozle_server.subscriptions.store import lock
from world import World, audit

pytestmark = pytest.mark.database

AGENT = "/api/v1/customers/acme/entities/agent"


@pytest.fixture
async def acme(world: World) -> World:
    """A customer with 100 credits of its own, a team with 10, and the team's agent with 5."""
    await world.turn("2026-01-01")
    await world.a_customer("acme")
    await world.grant("acme", 100)
    await world.an_entity("team")
    await world.an_entity("agent", parent_entity_id="team")
    await give(world, "team", 10)
    await give(world, "agent", 5)
    return world


async def give(world: World, name: str, amount: int, *, subscription: str | None = None) -> None:
    """Credits for an entity alone; as part of a plan, whoever gives them holds the subscription and takes a while."""

    async def work(tx: Any) -> None:
        if subscription is not None:
            await lock(tx, world.org_id, from_text("sub", subscription, what="subscription"))
            await asyncio.sleep(0.3)
        customer = await get_customer(tx, world.org_id, "acme")
        entity = await get_entity(tx, world.org_id, customer.id, name)
        await grant_credits(
            tx,
            world.services.seams.change_bus,
            org_id=world.org_id,
            customer_id=customer.id,
            entity_id=entity.id,
            amount=Decimal(amount),
            source=GrantSource.MANUAL,
            now=entity.created_at,
        )

    await world.database.run(work)


async def allocate(world: World, name: str, amount: int) -> None:
    """Some of the customer's top-ups for an entity."""

    async def work(tx: Any) -> None:
        customer = await get_customer(tx, world.org_id, "acme")
        entity = await get_entity(tx, world.org_id, customer.id, name)
        ids = await store.list_account_ids(tx, world.org_id, customer.id)
        [book] = await book_store.lock(tx, world.org_id, ids)
        assert giving.allocate(book, entity.id, Decimal(amount), entity.created_at)
        await book_store.save(tx, world.services.seams.change_bus, [book])

    await world.database.run(work)


async def take(world: World, amount: object, entity: str | None = "agent") -> tuple[object, object]:
    """check-and-deduct: (allowed, what remains for it), or (status, code)."""
    body = {"customer_id": "acme", "feature": "chat", "credits": amount, "entity_id": entity}
    answer = await world.call("POST", "/api/v1/check-and-deduct", body)
    if answer.status != 200:
        return answer.status, answer.code
    return answer.json["allowed"], answer.json["remaining"]


async def end(world: World, name: str) -> None:
    place = f"/api/v1/customers/acme/entities/{name}"
    answer = await world.call("DELETE", place, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert answer.status == 200


async def test_the_pool_policy_says_whose_credits_are_spent_at_once(acme: World) -> None:
    assert await take(acme, 1) == (True, 114)
    await acme.an_entity("agent", pool_policy="entity_only")
    assert await take(acme, 1) == (True, 13)
    await acme.an_entity("agent", pool_policy="customer_only")
    assert await take(acme, 1) == (True, 99)
    await acme.an_entity("agent", name="Another name")
    assert await take(acme, 1) == (True, 98)
    await audit(acme)


async def test_the_parent_says_whose_credits_are_spent_at_once(acme: World) -> None:
    await acme.an_entity("agent", pool_policy="entity_only")
    assert await take(acme, 1) == (True, 14)
    await acme.an_entity("agent", parent_entity_id=None)
    assert await take(acme, 1) == (True, 3)
    await acme.an_entity("agent", parent_entity_id="team")
    assert await take(acme, 1) == (True, 12)
    await audit(acme)


async def test_a_suspended_entity_spends_nothing_and_has_lost_its_credits(acme: World) -> None:
    """Contract 4.1: usage is blocked, unused grants expire; coming back it spends what it is given then."""
    assert await take(acme, 2) == (True, 113)
    await acme.an_entity("agent", status="suspended")
    assert (await take(acme, 1))[0] is False
    assert await acme.balance("acme") == 110
    assert (await acme.transactions("acme"))[-1] == ("expire", 3)
    await acme.an_entity("agent", status="active")
    assert await take(acme, 1) == (True, 109)
    await audit(acme)


async def test_below_a_suspended_entity_nobody_spends(acme: World) -> None:
    assert await take(acme, 1) == (True, 114)
    await acme.an_entity("team", status="suspended")
    assert (await take(acme, 1))[0] is False
    assert (await take(acme, 1, entity=None))[0] is True
    await acme.an_entity("team", status="active")
    assert (await take(acme, 1))[0] is True
    await audit(acme)


async def test_a_deleted_entity_is_nobodys_and_who_follows_it_has_nothing_of_it(acme: World) -> None:
    """A new incarnation never inherits money history."""
    assert await take(acme, 1) == (True, 114)
    await end(acme, "agent")
    assert await take(acme, 1) == (404, "entity_not_found")
    assert await acme.balance("acme") == 110
    await acme.an_entity("agent", pool_policy="entity_only")
    assert await take(acme, 1) == (False, 0)
    await audit(acme)


async def test_an_entity_made_after_it_was_asked_for_is_known_at_once(acme: World) -> None:
    assert await take(acme, 1, entity="new") == (404, "entity_not_found")
    await acme.an_entity("new")
    assert await take(acme, 1, entity="new") == (True, 99)


async def test_what_was_bought_returns_to_the_customer(acme: World) -> None:
    """Top-ups allocated to an entity go back to the grant that they came from, also one that all was taken of."""
    await acme.grant("acme", 50, source="top_up", priority=10)
    await allocate(acme, "agent", 50)
    await acme.an_entity("agent", pool_policy="entity_only")
    assert await take(acme, 20) == (True, 45)  # of what was bought, which is spent first
    assert await acme.balance("acme") == 145
    await end(acme, "agent")
    left = await acme.fetch("select remaining from credit_grants where org_id = $1 and source = 'top_up'")
    assert [row["remaining"] for row in left] == [30]
    assert await acme.balance("acme") == 140
    assert await take(acme, 131, entity=None) == (False, 130)
    assert await take(acme, 130, entity=None) == (True, 0)
    await audit(acme)


async def test_what_a_plan_grants_while_an_entity_is_closed_is_lost_with_the_rest(acme: World) -> None:
    await acme.a_plan()
    subscription = await acme.subscribe("acme", "pro")
    granting = asyncio.create_task(give(acme, "agent", 7, subscription=subscription))
    await asyncio.sleep(0.1)
    await acme.an_entity("agent", status="suspended")
    await granting
    assert await acme.balance("acme") == 110
    await audit(acme)


async def test_many_are_closed_at_once(acme: World) -> None:
    entities = [
        {"external_id": "team", "status": "deleted"},
        {"external_id": "agent", "status": "deleted"},
    ]
    place = "/api/v1/customers/acme/entities/bulk-upsert"
    await acme.post(place, {"entities": entities}, Idempotency_Key="k")
    assert await acme.balance("acme") == 100
    assert sorted(await acme.transactions("acme"))[:2] == [("expire", 5), ("expire", 10)]
    await audit(acme)


async def test_entities_lose_their_credits_with_their_customer(acme: World) -> None:
    assert await take(acme, 1) == (True, 114)
    await acme.call("DELETE", "/core/api/v1/customers/acme")
    assert await take(acme, 1) == (404, "customer_not_found")
    left = await acme.fetch(
        "select id from credit_grants where org_id = $1 and entity_id is not null and remaining > 0"
    )
    assert not left
    await audit(acme)


async def test_deductions_racing_the_end_of_an_entity_take_only_what_was_its_own(acme: World) -> None:
    """Each is before the end or after it: what was allowed was covered, and afterwards nothing is left of it."""
    await give(acme, "agent", 95)
    await acme.an_entity("agent", parent_entity_id=None, pool_policy="entity_only")
    deeds = [take(acme, 5) for _ in range(40)]
    answers = await asyncio.gather(*deeds[:15], end(acme, "agent"), *deeds[15:])
    told = [answer for answer in answers if answer is not None]
    allowed = sum(one[0] is True for one in told)
    assert allowed <= 20
    assert all(one[0] in (True, False) or one == (404, "entity_not_found") for one in told)
    assert await acme.balance("acme") == 110
    moved = await acme.transactions("acme")
    assert sum(amount for kind, amount in moved if kind == "deduct") == 5 * allowed
    assert sum(amount for kind, amount in moved if kind == "expire") == 100 - 5 * allowed
    await audit(acme)
