"""What a plan grants to each entity of its subscriber: contract 4.2, told in dates."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database


def each(amount: object, cadence: str = "period", **more: object) -> dict[str, Any]:
    return {"credit_system": "credits", "amount": amount, "cadence": cadence, "scope": "entity", **more}


async def put(world: World, entity: str, status: str = "active") -> None:
    answer = await world.call(
        "PUT",
        f"/api/v1/customers/acme/entities/{entity}",
        {"status": status},
        headers={"idempotency-key": f"{entity} {status} {await clock(world)}"},
    )
    assert answer.status == 200, answer.json


async def clock(world: World) -> str:
    now = (await world.get("/api/v1/test-clock"))["now"]
    assert isinstance(now, str)
    return now


async def left(world: World) -> Mapping[str | None, Decimal]:
    """What is left of plans' grants that have not expired, by entity (None: the customer's)."""
    rows = await world.fetch(
        """select e.external_id, sum(g.remaining) as remaining from credit_grants g
           left join entities e on e.org_id = g.org_id and e.id = g.entity_id
           where g.org_id = $1 and g.source in ('plan', 'rollover') and g.remaining > 0 group by 1"""
    )
    return {row["external_id"]: row["remaining"] for row in rows}


async def spend(world: World, entity: str, credits: object) -> bool:
    body = {"customer_id": "acme", "feature": "chat", "credits": credits, "entity_id": entity}
    allowed = (await world.post("/api/v1/check-and-deduct", body))["allowed"]
    assert isinstance(allowed, bool)
    return allowed


async def test_every_active_entity_gets_it_each_period(world: World) -> None:
    """The customer's own beside it; who is suspended gets nothing; one does not spend another's."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await put(world, "ann")
    await put(world, "bob", "suspended")
    await world.a_plan(credits=100, credit_grants=[each(10)])
    await world.subscribe("acme", "pro")
    assert await left(world) == {None: 100, "ann": 10}
    assert await spend(world, "ann", 105)
    assert not await spend(world, "ann", 6)
    assert await left(world) == {None: 5}
    await world.turn("2026-02-01")
    assert await left(world) == {None: 100, "ann": 10}
    await audit(world)


async def test_a_new_entity_gets_it_within_the_period(world: World) -> None:
    """Once: until the period's end, and with each after it; also one that becomes active later."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(
        interval="yearly",
        credit_grants=[each(10, "month"), each(100), each(1000, "lifetime")],
    )
    await world.subscribe("acme", "pro")
    assert await left(world) == {}
    await world.turn("2026-01-20")
    await put(world, "ann")
    await put(world, "bob", "suspended")
    assert await left(world) == {"ann": 1110}
    await world.turn("2026-01-25")
    await put(world, "bob")
    await put(world, "ann")
    assert await left(world) == {"ann": 1110, "bob": 1110}
    rows = await world.fetch(
        "select amount, expires_at from credit_grants where org_id = $1 order by amount, expires_at"
    )
    assert [(int(row["amount"]), row["expires_at"] and str(row["expires_at"].date())) for row in rows] == [
        (10, "2026-02-01"),
        (10, "2026-02-01"),
        (100, "2027-01-01"),
        (100, "2027-01-01"),
        (1000, None),
        (1000, None),
    ]
    await spend(world, "ann", 10)
    await world.turn("2026-02-01")
    assert await left(world) == {"ann": 1110, "bob": 1110}
    await audit(world)


async def test_an_upgrade_tops_each_up(world: World) -> None:
    """What each was granted counts, whatever it spent."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await put(world, "ann")
    await world.a_plan(code="starter", amount_cents=100, credit_grants=[each(10)])
    await world.a_plan(code="pro", amount_cents=900, credit_grants=[each(25)])
    await world.subscribe("acme", "starter")
    await spend(world, "ann", 4)
    await world.turn("2026-01-10")
    await put(world, "bob", "suspended")
    await world.change_plan("acme", "pro")
    await put(world, "bob")
    assert await left(world) == {"ann": 21, "bob": 25}
    await audit(world)


async def test_each_carries_its_own_over(world: World) -> None:
    """The limit is each one's; who is not active at the boundary carries nothing."""
    await world.turn("2026-01-01")
    await world.a_customer()
    for entity in ("ann", "bob", "cid"):
        await put(world, entity)
    await world.a_plan(credit_grants=[each(10, rollover={"limit": 6})])
    await world.subscribe("acme", "pro")
    await spend(world, "ann", 8)
    await world.turn("2026-01-20")
    await put(world, "cid", "suspended")
    await world.turn("2026-02-01")
    found = await left(world)
    assert {name: found[name] for name in ("ann", "bob")} == {"ann": 12, "bob": 16}
    rolled = await world.fetch(
        "select amount from credit_grants where org_id = $1 and source = 'rollover' order by amount"
    )
    assert [row["amount"] for row in rolled] == [2, 6]
    await world.turn("2026-02-10")
    await put(world, "cid")
    assert (await left(world))["cid"] == 10
    await audit(world)


async def test_what_an_entity_lost_with_its_end_is_not_carried_over(world: World) -> None:
    """A suspension lets its grants expire; active again before the boundary, it has nothing left of them there."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await put(world, "ann")
    await world.a_plan(credit_grants=[each(10, rollover={})])
    await world.subscribe("acme", "pro")
    await world.turn("2026-01-20")
    await put(world, "ann", "suspended")
    await world.turn("2026-01-25")
    await put(world, "ann")
    assert await left(world) == {}
    await world.turn("2026-02-01")
    assert await left(world) == {"ann": 10}
    await audit(world)


async def test_without_a_running_plan_an_entity_gets_nothing(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credit_grants=[each(10)])
    subscription = await world.subscribe("acme", "pro")
    await world.at("2026-01-10").cancel(subscription, cancellation_policy="immediate")
    await put(world, "ann")
    assert await left(world) == {}
