"""Holds through the API (Decision 15): what is held is nobody else's, is taken once, and comes back by itself."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from nozle_server.core.ids import new_id, to_text
from world import Answer, World, audit

from .ledger_api import a_key, figures, grants, hold, left, release, send, settle, twin
from .product import a_system, give

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """A customer with 100 credits that never expire."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.grant("acme", 100)
    return world


async def status(world: World, hold_id: str, customer: str = "acme") -> Any:
    return (await world.get(f"/api/v1/credits/{customer}/holds/{hold_id}"))["status"]


async def test_a_hold_is_settled_for_what_the_work_came_to(acme: World) -> None:
    held = await hold(acme, 20)
    assert held == {
        "allowed": True,
        "hold_id": held["hold_id"],
        "held": 20,
        "remaining": 80,
        "expires_at": "2026-01-01T00:10:00Z",
    }
    assert await figures(acme) == (80, 20, 0)
    assert await acme.deduct("acme", 81) == (False, 80)
    settled = await settle(acme, held["hold_id"], "12.5")
    assert settled.json == {"settled": 12.5, "uncovered": 0, "remaining": 87.5}
    assert await figures(acme) == (87.5, 0, 0)
    assert await acme.transactions("acme") == [
        ("grant", 100),
        ("hold", 20),
        ("release", 20),
        ("deduct", 12.5),
    ]
    shown = await acme.get(f"/api/v1/credits/acme/holds/{held['hold_id']}")
    assert shown == {
        "hold_id": held["hold_id"],
        "status": "settled",
        "held": 20,
        "settled": 12.5,
        "uncovered": 0,
        "feature": "chat",
        "entity_id": None,
        "credit_system": "credits",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:10:00Z",
        "ended_at": "2026-01-01T00:00:00Z",
    }
    await audit(acme)


async def test_a_hold_is_released(acme: World) -> None:
    held = await hold(acme, 100)
    assert held["remaining"] == 0
    assert (await release(acme, held["hold_id"])).json == {"released": True, "remaining": 100}
    assert await status(acme, held["hold_id"]) == "released"
    assert await figures(acme) == (100, 0, 0)
    await audit(acme)


async def test_work_that_came_to_nothing_takes_nothing(acme: World) -> None:
    held = await hold(acme, 100)
    assert (await settle(acme, held["hold_id"], 0)).json == {"settled": 0, "uncovered": 0, "remaining": 100}
    assert await acme.transactions("acme") == [("grant", 100), ("hold", 100), ("release", 100)]
    await audit(acme)


async def test_a_refused_hold_is_200_and_holds_nothing(acme: World) -> None:
    refused = {"allowed": False, "hold_id": None, "held": 0, "expires_at": None}
    why = {"reason": "insufficient_credits"}
    assert await hold(acme, "100.000000000001") == {**refused, "remaining": 100, **why}
    await acme.a_customer("poor")
    assert await hold(acme, 1, "poor") == {**refused, "remaining": 0, **why}
    await acme.an_entity("asleep", status="suspended")
    inactive = await hold(acme, 1, entity_id="asleep")
    assert (inactive["allowed"], inactive["reason"]) == (False, "entity_inactive")
    assert (await acme.get("/api/v1/credits/acme/holds"))["holds"] == []
    assert await figures(acme) == (100, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": "1e3"},
        {"amount": None},
        {"expires_in": 0},
        {"expires_in": 604_801},
        {"expires_in": 1.5},
        {"expires_in": True},
        {"feature": ""},
        {"feature": None},
        {"entity_id": ""},
        {"credit_system": ""},
    ],
)
async def test_a_malformed_hold_is_400_and_holds_nothing(acme: World, body: dict[str, object]) -> None:
    wanted = {"amount": 1, "feature": "chat", "expires_in": 60, **body}
    answer = await send(acme, "/acme/holds", wanted)
    assert (answer.status, bool(answer.code)) == (400, True)
    assert await figures(acme) == (100, 0, 0)


@pytest.mark.parametrize("body", [{}, {"amount": -1}, {"amount": "x"}, {"amount": 1, "uncovered_limit": -1}])
async def test_a_malformed_settlement_is_400_and_settles_nothing(
    acme: World, body: dict[str, object]
) -> None:
    held = await hold(acme, 10)
    answer = await send(acme, f"/acme/holds/{held['hold_id']}/settle", body)
    assert answer.status == 400
    assert await status(acme, held["hold_id"]) == "open"


async def test_what_is_nobodys_is_404(acme: World, other_world: World) -> None:
    held = (await hold(acme, 10))["hold_id"]
    await acme.a_customer("other")
    await other_world.a_customer()
    nobodys = to_text("hold", new_id())
    for world, customer, hold_id, code in (
        (acme, "acme", nobodys, "hold_not_found"),
        (acme, "acme", "hold_1", "hold_not_found"),
        (acme, "other", held, "hold_not_found"),
        (other_world, "acme", held, "hold_not_found"),
        (acme, "nobody", held, "customer_not_found"),
    ):
        for answer in (
            await settle(world, hold_id, 1, customer),
            await release(world, hold_id, customer),
            await world.call("GET", f"/api/v1/credits/{customer}/holds/{hold_id}"),
        ):
            assert (answer.status, answer.code) == (404, code)
    body = {"amount": 1, "feature": "chat", "expires_in": 60}
    for path, more, code in (
        ("/nobody/holds", {}, "customer_not_found"),
        ("/acme/holds", {"entity_id": "nobody"}, "entity_not_found"),
        ("/acme/holds", {"credit_system": "none"}, "credit_system_not_found"),
    ):
        answer = await send(acme, path, body | more)
        assert (answer.status, answer.code) == (404, code)
    assert await status(acme, held) == "open"


async def test_a_hold_that_has_ended_says_how(acme: World) -> None:
    settled, released, expired = [(await hold(acme, 10))["hold_id"] for _ in range(3)]
    await settle(acme, settled, 5)
    await release(acme, released)
    await acme.turn("2026-01-01T00:10:00Z")
    for hold_id, how in ((settled, "settled"), (released, "released"), (expired, "expired")):
        for answer in (await settle(acme, hold_id, 1), await release(acme, hold_id)):
            assert (answer.status, answer.code) == (409, "hold_ended")
            assert how in answer.json["error"]
        assert await status(acme, hold_id) == how
    assert await figures(acme) == (95, 0, 0)
    await audit(acme)


async def test_a_hold_comes_back_by_itself_at_the_instant_of_its_end(acme: World) -> None:
    held = (await hold(acme, 100, expires_in=1))["hold_id"]
    await acme.turn("2026-01-01T00:00:00.999999Z")
    assert await acme.deduct("acme", 1) == (False, 0)
    assert await status(acme, held) == "open"
    await acme.turn("2026-01-01T00:00:01Z")
    assert await figures(acme) == (100, 0, 0)
    shown = await acme.get(f"/api/v1/credits/acme/holds/{held}")
    assert (shown["status"], shown["ended_at"], shown["settled"]) == ("expired", "2026-01-01T00:00:01Z", 0)
    assert (await acme.transactions("acme"))[-1] == ("release", 100)
    await audit(acme)


async def test_a_hold_that_has_ended_within_the_second_has_given_back_what_it_held(acme: World) -> None:
    """All that is shown is of one moment, although it is written down at the next whole second only."""
    await acme.grant("acme", 5, expires_at="2026-01-01T00:00:01.2Z", priority=1)
    await acme.turn("2026-01-01T00:00:00.4Z")
    await hold(acme, 105, expires_in=1)
    assert await grants(acme) == []
    await acme.turn("2026-01-01T00:00:01.4Z")
    assert await figures(acme) == (100, 0, 0)
    assert await left(acme) == [100, 0]
    [shown] = await grants(acme)
    assert (shown["amount"], shown["remaining"]) == (100, 100)
    await acme.grant("acme", 1)
    newest = await acme.get("/api/v1/credits/acme/grants", limit=1)
    [following] = await grants(acme, limit=1, cursor=newest["next_cursor"])
    assert [newest["grants"][0]["amount"], following] == [1, shown]
    await acme.turn("2026-01-01T00:00:02Z")
    assert await left(acme) == [100, 0, 1]
    await audit(acme)


async def test_a_hold_is_settled_in_the_credit_system_that_it_is_of(acme: World) -> None:
    """Whoever settles need not know it: it may be that which the feature belongs to."""
    systems = "/core/api/v1/credit-systems"
    await acme.post(systems, {"credit_system": {"code": "ai", "name": "AI", "features": ["draw"]}})
    assert (await hold(acme, 1, feature="draw"))["allowed"] is False
    await give(acme, 10)
    by_feature, by_name = await hold(acme, 4, feature="draw"), await hold(acme, 5, credit_system="ai")
    assert (by_feature["remaining"], by_name["remaining"]) == (6, 1)
    key = a_key()
    answers = [await settle(acme, by_feature["hold_id"], 3, key=key) for _ in range(3)]
    assert {answer.body for answer in answers} == {b'{"settled":3,"uncovered":0,"remaining":2}'}
    assert [answer.replayed for answer in answers] == [False, True, True]
    assert (await release(acme, by_name["hold_id"])).json["remaining"] == 7
    assert (await release(acme, by_name["hold_id"])).status == 409
    assert await figures(acme) == (100, 0, 0)
    shown = (await acme.get("/api/v1/credits/acme/holds", credit_system="ai"))["holds"]
    assert [(one["credit_system"], one["status"]) for one in shown] == [("ai", "released"), ("ai", "settled")]
    await audit(acme)


async def test_only_a_customer_without_credits_of_the_default_system_has_holds_elsewhere(
    world: World,
) -> None:
    await world.a_customer()
    await a_system(world)
    await give(world, 10)
    held = await hold(world, 4, credit_system="ai")
    assert (await settle(world, held["hold_id"], 1)).json["remaining"] == 9


async def test_one_key_is_one_hold_and_one_settlement(acme: World) -> None:
    """M04: the same bytes for ever, by any server, also after what was asked can no longer be done."""
    other, body = twin(acme), {"amount": 10, "feature": "chat", "expires_in": 60}
    key, end = a_key(), a_key()
    holds = [await send(one, "/acme/holds", body, key=key) for one in (acme, other, acme)]
    assert len({answer.body for answer in holds}) == 1
    held = holds[0].json["hold_id"]
    assert (await send(acme, "/acme/holds", {**body, "amount": 11}, key=key)).code == "idempotency_key_reused"
    ends = [await settle(one, held, 4, key=end) for one in (acme, other, acme)]
    assert len({(answer.status, answer.body) for answer in ends}) == 1
    assert [answer.replayed for answer in ends] == [False, True, True]
    assert (await settle(other, held, 5, key=end)).code == "idempotency_key_reused"
    assert (await settle(other, held, 4, key=a_key())).code == "hold_ended"
    # A key is one of an operation: releasing is another.
    assert (await release(acme, held, key=end)).code == "hold_ended"
    await acme.turn("2026-01-02")
    await acme.call("DELETE", "/core/api/v1/customers/acme")
    again = [await send(other, "/acme/holds", body, key=key), await settle(other, held, 4, key=end)]
    assert [answer.body for answer in again] == [holds[0].body, ends[0].body]
    await audit(acme)


async def test_what_settles_beyond_the_balance_is_owed_and_paid_by_the_next_grant(acme: World) -> None:
    await acme.deduct("acme", 90)
    held = await hold(acme, 6)
    settled = await settle(acme, held["hold_id"], 25, uncovered_limit=12)
    assert settled.json == {"settled": 22, "uncovered": 12, "remaining": 0}
    assert await figures(acme) == (0, 0, 12)
    assert await acme.deduct("acme", 1) == (False, 0)
    given = await acme.grant("acme", 5)
    assert (given["remaining"], given["balance"]) == (0, 0)
    assert await figures(acme) == (0, 0, 7)
    given = await acme.grant("acme", 10)
    assert (given["remaining"], given["balance"]) == (3, 3)
    assert await figures(acme) == (3, 0, 0)
    assert (await acme.transactions("acme"))[-4:] == [
        ("grant", 5),
        ("deduct", 5),
        ("grant", 10),
        ("deduct", 7),
    ]
    await audit(acme)


async def test_settling_above_the_hold_goes_through_the_pools_in_order(acme: World) -> None:
    """The entity's own, its team's, then the customer's, as the hold was made; nobody else's."""
    await acme.an_entity("team")
    await acme.an_entity("agent", parent_entity_id="team")
    await acme.an_entity("loner", pool_policy="entity_only")
    for entity, amount in (("agent", 10), ("team", 20), ("loner", 40)):
        await give(acme, amount, system="credits", entity=entity)
    held = await hold(acme, 5, entity_id="agent")
    assert held["remaining"] == 125
    assert (await settle(acme, held["hold_id"], 32)).json["remaining"] == 98
    rows = await acme.fetch(
        """select e.external_id as whose, sum(g.remaining) as n from credit_grants g
           left join entities e on e.org_id = g.org_id and e.id = g.entity_id where g.org_id = $1 group by 1"""
    )
    assert {row["whose"]: row["n"] for row in rows} == {None: 98, "team": 0, "agent": 0, "loner": 40}
    held = await hold(acme, 39, entity_id="loner")
    settled = await settle(acme, held["hold_id"], 50, uncovered_limit=3)
    assert settled.json == {"settled": 43, "uncovered": 3, "remaining": 0}
    assert await figures(acme) == (98, 0, 3)
    # What the customer gets pays it, also where an entity made the debt.
    await acme.grant("acme", 10)
    assert await figures(acme) == (105, 0, 0)
    await audit(acme)


async def test_credits_that_expire_while_they_are_held_pay_for_the_work(acme: World) -> None:
    await acme.a_customer("brief")
    await acme.grant("brief", 10, expires_at="2026-01-01T00:05:00Z")
    held = await hold(acme, 6, "brief")
    await acme.turn("2026-01-01T00:06:00Z")
    assert await figures(acme, "brief") == (0, 6, 0)
    settled = await settle(acme, held["hold_id"], 20, "brief", uncovered_limit=1)
    assert settled.json == {"settled": 7, "uncovered": 1, "remaining": 0}
    assert (await acme.transactions("brief"))[-3:] == [("expire", 4), ("release", 6), ("deduct", 6)]
    await acme.grant("brief", 9)
    held = await hold(acme, 8, "brief")
    await acme.turn("2026-01-02")
    assert await figures(acme, "brief") == (8, 0, 0)
    await audit(acme)


async def test_lists_come_in_pages_newest_first(acme: World) -> None:
    made = [(await hold(acme, 1, expires_in=60 * n))["hold_id"] for n in range(1, 6)]
    await settle(acme, made[4], 1)
    await acme.turn("2026-01-01T00:02:00Z")
    found: list[str] = []
    cursor = None
    while True:
        page = await acme.get("/api/v1/credits/acme/holds", limit=2, cursor=cursor)
        found += [one["hold_id"] for one in page["holds"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == made[::-1]
    for how, which in (("open", made[2:4]), ("expired", made[:2]), ("settled", made[4:]), ("released", [])):
        page = await acme.get("/api/v1/credits/acme/holds", status=how)
        assert [one["hold_id"] for one in page["holds"]] == which[::-1]
    assert (await acme.call("GET", "/api/v1/credits/acme/holds?status=gone")).status == 400
    assert (await acme.call("GET", "/api/v1/credits/acme/holds?cursor=x")).status == 400


async def test_a_publishable_key_sees_holds_and_makes_none(acme: World) -> None:
    held = (await hold(acme, 1))["hold_id"]
    for path in ("/holds", f"/holds/{held}"):
        answer = await acme.call("GET", f"/api/v1/credits/acme{path}", key=acme.publishable)
        assert answer.status == 200
    for path in ("/holds", f"/holds/{held}/settle", f"/holds/{held}/release"):
        body = None if path.endswith("release") else {"amount": 1, "feature": "chat", "expires_in": 60}
        answer = await acme.call("POST", f"/api/v1/credits/acme{path}", body, key=acme.publishable)
        assert answer.status == 403


async def test_settled_and_released_at_once_it_ends_once(acme: World) -> None:
    """Two servers, each with its own copy of the account; sometimes its time is over as well."""
    other = twin(acme)
    for n in range(12):
        before, _, _ = await figures(acme)
        held = (await hold(acme, 5))["hold_id"]
        deeds: list[Any] = [
            settle(acme, held, 2),
            settle(other, held, 3),
            release(acme, held),
            release(other, held),
        ]
        if n % 2:
            deeds.append(acme.turn(f"2026-01-{n + 2:02}"))
        random.shuffle(deeds)
        answers = [one for one in await asyncio.gather(*deeds) if isinstance(one, Answer)]
        counted = Counter(answer.status for answer in answers)
        assert counted in ({200: 1, 409: 3}, {409: 4})
        how = await status(acme, held)
        won = [answer for answer in answers if answer.status == 200]
        assert how == ("expired" if not won else "settled" if "settled" in won[0].json else "released")
        taken = won[0].json.get("settled", 0) if won else 0
        assert await figures(acme) == (before - taken, 0, 0)
    await audit(acme)


async def test_holds_and_deductions_at_once_never_exceed_what_there_is(acme: World) -> None:
    """M01 with holds, on two servers, with keys that are sent twice."""
    other = twin(acme)
    await acme.a_customer("busy")
    await acme.grant("busy", 30)

    async def hold_and_settle(world: World) -> int:
        body = {"amount": 1, "feature": "chat", "expires_in": 60}
        key = a_key()
        held = [await send(one, "/busy/holds", body, key=key) for one in (world, acme)][-1].json
        if not held["allowed"]:
            return 0
        used, key = random.choice([0, 1]), a_key()
        sent = [settle(one, held["hold_id"], used, "busy", key=key) for one in (world, acme)]
        answers = await asyncio.gather(*sent)
        assert {answer.status for answer in answers} == {200}
        return used

    async def deduct(world: World) -> int:
        allowed, remaining = await world.deduct("busy", 1)
        assert remaining >= 0
        return 1 if allowed else 0

    deeds: list[Any] = []
    for n in range(40):
        world = (acme, other)[n % 2]
        deeds += [hold_and_settle(world), deduct(world)]
    taken = sum(await asyncio.gather(*deeds))
    assert taken <= 30
    assert await figures(acme, "busy") == (30 - taken, 0, 0)
    await audit(acme)
