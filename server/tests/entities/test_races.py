"""Many callers at once: each entity is made once, and the tree stays a tree."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest

from world import Answer, World

pytestmark = pytest.mark.database

ALL = "/api/v1/customers/acme/entities"


@pytest.fixture
async def acme(world: World) -> World:
    await world.a_customer("acme")
    return world


async def send(world: World, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
    return await world.call(method, ALL + path, body, headers={"Idempotency-Key": key or uuid.uuid4().hex})


async def put(world: World, which: str = "agent", /, **body: object) -> Answer:
    return await send(world, "PUT", f"/{which}", {"status": "active", **body})


async def whole(world: World) -> None:
    """Every live entity stands below a live one or at the top, and its external id is its own."""
    rows = await world.fetch(
        "select id, external_id, parent_id from entities where org_id = $1 and deleted_at is null"
    )
    live = {row["id"]: row["parent_id"] for row in rows}
    assert len({row["external_id"] for row in rows}) == len(rows)
    assert set(live.values()) <= {None, *live}
    for at in live:
        way: list[Any] = []
        step: Any = at
        while step is not None:
            assert step not in way
            way.append(step)
            step = live[step]
        assert len(way) <= 8


async def test_made_at_once_it_is_made_once(acme: World) -> None:
    answers = await asyncio.gather(*(put(acme) for _ in range(20)))
    assert Counter(answer.json["action"] for answer in answers) == {"created": 1, "unchanged": 19}
    assert len({answer.json["entity"]["id"] for answer in answers}) == 1
    await send(acme, "DELETE", "/agent")
    answers = await asyncio.gather(*(put(acme) for _ in range(20)))
    assert Counter(answer.json["action"] for answer in answers) == {"reactivated": 1, "unchanged": 19}
    await whole(acme)


async def test_two_snapshots_at_once_are_one_after_the_other(acme: World) -> None:
    """No mixture of the two: what is stored is one of the answers."""
    for n in range(10):
        one = {"name": f"A{n}", "metadata": {"by": "A", "n": n}}
        two = {"name": f"B{n}", "metadata": {"by": "B", "n": n}}
        answers = await asyncio.gather(put(acme, **one), put(acme, **two))
        assert {answer.status for answer in answers} == {200}
        entity = (await acme.get(f"{ALL}/agent"))["entity"]
        assert {"name": entity["name"], "metadata": entity["metadata"]} in (one, two)
        assert entity in [answer.json["entity"] for answer in answers]


async def test_one_key_at_once_is_one_effect(acme: World) -> None:
    body = {"status": "active", "name": "A"}
    answers = await asyncio.gather(*(send(acme, "PUT", "/agent", body, "once") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert Counter(answer.json["replayed"] for answer in answers) == {False: 1, True: 19}
    assert {answer.json["action"] for answer in answers} == {"created"}
    told = await acme.fetch("select id from outbox where org_id = $1 and kind like 'entity.%'")
    assert len(told) == 1


async def test_deleting_a_parent_while_a_child_is_made_has_one_winner(acme: World) -> None:
    for n in range(20):
        team = f"team-{n}"
        await put(acme, team)
        deeds = [send(acme, "DELETE", f"/{team}"), put(acme, f"child-{n}", parent_entity_id=team)]
        gone, made = await asyncio.gather(*(deeds if n % 2 else deeds[::-1]))
        if n % 2 == 0:
            gone, made = made, gone
        outcome = (gone.status, made.status)
        assert outcome in ((200, 404), (409, 200))
        assert (gone.code or made.code) in ("entity_has_children", "parent_entity_not_found")
    await whole(acme)


async def test_two_moves_that_would_close_a_circle_have_one_winner(acme: World) -> None:
    for n in range(10):
        one, two = f"a{n}", f"b{n}"
        await put(acme, one)
        await put(acme, two)
        answers = await asyncio.gather(
            put(acme, one, parent_entity_id=two), put(acme, two, parent_entity_id=one)
        )
        assert sorted(answer.status for answer in answers) == [200, 422]
    await whole(acme)


async def test_many_at_once_in_opposite_order_never_deadlock(acme: World) -> None:
    entities = [{"external_id": f"e{n}", "status": "active"} for n in range(50)]
    orders = [entities, entities[::-1]] * 4
    answers = await asyncio.gather(
        *(send(acme, "POST", "/bulk-upsert", {"entities": order}) for order in orders)
    )
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["counts"]["created"] for answer in answers) == 50
    await whole(acme)


async def test_deleting_the_customer_while_entities_are_made_leaves_none_alive(acme: World) -> None:
    deeds = [put(acme, f"e{n}") for n in range(10)]
    gone = acme.call("DELETE", "/core/api/v1/customers/acme")
    answers = await asyncio.gather(*deeds[:5], gone, *deeds[5:])
    assert {answer.status for answer in answers} <= {200, 404}
    assert not await acme.fetch("select id from entities where org_id = $1 and deleted_at is null")
