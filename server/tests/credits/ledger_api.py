"""What tests of the ledger's endpoints build and look at."""

import uuid
from typing import Any

from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.settings import Settings
from world import Answer, Client, JsonObject, World

BASE = "/api/v1/credits"


def twin(world: World) -> World:
    """The same organization by way of another server on the same database, with copies of its own."""
    services = build_services(world.database, Settings(), SystemClock())
    return World(Client(build_app(services)), services, world.org_id, world.secret, world.publishable)


async def send(
    world: World, path: str, body: object = None, *, key: str | None = None, method: str = "POST"
) -> Answer:
    """A call below `/credits`, with an idempotency key where one is given."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await world.call(method, BASE + path, body, headers=headers)


async def hold(world: World, amount: object, customer: str = "acme", **more: Any) -> JsonObject:
    """A hold of ten minutes, or why there is none."""
    body = {"amount": amount, "feature": "chat", "expires_in": 600, **more}
    answer = await send(world, f"/{customer}/holds", body)
    assert answer.status == 200, answer.body
    told: JsonObject = answer.json
    return told


async def settle(world: World, hold_id: str, amount: object, customer: str = "acme", **more: Any) -> Answer:
    key = more.pop("key", None)
    return await send(world, f"/{customer}/holds/{hold_id}/settle", {"amount": amount, **more}, key=key)


async def release(world: World, hold_id: str, customer: str = "acme", key: str | None = None) -> Answer:
    return await send(world, f"/{customer}/holds/{hold_id}/release", key=key)


async def figures(world: World, customer: str = "acme") -> tuple[Any, Any, Any]:
    """(balance, held, owed)."""
    found = await world.get(f"{BASE}/{customer}/balance")
    return found["balance"], found["held_credits"], found["receivable_credits"]


def a_key() -> str:
    return uuid.uuid4().hex


async def grants(world: World, customer: str = "acme", **query: object) -> list[JsonObject]:
    """Newest first."""
    found: list[JsonObject] = (await world.get(f"{BASE}/{customer}/grants", **query))["grants"]
    return found


async def deduct(world: World, amount: object, **more: object) -> JsonObject:
    """check-and-deduct's answer."""
    body = {"customer_id": "acme", "feature": "chat", "credits": amount, **more}
    told: JsonObject = await world.post("/api/v1/check-and-deduct", body)
    return told


async def refund(world: World, txn_id: str, amount: object = None, **more: Any) -> Answer:
    key, customer = more.pop("key", None), more.pop("customer", "acme")
    body = more if amount is None else {"amount": amount, **more}
    return await send(world, f"/{customer}/transactions/{txn_id}/refund", body or None, key=key)


async def left(world: World, customer: str = "acme") -> list[Any]:
    """What is left of each of the customer's grants, the oldest first."""
    return [one["remaining"] for one in reversed(await grants(world, customer, status="all"))]
