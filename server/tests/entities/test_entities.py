"""Entities through the API: what becomes of them, what is shown, and what is refused without a trace."""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest

from world import Answer, World

pytestmark = pytest.mark.database

ALL = "/api/v1/customers/acme/entities"
AGENT = f"{ALL}/agent"
NO_COUNTS = dict.fromkeys(
    ("created", "updated", "unchanged", "activated", "reactivated", "suspended", "deleted"), 0
)


@pytest.fixture
async def acme(world: World) -> World:
    """A world whose customer is called acme, at the start of 2026."""
    await world.turn("2026-01-01")
    await world.a_customer("acme")
    return world


async def send(world: World, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
    return await world.call(method, path, body, headers={"Idempotency-Key": key or uuid.uuid4().hex})


async def put(world: World, which: str = "agent", /, **body: object) -> Answer:
    return await send(world, "PUT", f"{ALL}/{quote(which, safe='')}", {"status": "active", **body})


async def delete(world: World, name: str = "agent") -> Answer:
    return await send(world, "DELETE", f"{ALL}/{quote(name, safe='')}")


async def bulk(world: World, *entities: dict[str, Any]) -> Answer:
    body = {"entities": [{"status": "active", **one} for one in entities]}
    return await send(world, "POST", f"{ALL}/bulk-upsert", body)


async def one(world: World, name: str = "agent") -> Any:
    return (await world.get(f"{ALL}/{quote(name, safe='')}"))["entity"]


async def a_chain(world: World, *names: str) -> None:
    """Each below the one before it."""
    up = None
    for name in names:
        await world.an_entity(name, parent_entity_id=up)
        up = name


async def facts(world: World) -> Sequence[str]:
    rows = await world.fetch(
        "select kind from outbox where org_id = $1 and kind like 'entity.%' order by created_at, id"
    )
    return [row["kind"].removeprefix("entity.") for row in rows]


async def stored(world: World) -> Sequence[Any]:
    return await world.fetch("select * from entities where org_id = $1 order by number")


async def test_an_entity_is_made_shown_and_listed(acme: World) -> None:
    answer = await put(acme, name="Agent", metadata={"model": "gpt-4o", "limit": 0.1})
    made = answer.json["entity"]
    assert (answer.status, answer.json["action"], answer.json["replayed"]) == (200, "created", False)
    assert uuid.UUID(made["id"]).version == 7
    assert {**made, "id": None} == {
        "id": None,
        "customer_id": "acme",
        "external_id": "agent",
        "name": "Agent",
        "status": "active",
        "metadata": {"model": "gpt-4o", "limit": made["metadata"]["limit"]},
        "parent_entity_id": None,
        "pool_policy": "entity_then_customer",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "deleted_at": None,
    }
    assert str(made["metadata"]["limit"]) == "0.1"
    assert await one(acme) == made
    listed = await acme.get(ALL)
    assert listed == {"customer_id": "acme", "entities": [made], "next_cursor": None}
    engine = await acme.get("/engine/api/v1/customers/acme/entities/agent")
    assert engine == {"entity": made}


async def test_a_snapshot_is_complete_but_for_what_says_who_spends(acme: World) -> None:
    """Contract 4.1: an absent name or metadata is cleared; parent and pool policy stay, a null parent is none."""
    await acme.an_entity("team")
    await acme.an_entity(
        "agent", name="A", metadata={"a": 1}, parent_entity_id="team", pool_policy="entity_only"
    )
    changed = (await put(acme)).json["entity"]
    assert (changed["name"], changed["metadata"]) == (None, {})
    assert (changed["parent_entity_id"], changed["pool_policy"]) == ("team", "entity_only")
    assert (await put(acme, pool_policy=None)).json["action"] == "unchanged"
    freed = (await put(acme, parent_entity_id=None, pool_policy="customer_only")).json["entity"]
    assert (freed["parent_entity_id"], freed["pool_policy"]) == (None, "customer_only")
    assert await one(acme) == freed


async def test_the_action_says_what_became_of_it(acme: World) -> None:
    """Every action, and a fact for each but `unchanged`."""
    told = []
    for day, body in enumerate(
        (
            {"status": "active"},
            {"status": "active"},
            {"status": "active", "name": "A"},
            {"status": "active", "name": "A", "metadata": {"on": 1}},
            {"status": "active", "name": "A", "metadata": {"on": True}},
            {"status": "suspended", "name": "B"},
            {"status": "suspended", "name": "B"},
            {"status": "active", "name": "B"},
            {"status": "deleted", "name": "C"},
            {"status": "deleted"},
            {"status": "active"},
            None,
            None,
            {"status": "suspended"},
        ),
        start=2,
    ):
        await acme.turn(f"2026-01-{day:02}")
        before = (await acme.get(ALL))["entities"][:1]
        answer = await (delete(acme) if body is None else put(acme, **body))
        action, entity = answer.json["action"], answer.json["entity"]
        told.append(action)
        assert await one(acme) == entity
        assert entity["updated_at"] == (
            before[0]["updated_at"] if action == "unchanged" else f"2026-01-{day:02}T00:00:00Z"
        )
    assert told == [
        "created", "unchanged", "updated", "updated", "updated", "suspended", "unchanged", "activated", "deleted",
        "unchanged", "reactivated", "deleted", "unchanged", "reactivated",
    ]  # fmt: skip
    assert await facts(acme) == [action for action in told if action != "unchanged"]


async def test_what_changes_on_a_clock_that_stands_is_stored(acme: World) -> None:
    """To Python, true is 1, and here not even the time differs."""
    await put(acme, metadata={"on": 1})
    assert (await put(acme, metadata={"on": True})).json["action"] == "updated"
    assert (await one(acme))["metadata"]["on"] is True


async def test_made_again_it_is_another_entity(acme: World) -> None:
    """Contract 4.1: a new incarnation with an id of its own, which inherits neither parent nor policy nor name."""
    await acme.an_entity("team")
    old = await acme.an_entity("agent", name="Old", parent_entity_id="team", pool_policy="entity_only")
    gone = (await delete(acme)).json["entity"]
    assert (gone["status"], gone["deleted_at"], gone["name"]) == ("deleted", "2026-01-01T00:00:00Z", "Old")
    new = (await put(acme)).json["entity"]
    assert new["id"] != old["id"]
    assert (new["name"], new["parent_entity_id"], new["deleted_at"]) == (None, None, None)
    assert new["pool_policy"] == "entity_then_customer"
    assert await one(acme) == new
    kept = (await acme.get(ALL, status="deleted"))["entities"]
    assert kept == [gone]


async def test_deleting_changes_nothing_else(acme: World) -> None:
    before = await acme.an_entity("agent", name="A", metadata={"a": 1})
    gone = (await put(acme, status="deleted", name="B", metadata={}, parent_entity_id="nobody")).json[
        "entity"
    ]
    now = "2026-01-01T00:00:00Z"
    assert gone == {
        **{name: value for name, value in before.items() if name != "action"},
        "status": "deleted",
        "updated_at": now,
        "deleted_at": now,
    }


async def test_what_never_was_cannot_be_deleted(acme: World) -> None:
    for answer in (await delete(acme), await put(acme, status="deleted")):
        assert (answer.status, answer.code) == (404, "entity_not_found")
    assert (await acme.call("GET", AGENT)).code == "entity_not_found"
    assert not await stored(acme)


async def test_a_list_is_paged_newest_first_and_by_status(acme: World) -> None:
    names = [f"e{n}" for n in range(7)]
    await bulk(acme, *({"external_id": name} for name in names))
    await put(acme, "e2", status="suspended")
    await delete(acme, "e4")
    seen: list[str] = []
    cursor = None
    while True:
        page = await acme.get(ALL, limit=3, cursor=cursor)
        seen += [entity["external_id"] for entity in page["entities"]]
        cursor = page["next_cursor"]
        assert len(page["entities"]) == (3 if cursor else 1)
        if cursor is None:
            break
        await put(acme, f"late-{len(seen)}")  # what is made meanwhile moves nothing
    assert seen == names[::-1]
    for status, expected in (
        ("active", ["late-6", "late-3", "e6", "e5", "e3", "e1", "e0"]),
        ("suspended", ["e2"]),
        ("deleted", ["e4"]),
    ):
        found = (await acme.get(ALL, status=status))["entities"]
        assert [entity["external_id"] for entity in found] == expected
        assert {entity["status"] for entity in found} == {status}


@pytest.mark.parametrize("query", ["status=gone", "limit=0", "limit=101", "limit=x", "cursor=x", "cursor="])
async def test_a_list_refuses_what_it_cannot_read(acme: World, query: str) -> None:
    assert (await acme.call("GET", f"{ALL}?{query}")).status == 400


async def test_a_key_is_required_and_means_one_effect(acme: World) -> None:
    """Contract 3.4: 400 without; again, the same bytes but for `replayed`; with another body 409."""
    body = {"status": "active", "name": "A"}
    many = {"entities": [{"external_id": "x", "status": "active"}]}
    for method, path, sent in (
        ("PUT", AGENT, body),
        ("POST", f"{ALL}/bulk-upsert", many),
        ("DELETE", AGENT, None),
    ):
        before = await stored(acme)
        refused = await acme.call(method, path, sent)
        assert (refused.status, refused.code) == (400, "idempotency_key_required")
        assert await stored(acme) == before
        first = await send(acme, method, path, sent, "k")
        again = await send(acme, method, path, sent, "k")
        assert (first.status, again.status) == (200, 200)
        assert again.body == first.body.replace(b'"replayed":false', b'"replayed":true')
        assert again.body != first.body
    other = await send(acme, "PUT", AGENT, {**body, "name": "B"}, "k")
    assert (other.status, other.code) == (409, "idempotency_key_reused")
    assert await facts(acme) == ["created", "created", "deleted"]


async def test_a_replay_answers_what_was_then(acme: World) -> None:
    """Also when the entity is long gone: the key names what was done, and does it no second time."""
    first = await send(acme, "PUT", AGENT, {"status": "active"}, "k")
    await delete(acme)
    again = await send(acme, "PUT", AGENT, {"status": "active"}, "k")
    assert again.json == {**first.json, "replayed": True}
    assert (await one(acme))["status"] == "deleted"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": None},
        {"status": "gone"},
        {"status": 1},
        {"status": "Active"},
        {"status": "active", "name": 1},
        {"status": "active", "name": "x" * 4097},
        {"status": "active", "name": "a\x00b"},
        {"status": "active", "name": "a\x01b"},
        {"status": "active", "metadata": []},
        {"status": "active", "metadata": "x"},
        {"status": "active", "metadata": {"x": "y" * 16_384}},
        {"status": "active", "metadata": {"x": "\x00"}},
        {"status": "active", "pool_policy": "all"},
        {"status": "active", "pool_policy": ["entity_only"]},
        {"status": "active", "parent_entity_id": ""},
        {"status": "active", "parent_entity_id": 7},
        {"status": "active", "parent_entity_id": "x" * 256},
        {"status": "active", "parent_entity_id": " x"},
        [],
        "active",
        None,
    ],
)
async def test_a_bad_snapshot_changes_nothing(acme: World, body: object) -> None:
    await acme.an_entity("agent", name="A", metadata={"a": 1})
    before = await stored(acme)
    answer = await send(acme, "PUT", AGENT, body)
    assert answer.status == 400
    many = await send(acme, "POST", f"{ALL}/bulk-upsert", {"entities": [{"external_id": "x"}, body]})
    assert many.status == 400
    assert await stored(acme) == before


@pytest.mark.parametrize(
    "name", ["a/b", "Ünïcode 🎉", "a b", "%2F", "a;b", "'; drop table entities; --", "x" * 255, "é" * 127]
)
async def test_any_id_is_taken_byte_by_byte(acme: World, name: str) -> None:
    made = (await put(acme, name)).json["entity"]
    assert made["external_id"] == name
    assert await one(acme, name) == made
    assert (await put(acme, name.swapcase() + "2"[: len(name) < 100])).status == 200
    assert (await delete(acme, name)).json["entity"]["id"] == made["id"]


@pytest.mark.parametrize(
    "name", ["x" * 256, "é" * 128, " a", "a ", " ", "a\x01", "a\x7f", "\x00", "bulk-upsert"]
)
async def test_what_cannot_be_an_id_is_refused(acme: World, name: str) -> None:
    many = await bulk(acme, {"external_id": name})
    assert many.status == 400
    alone = await put(acme, name)
    assert alone.status in (400, 405)
    assert not await stored(acme)


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_dot_segment_is_no_id(acme: World, name: str) -> None:
    assert (await put(acme, name)).status == 404
    assert (await bulk(acme, {"external_id": name})).status == 400


async def test_ids_differ_by_case_and_normal_form(acme: World) -> None:
    for name in ("agent", "Agent", "caf\u00e9", "cafe\u0301"):
        assert (await put(acme, name)).json["action"] == "created"


async def test_a_parent_lives_and_is_the_customers_own(acme: World) -> None:
    await acme.a_customer("other")
    await acme.an_entity("theirs", "other")
    await acme.an_entity("gone")
    await delete(acme, "gone")
    for parent in ("theirs", "gone", "nobody"):
        answer = await put(acme, parent_entity_id=parent)
        assert (answer.status, answer.code) == (404, "parent_entity_not_found")
    await acme.an_entity("paused", status="suspended")
    assert (await put(acme, parent_entity_id="paused")).json["action"] == "created"


async def test_no_entity_stands_below_itself(acme: World) -> None:
    await a_chain(acme, "a", "b", "c")
    for name, parent in (("a", "a"), ("a", "b"), ("a", "c"), ("b", "c"), ("new", "new")):
        answer = await put(acme, name, parent_entity_id=parent)
        assert (answer.status, answer.code) == (422, "entity_cycle")
    pair = ({"external_id": "x", "parent_entity_id": "y"}, {"external_id": "y", "parent_entity_id": "x"})
    assert (await bulk(acme, *pair)).code == "entity_cycle"
    turned = await bulk(
        acme,
        {"external_id": "c", "parent_entity_id": None},
        {"external_id": "b", "parent_entity_id": "c"},
        {"external_id": "a", "parent_entity_id": "b"},
    )
    assert turned.status == 200
    assert (await one(acme, "a"))["parent_entity_id"] == "b"


async def test_entities_stand_eight_deep_and_no_deeper(acme: World) -> None:
    await a_chain(acme, *(f"d{n}" for n in range(1, 9)))
    deeper = await put(acme, "d9", parent_entity_id="d8")
    assert (deeper.status, deeper.code) == (422, "entity_too_deep")
    await acme.an_entity("top")
    under = await put(acme, "d1", parent_entity_id="top")  # what stands below moves with it
    assert (under.status, under.code) == (422, "entity_too_deep")
    await put(acme, "d8", parent_entity_id=None)
    assert (await put(acme, "d1", parent_entity_id="top")).json["action"] == "updated"
    assert (await put(acme, "d8", parent_entity_id="d7")).code == "entity_too_deep"


async def test_an_entity_above_others_cannot_be_deleted(acme: World) -> None:
    await a_chain(acme, "team", "agent")
    refused = await delete(acme, "team")
    assert (refused.status, refused.code) == (409, "entity_has_children")
    assert (await one(acme, "team"))["status"] == "active"
    await put(acme, "agent", status="suspended")
    assert (await delete(acme, "team")).status == 409
    await delete(acme, "agent")
    gone = await delete(acme, "team")
    assert gone.json["action"] == "deleted"
    assert (await one(acme))["parent_entity_id"] == "team"  # as it was


async def test_many_are_put_as_if_at_one_moment(acme: World) -> None:
    await a_chain(acme, "old", "under")
    await put(acme, "paused", status="suspended")
    await put(acme, "gone")
    await delete(acme, "gone")
    answer = await bulk(
        acme,
        {"external_id": "user", "parent_entity_id": "team"},  # made before its parent
        {"external_id": "team", "name": "Team"},
        {"external_id": "old", "status": "deleted"},  # deleted before its child moves
        {"external_id": "under", "parent_entity_id": "team"},
        {"external_id": "paused"},
        {"external_id": "gone"},
    )
    told = answer.json
    assert answer.status == 200
    assert told["customer_id"] == "acme"
    assert [one["entity"]["external_id"] for one in told["entities"]] == [
        "user", "team", "old", "under", "paused", "gone",
    ]  # fmt: skip
    assert [one["action"] for one in told["entities"]] == [
        "created", "created", "deleted", "updated", "activated", "reactivated",
    ]  # fmt: skip
    expected = {"created": 2, "deleted": 1, "updated": 1, "activated": 1, "reactivated": 1}
    assert told["counts"] == {**NO_COUNTS, **expected}
    assert told["replayed"] is False
    for shown in told["entities"]:
        assert await one(acme, shown["entity"]["external_id"]) == shown["entity"]
    assert (await one(acme, "user"))["parent_entity_id"] == "team"
    repeated = await bulk(acme, {"external_id": "user"}, {"external_id": "under"})
    assert repeated.json["counts"] == {**NO_COUNTS, "unchanged": 2}


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [
        ({"external_id": "new", "parent_entity_id": "nobody"}, 404, "parent_entity_not_found"),
        ({"external_id": "nobody", "status": "deleted"}, 404, "entity_not_found"),
        ({"external_id": "team", "status": "deleted"}, 409, "entity_has_children"),
        ({"external_id": "team", "parent_entity_id": "agent"}, 422, "entity_cycle"),
        ({"external_id": "first"}, 400, "invalid_request"),
        ({"external_id": ""}, 400, "invalid_request"),
    ],
)
async def test_of_many_all_or_none_are_put(acme: World, bad: dict[str, Any], status: int, code: str) -> None:
    await a_chain(acme, "team", "agent")
    before, told = await stored(acme), await facts(acme)
    answer = await bulk(acme, {"external_id": "first"}, {"external_id": "agent", "name": "B"}, bad)
    assert (answer.status, answer.code) == (status, code)
    assert await stored(acme) == before
    assert await facts(acme) == told


async def test_a_parent_put_with_the_child_is_looked_at_as_it_will_be(acme: World) -> None:
    """Depth counts what moves in the same call: neither the place left behind nor the old subtree."""
    await a_chain(acme, *(f"d{n}" for n in range(1, 9)))
    await a_chain(acme, "t1", "t2")
    deep = await bulk(
        acme,
        {"external_id": "d1", "parent_entity_id": "t2"},
        {"external_id": "new", "parent_entity_id": "d7"},
    )
    assert deep.code == "entity_too_deep"
    fits = await bulk(
        acme,
        {"external_id": "d1", "parent_entity_id": "t2"},
        {"external_id": "d7", "parent_entity_id": None},
        {"external_id": "new", "parent_entity_id": "d8"},
    )
    assert fits.status == 200
    child_of_gone = await bulk(
        acme, {"external_id": "new", "parent_entity_id": "t1"}, {"external_id": "d8", "status": "deleted"}
    )
    assert child_of_gone.status == 200
    under_gone = await bulk(
        acme, {"external_id": "new", "parent_entity_id": "d7"}, {"external_id": "d7", "status": "deleted"}
    )
    assert under_gone.code == "parent_entity_not_found"


@pytest.mark.parametrize("count", [0, 501])
async def test_many_are_1_to_500(acme: World, count: int) -> None:
    answer = await bulk(acme, *({"external_id": f"e{n}"} for n in range(count)))
    assert answer.status == 400
    assert not await stored(acme)


async def test_500_are_put_at_once(acme: World) -> None:
    answer = await bulk(acme, *({"external_id": f"e{n}", "metadata": {"n": n}} for n in range(500)))
    assert answer.json["counts"] == {**NO_COUNTS, "created": 500}
    assert len(await stored(acme)) == len(await facts(acme)) == 500
    again = await bulk(acme, *({"external_id": f"e{n}", "metadata": {"n": n % 2}} for n in range(500)))
    assert again.json["counts"] == {**NO_COUNTS, "unchanged": 2, "updated": 498}


async def test_what_is_anothers_is_as_if_it_did_not_exist(acme: World, other_world: World) -> None:
    """A04: neither another organization's nor another customer's entity is seen, changed or stood under."""
    await acme.an_entity("agent", name="Secret")
    await acme.a_customer("rival")
    before = await stored(acme)
    foreign = [
        (await other_world.call("GET", AGENT)),
        (await other_world.call("GET", ALL)),
        (await put(other_world)),
        (await delete(other_world)),
        (await bulk(other_world, {"external_id": "agent"})),
    ]
    assert {(answer.status, answer.code) for answer in foreign} == {(404, "customer_not_found")}
    assert (await acme.call("GET", "/api/v1/customers/rival/entities/agent")).code == "entity_not_found"
    await other_world.turn("2026-01-01")
    await other_world.a_customer("acme")
    assert (await other_world.call("GET", AGENT)).code == "entity_not_found"
    assert (await put(other_world, "b", parent_entity_id="agent")).code == "parent_entity_not_found"
    twin = (await put(other_world)).json
    assert twin["action"] == "created"
    assert await stored(acme) == before


async def test_entities_need_a_secret_key(acme: World) -> None:
    await acme.an_entity("agent")
    for method, path in (("GET", ALL), ("GET", AGENT), ("DELETE", AGENT)):
        answer = await acme.call(method, path, key=acme.publishable, headers={"Idempotency-Key": "k"})
        assert (answer.status, answer.code) == (403, "secret_key_required")
    assert (await one(acme))["status"] == "active"


async def test_with_the_customer_its_entities_are_deleted(acme: World) -> None:
    """And a customer who is called the same later has none of them."""
    await a_chain(acme, "team", "agent")
    await put(acme, "paused", status="suspended")
    await acme.call("DELETE", "/core/api/v1/customers/acme")
    assert {row["status"] for row in await stored(acme)} == {"deleted"}
    assert (await facts(acme))[-3:] == ["deleted"] * 3
    assert (await acme.call("GET", ALL)).code == "customer_not_found"
    await acme.a_customer("acme")
    assert (await acme.get(ALL))["entities"] == []
    assert (await put(acme)).json["action"] == "created"
