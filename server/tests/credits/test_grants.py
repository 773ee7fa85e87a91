"""Grants through the API: given once, to whom is meant, shown as they are, and voided while they are not spent."""

import asyncio
from typing import Any

import pytest

from nozle_server.core.ids import new_id, to_text
from nozle_server.entities.drafts import Snapshot
from nozle_server.entities.model import EntityStatus
from nozle_server.infra.database import Tx
from nozle_server.workflows.change_entity import put_entities
from world import World, audit, instant

from .ledger_api import a_key, figures, grants, hold, left, release, send, twin
from .product import a_system

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    await world.turn("2026-01-01")
    await world.a_customer()
    return world


async def test_a_grant_is_answered_and_listed_alike(acme: World) -> None:
    made = await acme.grant("acme", "7.5", expires_at="2026-02-01T00:00:00Z", priority=3, reference="spring")
    assert made.pop("balance") == 7.5
    assert made == {
        "id": made["id"],
        "customer_id": "acme",
        "entity_id": None,
        "credit_system": "credits",
        "amount": 7.5,
        "remaining": 7.5,
        "priority": 3,
        "source": "manual",
        "reference": "spring",
        "description": None,
        "expires_at": "2026-02-01T00:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert await grants(acme) == [made]


async def test_a_reference_is_one_grant(acme: World) -> None:
    """M03: by any server, under any key, also when it has expired since."""
    body = {"amount": 5, "reference": "payment 1", "expires_at": "2026-01-02T00:00:00Z"}
    worlds = [acme, twin(acme)] * 5
    answers = await asyncio.gather(*(send(one, "/acme/grants", body, key=a_key()) for one in worlds))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert await figures(acme) == (5, 0, 0)
    await acme.turn("2026-01-03")
    again = (await send(acme, "/acme/grants", body)).json
    assert (again["id"], again["remaining"], again["balance"]) == (answers[0].json["id"], 0, 0)
    await acme.a_customer("other")
    assert (await send(acme, "/other/grants", {"amount": 5, "reference": "payment 1"})).json["balance"] == 5


async def test_a_known_reference_shows_whose_the_grant_is_and_not_for_whom_it_was_asked_again(
    acme: World,
) -> None:
    await acme.an_entity("team")
    for first, again in ((None, "team"), ("team", None), (None, "nobody")):
        body = {"amount": 5, "reference": f"payment of {first} and {again}"}
        made = (await send(acme, "/acme/grants", body | ({"entity_id": first} if first else {}))).json
        assert made["entity_id"] == first
        assert (
            await send(acme, "/acme/grants", body | ({"entity_id": again} if again else {}))
        ).json == made | {"balance": made["balance"]}
    await audit(acme)


async def test_an_entity_has_grants_of_its_own(acme: World) -> None:
    await a_system(acme)
    await acme.an_entity("agent", pool_policy="entity_only")
    await acme.grant("acme", 1)
    made = await acme.grant("acme", 5, entity_id="agent", credit_system="ai")
    assert (made["entity_id"], made["credit_system"], made["balance"]) == ("agent", "ai", 5)
    assert [one["amount"] for one in await grants(acme)] == [1]
    assert [one["id"] for one in await grants(acme, credit_system="ai", entity_id="agent")] == [made["id"]]
    assert await grants(acme, credit_system="ai", entity_id="other") == []
    for status, code in (("suspended", "entity_inactive"), ("deleted", "entity_not_found")):
        if status == "deleted":
            headers = {"Idempotency-Key": a_key()}
            await acme.call("DELETE", "/api/v1/customers/acme/entities/agent", headers=headers)
        else:
            await acme.an_entity("agent", status=status)
        answer = await send(acme, "/acme/grants", {"amount": 5, "entity_id": "agent"})
        assert (answer.status, answer.code) == (422 if status == "suspended" else 404, code)
    await audit(acme)


async def test_suspending_while_it_is_granted_to_leaves_nothing_behind(acme: World) -> None:
    for _ in range(6):
        await acme.an_entity("agent")
        body = {"amount": 1, "entity_id": "agent"}
        given, _ = await asyncio.gather(
            send(acme, "/acme/grants", body), acme.an_entity("agent", status="suspended")
        )
        assert given.status in (200, 422)
        assert await grants(acme, entity_id="agent") == []
    await audit(acme)


async def test_a_first_grant_waits_for_the_suspension_that_is_under_way(acme: World) -> None:
    """Also where there was no account yet that the suspension could have held."""
    await acme.an_entity("agent")
    body = {"amount": 1, "entity_id": "agent"}
    seams, now = acme.services.seams, instant("2026-01-01")
    async with acme.database.transaction() as tx:
        suspended = [Snapshot(external_id="agent", status=EntityStatus.SUSPENDED)]
        await put_entities(tx, seams, org_id=acme.org_id, customer_id="acme", snapshots=suspended, now=now)
        granting = asyncio.create_task(send(acme, "/acme/grants", body))
        await _until_it_waits_for(tx, granting)
    answer = await granting
    assert (answer.status, answer.code) == (422, "entity_inactive")
    assert await grants(acme, entity_id="agent") == []
    await audit(acme)


async def _until_it_waits_for(tx: Tx, call: "asyncio.Task[Any]") -> None:
    async with asyncio.timeout(30):
        while not call.done() and not await tx.fetchval(  # noqa: ASYNC110  # the database tells nobody
            "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
        ):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"amount": 0}, 400, "invalid_request"),
        ({"amount": -1}, 400, "invalid_request"),
        ({"amount": 1, "source": "plan"}, 400, "invalid_request"),
        ({"amount": 1, "source": "allocation"}, 400, "invalid_request"),
        ({"amount": 1, "source": "transfer"}, 400, "invalid_request"),
        ({"amount": 1, "reference": "plan:x:monthly:1"}, 400, "invalid_request"),
        ({"amount": 1, "reference": "top_up:x"}, 400, "invalid_request"),
        ({"amount": 1, "reference": ""}, 400, "invalid_request"),
        ({"amount": 1, "priority": 1001}, 400, "invalid_request"),
        ({"amount": 1, "expires_at": "2026-01-01T00:00:00Z"}, 400, "invalid_request"),
        ({"amount": 1, "entity_id": "nobody"}, 404, "entity_not_found"),
        ({"amount": 1, "credit_system": "none"}, 404, "credit_system_not_found"),
    ],
)
async def test_bad_grants_give_nothing(acme: World, body: object, status: int, code: str) -> None:
    answer = await send(acme, "/acme/grants", body)
    assert (answer.status, answer.code) == (status, code)
    assert await acme.fetch("select 1 from credit_grants where org_id = $1") == []


async def test_live_grants_are_those_that_can_be_spent(acme: World) -> None:
    await acme.grant("acme", 1, expires_at="2026-01-02T00:00:00Z")
    await acme.grant("acme", 2)
    await acme.grant("acme", 3)
    await acme.deduct("acme", 3)
    await acme.turn("2026-01-02")
    assert [one["remaining"] for one in await grants(acme)] == [3]
    assert await left(acme) == [0, 0, 3]
    found: list[Any] = []
    cursor = None
    while True:
        page = await acme.get("/api/v1/credits/acme/grants", status="all", limit=2, cursor=cursor)
        found += [one["amount"] for one in page["grants"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [3, 2, 1]
    assert (await acme.call("GET", "/api/v1/credits/acme/grants?status=spent")).status == 400


async def test_a_grant_is_voided_as_far_as_it_is_left(acme: World) -> None:
    made = await acme.grant("acme", 10, description="Promo")
    held = await hold(acme, 3)
    await acme.deduct("acme", 1)
    place = f"/acme/grants/{made['id']}/void"
    assert (await send(acme, place, {"amount": 7})).code == "insufficient_credits"
    voided = (await send(acme, place, {"amount": 2})).json
    assert (voided["type"], voided["direction"], voided["amount"]) == ("void", "out", 2)
    assert (voided["balance"], voided["draws"]) == (4, [{"grant_id": made["id"], "amount": -2}])
    key = a_key()
    answers = [await send(acme, place, key=key) for _ in range(2)]
    assert [(answer.json["amount"], answer.replayed) for answer in answers] == [(4, False), (4, True)]
    refused = await send(acme, place)
    assert (refused.status, refused.code) == (422, "nothing_to_void")
    await release(acme, held["hold_id"])
    assert (await send(acme, place)).json["amount"] == 3
    assert await figures(acme) == (0, 0, 0)
    await audit(acme)


async def test_what_is_nobodys_cannot_be_voided(acme: World, other_world: World) -> None:
    made = (await acme.grant("acme", 10))["id"]
    await acme.a_customer("other")
    await other_world.a_customer()
    await acme.a_wallet(granted_credits="5")
    [money] = await acme.fetch(
        """select g.id from credit_grants g join credit_accounts a on a.org_id = g.org_id and a.id = g.account_id
           where g.org_id = $1 and a.kind = 'money'"""
    )
    for world, customer, grant_id, code in (
        (acme, "other", made, "grant_not_found"),
        (other_world, "acme", made, "grant_not_found"),
        (acme, "acme", to_text("grant", new_id()), "grant_not_found"),
        (acme, "acme", to_text("grant", money["id"]), "grant_not_found"),
        (acme, "acme", "grant_1", "grant_not_found"),
        (acme, "nobody", made, "customer_not_found"),
    ):
        answer = await send(world, f"/{customer}/grants/{grant_id}/void")
        assert (answer.status, answer.code) == (404, code)
    assert await left(acme) == [10]


async def test_voided_and_spent_at_once_it_is_gone_once(acme: World) -> None:
    other = twin(acme)
    made = (await acme.grant("acme", 20))["id"]
    deeds: list[Any] = []
    for n in range(10):
        deeds.append(send((acme, other)[n % 2], f"/acme/grants/{made}/void", {"amount": 1}))
        deeds.append((other, acme)[n % 2].deduct("acme", 2))
    done = await asyncio.gather(*deeds)
    voided = sum(1 for one in done[::2] if one.status == 200)
    spent = sum(2 for allowed, _ in done[1::2] if allowed)
    assert {one.status for one in done[::2]} <= {200, 422}
    assert await figures(acme) == (20 - voided - spent, 0, 0)
    assert voided + spent >= 19
    await audit(acme)


async def test_many_that_wait_for_one_account_leave_connections_for_others(acme: World) -> None:
    """A process has ten connections: sixty calls for a customer whose account is held take one of them."""
    await acme.grant("acme", 1)
    await acme.a_customer("other")
    async with acme.database.transaction() as tx:
        await tx.execute(
            "select from credit_accounts where org_id = $1 for update",
            acme.org_id,
        )
        waiting = [asyncio.create_task(send(acme, "/acme/grants", {"amount": 1})) for _ in range(60)]
        await asyncio.sleep(0.3)
        answers = [await send(acme, "/other/grants", {"amount": 1}) for _ in range(5)]
        assert {answer.status for answer in answers} == {200}
        refused = await asyncio.gather(*waiting)
    assert {(answer.status, answer.code) for answer in refused} == {(503, "lock_timeout")}
    assert all(answer.headers["retry-after"] for answer in refused)
    assert await figures(acme) == (1, 0, 0)
    await audit(acme)
