"""M04, M05 and Decision 13: one key, one effect, one answer; races are between two connections."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest

from nozle_server.api.endpoint import BOTH, Call, Endpoint, Reply, Scope
from nozle_server.core.errors import RuleBroken
from nozle_server.infra.database import Database
from nozle_server.infra.idempotency import Claim

from .conftest import Answer, Client, Tenant

pytestmark = pytest.mark.database


class Body(msgspec.Struct):
    amount: int = 0
    fail: bool = False
    pause: float = 0


async def _count_up(call: Call) -> object:
    """One more in the organization's counter, and how many that makes."""
    body: Body = call.body
    value = await call.tx.fetchval(
        """
        insert into organization_counters (org_id, name, value) values ($1, 'calls', 1)
        on conflict (org_id, name) do update set value = organization_counters.value + 1 returning value
        """,
        call.org_id,
    )
    await asyncio.sleep(body.pause)
    if body.fail:
        raise RuleBroken("told to fail", code="told_to_fail")
    return {"calls": value, "by": call.request_id}


def _endpoint(path: str, **options: bool) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        handler=_count_up,
        scope=Scope.ANY_KEY,
        summary="",
        tag="",
        mounts=BOTH,
        body=Body,
        idempotent=True,
        **options,
    )


@pytest.fixture
def counter(client_of: Callable[..., Client]) -> Client:
    plain = _endpoint("/plain")
    return client_of(
        _endpoint("/count"), _endpoint("/other"), _endpoint("/ledger", ledger=True), _endpoint("/things/{id}"),
        _endpoint("/required", key_required=True), _endpoint("/told", tells_replay=True),
        Endpoint(
            method=plain.method, path="/keyless", handler=_count_up, scope=Scope.ANY_KEY, summary="", tag="", body=Body
        ),
    )  # fmt: skip


async def call(
    client: Client, key: str, name: str | None, path: str = "/api/v1/count", **body: object
) -> Answer:
    headers = [] if name is None else [("idempotency-key", name.encode().decode("latin-1"))]
    return await client.send("POST", path, key=key, headers=headers, body=body)


async def test_the_same_call_again_gets_the_same_bytes(counter: Client, tenant: Tenant) -> None:
    first = await call(counter, tenant.secret, "k1", amount=5)
    again = await call(counter, tenant.secret, "k1", amount=5)
    assert first.json["calls"] == 1
    assert (again.status, again.body) == (first.status, first.body)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def test_the_same_body_written_otherwise_is_the_same_body(counter: Client, tenant: Tenant) -> None:
    headers = [("idempotency-key", "k1")]
    one = await counter.send(
        "POST", "/api/v1/count", key=tenant.secret, headers=headers, raw=b'{"amount":5,"x":1.0}'
    )
    two = await counter.send(
        "POST", "/api/v1/count", key=tenant.secret, headers=headers, raw=b' {"x": 1, "amount": 5}'
    )
    assert two.body == one.body


async def test_an_endpoint_that_requires_a_key_does_nothing_without_one(
    counter: Client, tenant: Tenant
) -> None:
    refused = await call(counter, tenant.secret, None, "/api/v1/required")
    assert (refused.status, refused.json["code"]) == (400, "idempotency_key_required")
    core = await call(counter, tenant.secret, None, "/core/api/v1/required")
    assert (core.status, core.json["code"]) == (400, "idempotency_key_required")
    assert (await call(counter, tenant.secret, "k1", "/api/v1/required")).json["calls"] == 1


async def test_a_replay_that_is_told_differs_in_that_member_alone(counter: Client, tenant: Tenant) -> None:
    keyless = await call(counter, tenant.secret, None, "/api/v1/told")
    assert (keyless.json["calls"], keyless.json["replayed"]) == (1, False)
    first = await call(counter, tenant.secret, "k1", "/api/v1/told")
    again = [await call(counter, tenant.secret, "k1", "/api/v1/told") for _ in range(2)]
    assert (first.json["calls"], first.json["replayed"]) == (2, False)
    assert first.body.endswith(b',"replayed":false}')
    assert {one.body for one in again} == {first.body.replace(b'"replayed":false', b'"replayed":true')}
    assert again[0].headers["idempotent-replayed"] == "true"


async def test_another_request_under_the_key_is_a_conflict(counter: Client, tenant: Tenant) -> None:
    await call(counter, tenant.secret, "k1", "/api/v1/things/a", amount=5)
    for key, path, amount in (
        (tenant.secret, "/api/v1/things/a", 6),
        (tenant.secret, "/api/v1/things/b", 5),
        (tenant.secret, "/api/v1/things/a?x=1", 5),
        (tenant.secret, "/engine/api/v1/things/a", 5),
        (tenant.publishable, "/api/v1/things/a", 5),
    ):
        answer = await call(counter, key, "k1", path, amount=amount)
        assert (answer.status, answer.json["code"]) == (409, "idempotency_key_reused")
    assert (await call(counter, tenant.secret, "k1", "/api/v1/things/a", amount=5)).json["calls"] == 1


async def test_a_key_belongs_to_one_organization_and_operation(
    counter: Client, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    one, two = await new_tenant(), await new_tenant()
    assert (await call(counter, one.secret, "k1", amount=5)).json["calls"] == 1
    assert (await call(counter, two.secret, "k1", amount=9)).json["calls"] == 1
    assert (await call(counter, one.secret, "k1", "/api/v1/other", amount=9)).json["calls"] == 2


async def test_a_refused_call_leaves_no_key(counter: Client, tenant: Tenant) -> None:
    refused = await call(counter, tenant.secret, "k1", fail=True)
    assert (refused.status, refused.json["code"]) == (422, "told_to_fail")
    assert (await call(counter, tenant.secret, "k1", fail=False)).json["calls"] == 1


async def test_twenty_at_once_have_one_effect(counter: Client, tenant: Tenant) -> None:
    answers = await asyncio.gather(*(call(counter, tenant.secret, "k1", pause=0.05) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19


async def test_the_loser_goes_first_when_the_winner_fails(counter: Client, tenant: Tenant) -> None:
    """The second waits for the first at the insert; the first rolls back, so its place is free."""
    failing = asyncio.create_task(call(counter, tenant.secret, "k1", pause=0.2, fail=True))
    await asyncio.sleep(0.1)
    waiting = await call(counter, tenant.secret, "k1", amount=1)
    assert (await failing).status == 422
    assert waiting.json["calls"] == 1


async def test_different_keys_do_not_wait_for_each_other(
    counter: Client, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    one, two = await new_tenant(), await new_tenant()
    slow = asyncio.create_task(call(counter, one.secret, "k1", pause=0.5))
    await asyncio.sleep(0.05)
    assert (await call(counter, two.secret, "k1")).status == 200
    assert not slow.done()
    await slow


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, "é" * 128, "a\x01b", "a\x7fb"])
async def test_a_key_is_1_to_255_printable_bytes(counter: Client, tenant: Tenant, name: str) -> None:
    answer = await call(counter, tenant.secret, name)
    assert (answer.status, answer.json["code"]) == (400, "invalid_idempotency_key")


async def test_a_key_is_utf_8(counter: Client, tenant: Tenant) -> None:
    headers = [("idempotency-key", "\xff")]
    answer = await counter.send("POST", "/api/v1/count", key=tenant.secret, headers=headers, body={})
    assert answer.status == 400
    for name in ("x" * 255, "é" * 127, "order 42 / ü"):
        assert (await call(counter, tenant.secret, name)).status == 200


async def test_calls_without_a_key_or_a_use_for_it_just_run(counter: Client, tenant: Tenant) -> None:
    for expected, path, name in (
        (1, "/api/v1/count", None),
        (2, "/api/v1/keyless", "k1"),
        (3, "/api/v1/keyless", "k1"),
    ):
        assert (await call(counter, tenant.secret, name, path)).json["calls"] == expected


async def test_keys_of_the_ledger_are_marked_to_be_kept(
    counter: Client, tenant: Tenant, database: Database
) -> None:
    await call(counter, tenant.secret, "k1")
    await call(counter, tenant.secret, "k1", "/api/v1/ledger")
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select operation, ledger from idempotency_keys where org_id = $1", tenant.id
        )
    assert dict(rows) == {"POST /count": False, "POST /ledger": True}


async def test_a_handler_with_transactions_of_its_own_gets_the_claim_and_answers_in_bytes(
    client_of: Callable[..., Client], tenant: Tenant
) -> None:
    claims: list[Claim | None] = []

    async def handle(call: Call) -> object:
        claims.append(call.claim)
        return Reply(raw=b'{"n": 1}', status=201, headers={"x-made": "here"})

    client = client_of(
        replace(_endpoint("/own"), handler=handle, transaction=False, own_claims=True, ledger=True)
    )
    for name, amount in (("k1", 5), ("k1", 5), ("k1", 6), (None, 5)):
        answer = await call(client, tenant.secret, name, "/api/v1/own", amount=amount)
        assert (answer.status, answer.body, answer.headers["x-made"]) == (201, b'{"n": 1}', "here")
    first, again, other, none = claims
    assert first is not None
    assert other is not None
    assert (first.org_id, first.operation, first.key, first.ledger) == (tenant.id, "POST /own", "k1", True)
    assert first == again
    assert first.request_hash != other.request_hash
    assert none is None
    assert (await call(client, tenant.secret, "", "/api/v1/own")).json["code"] == "invalid_idempotency_key"
