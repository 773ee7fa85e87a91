"""What tests of product credits build: a rated metric, grants of any kind, and calls with a key."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits
from nozle_server.customers.queries import get_customer
from nozle_server.entities.queries import get_entity
from world import Answer, JsonObject, World, instant

SYSTEMS = "/core/api/v1/credit-systems"


async def a_system(world: World, code: str = "ai") -> str:
    await world.post(SYSTEMS, {"credit_system": {"code": code, "name": code.upper()}})
    return code


async def a_rate(
    world: World,
    credits: str = "2",
    per: str = "1000",
    *,
    metric: str = "tokens",
    system: str = "ai",
    **more: object,
) -> JsonObject:
    """`per` units of the metric cost `credits`."""
    body = {"metric_amount": per, "credit_amount": credits, **more}
    answer = await world.call("PUT", f"{SYSTEMS}/{system}/rates/{metric}", body)
    assert answer.status == 200, answer.body
    rate = answer.json["credit_rate"]
    assert isinstance(rate, dict)
    return rate


async def give(
    world: World,
    amount: object,
    source: GrantSource = GrantSource.TOP_UP,
    *,
    customer: str = "acme",
    system: str = "ai",
    entity: str | None = None,
    expires: str | None = None,
    **more: Any,
) -> str:
    """A grant of any kind, to a customer or one of its entities; its id as it is shown."""

    async def make(tx: Any) -> str:
        found = await get_customer(tx, world.org_id, customer)
        owner = None if entity is None else (await get_entity(tx, world.org_id, found.id, entity)).id
        grant, _ = await grant_credits(
            tx,
            world.services.seams.change_bus,
            org_id=world.org_id,
            customer_id=found.id,
            amount=Decimal(str(amount)),
            source=source,
            now=await now(world),
            expires_at=None if expires is None else instant(expires),
            credit_system=system,
            entity_id=owner,
            **more,
        )
        return f"grant_{grant.id.hex}"

    return await world.database.run(make)


async def now(world: World) -> datetime:
    [row] = await world.fetch("select test_now from organizations where id = $1")
    at = row["test_now"] or world.services.clock.now()
    assert isinstance(at, datetime)
    return at


async def track(world: World, *, key: str | None = None, **use: object) -> Answer:
    body = {"customer_id": "acme", "feature_code": "tokens", **use}
    return await world.call(
        "POST", "/api/v1/usage/track", body, headers={"Idempotency-Key": key or uuid.uuid4().hex}
    )


async def check(world: World, **use: object) -> Answer:
    return await world.call(
        "POST", "/api/v1/usage/check", {"customer_id": "acme", "feature_code": "tokens", **use}
    )


async def transfer(
    world: World,
    amount: object,
    *,
    back: bool = False,
    entity: str = "agent",
    system: str = "ai",
    key: str | None = None,
    customer: str = "acme",
) -> Answer:
    name = "credit-deallocations" if back else "credit-allocations"
    return await world.call(
        "POST",
        f"/api/v1/customers/{customer}/entities/{entity}/{name}",
        {"credit_system": system, "amount": amount},
        headers={"Idempotency-Key": key or uuid.uuid4().hex},
    )


async def operations(world: World, entity: str | None = None, **query: object) -> list[JsonObject]:
    """All of them, newest first, by pages as small as the query says."""
    place = "/api/v1/customers/acme" + (f"/entities/{entity}" if entity else "")
    found: list[JsonObject] = []
    cursor = None
    while True:
        page = await world.get(f"{place}/credit-operations", cursor=cursor, **query)
        found += page["operations"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
        assert len(cursor) <= 512
        assert page["operations"], "a page that has another has rows"


async def balance(world: World, system: str = "ai", entity: str | None = None) -> JsonObject:
    place = "/api/v1/customers/acme" + (f"/entities/{entity}" if entity else "")
    shown = await world.get(f"{place}/credit-systems/{system}/balance")
    assert isinstance(shown, dict)
    return shown
