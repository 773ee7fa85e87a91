"""`/usage/check` and `/usage/track`: what a use costs, and everything that taking it changes (contract 2.9)."""

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from credits.product import a_rate, a_system, check, give, operations, track
from nozle_server.credits.model import GrantSource
from world import World, audit

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """1,000 tokens (the property `n`) cost 2 credits of the system `ai`; the customer has 100 of them, bought."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await a_system(world)
    await a_rate(world)
    await world.a_customer()
    await give(world, 100)
    return world


async def test_a_use_is_paid_by_credits_and_metered(acme: World) -> None:
    source = (await acme.get("/api/v1/customers/acme/credit-systems/ai/balance"))["sources"][0]["id"]
    answer = await track(acme, properties={"n": 1500, "model": "gpt"}, timestamp="2026-01-01T00:00:00.000Z")
    assert answer.status == 200
    tracked = answer.json
    operation = tracked.pop("operation_id")
    assert tracked == {
        "allowed": True,
        "metric_amount": "1500",
        "credit_system": "ai",
        "credits_required": "3",
        "credits_consumed": "3",
        "available": "100",
        "remaining": "97",
        "deductions": [
            {
                "balance_source_id": source,
                "source_type": "top_up",
                "source_scope": "customer",
                "amount": "3",
                "remaining": "97",
            }
        ],
    }
    event = await acme.event(operation)
    assert event is not None
    assert event["properties"] == {"n": 1500, "model": "gpt", "paid_by": "credits"}
    assert (event["quantity"], event["external_customer_id"], event["code"]) == (1500, "acme", "tokens")
    assert event["timestamp"] == "2026-01-01T00:00:00Z"
    [consumed, _granted] = await operations(acme)
    assert consumed["id"] == operation
    assert consumed["type"] == "consume"
    assert consumed["credit_amount"] == "3"
    await audit(acme)


async def test_a_check_says_what_tracking_would_do_and_changes_nothing(acme: World) -> None:
    before = await _everything(acme)
    use: dict[str, Any] = {"properties": {"n": 1500}, "occurred_at": "2026-01-01T00:00:00.000Z"}
    checked = (await check(acme, **use)).json
    assert await _everything(acme) == before
    tracked = (await track(acme, **use)).json
    assert checked == {
        "advisory": True,
        "allowed": True,
        **{
            name: tracked[name]
            for name in ("metric_amount", "credit_system", "credits_required", "available")
        },
        "projected_remaining": tracked["remaining"],
        "projected_deductions": tracked["deductions"],
    }
    refused = (await check(acme, properties={"n": 50_000})).json
    assert refused == {
        "advisory": True,
        "allowed": False,
        "metric_amount": "50000",
        "credit_system": "ai",
        "credits_required": "100",
        "available": "97",
        "reason": "insufficient_credits",
    }


async def _everything(world: World) -> list[tuple[Any, ...]]:
    """What could have changed: rows of every table that a use writes."""
    tables = (
        "ledger_entries",
        "ledger_allocations",
        "usage_operations",
        "events",
        "outbox",
        "idempotency_keys",
    )
    counts = [await world.fetch(f"select count(*) from {table} where org_id = $1") for table in tables]
    accounts = await world.fetch("select version, balance from credit_accounts where org_id = $1 order by id")
    return [tuple(row) for rows in (*counts, accounts) for row in rows]


async def test_a_denial_is_kept_and_takes_nothing(acme: World) -> None:
    before = await _everything(acme)
    first = await track(acme, key="much", properties={"n": 50_001})
    assert first.status == 200
    denied = first.json
    operation = denied.pop("operation_id")
    assert denied == {
        "allowed": False,
        "metric_amount": "50001",
        "credit_system": "ai",
        "credits_required": "100.002",
        "credits_consumed": "0",
        "available": "100",
        "remaining": "100",
        "deductions": [],
        "reason": "insufficient_credits",
    }
    after = await _everything(acme)
    assert [now[0] - then[0] for now, then in zip(after[:6], before[:6], strict=True)] == [0, 0, 1, 0, 0, 1]
    assert after[6:] == before[6:]
    await give(acme, 100)
    again = await track(acme, key="much", properties={"n": 50_001})
    assert again.body == first.body
    assert again.replayed
    [_, kept, _] = await operations(acme)
    assert (kept["id"], kept["type"], kept["status"]) == (operation, "consume", "denied")
    assert (kept["reason"], kept["source_allocations"]) == ("insufficient_credits", [])
    assert (kept["metric_amount"], kept["credit_amount"]) == ("50001", "100.002")
    await audit(acme)


async def test_one_key_is_one_operation(acme: World) -> None:
    """M04: twenty at once, again later, with another body, from another tenant."""
    use: dict[str, Any] = {"properties": {"n": 1000}, "timestamp": "2026-01-01T00:00:00.000Z"}
    answers = await asyncio.gather(*(track(acme, key="once", **use) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert Counter(answer.replayed for answer in answers) == {False: 1, True: 19}
    await acme.turn("2027-01-01")
    later = await track(acme, key="once", **use)
    assert later.body == answers[0].body
    for other in ({"properties": {"n": 1001}}, {"entity_id": "agent"}, {"feature_code": "calls"}):
        assert (await track(acme, key="once", **{**use, **other})).status == 409
    assert [one["type"] for one in await operations(acme)] == ["consume", "grant"]
    [events] = await acme.fetch("select count(*) from events where org_id = $1")
    assert events[0] == 1
    await audit(acme)


async def test_a_replay_is_answered_also_when_it_could_not_be_done_today(acme: World) -> None:
    use: dict[str, Any] = {"properties": {"n": 1000}}
    first = await track(acme, key="once", **use)
    await acme.call("DELETE", "/core/api/v1/credit-systems/ai/rates/tokens")
    assert (await track(acme, **use)).code == "metric_not_rated"
    assert (await track(acme, key="once", **use)).body == first.body
    await acme.call("DELETE", "/core/api/v1/customers/acme")
    assert (await track(acme, key="once", **use)).body == first.body
    assert (await track(acme, **use)).code == "customer_not_found"


async def test_a_system_made_a_moment_ago_is_known(acme: World) -> None:
    await track(acme, properties={"n": 1})
    await a_system(acme, "gpu")
    await a_rate(acme, system="gpu", credits="1", per="1")
    await give(acme, 5, system="gpu")
    assert (await track(acme, properties={"n": 2})).code == "credit_system_ambiguous"
    answer = await track(acme, properties={"n": 2}, credit_system_code="gpu")
    assert (answer.status, answer.json["remaining"]) == (200, "3")


@pytest.mark.parametrize(
    ("use", "status", "code"),
    [
        ({"customer_id": "nobody"}, 404, "customer_not_found"),
        ({"feature_code": "nothing"}, 404, "billable_metric_not_found"),
        ({"entity_id": "nobody"}, 404, "entity_not_found"),
        ({"credit_system_code": "none"}, 404, "credit_system_not_found"),
        ({"feature_code": "calls"}, 422, "metric_not_rated"),
        ({"credit_system_code": "credits"}, 422, "metric_not_rated"),
        ({"feature_code": "peak"}, 422, "metric_not_consumable"),
        ({"timestamp": "2025-12-31T23:59:59.999Z"}, 422, "metric_not_rated"),
        ({"properties": {}}, 422, "missing_property"),
        ({"properties": {"n": "many"}}, 422, "invalid_property"),
        ({"properties": {"n": True}}, 422, "invalid_property"),
        ({"properties": {"n": None}}, 422, "missing_property"),
        ({"properties": {"n": 0}}, 422, "usage_not_positive"),
        ({"properties": {"n": -5}}, 422, "usage_not_positive"),
        ({"properties": {"n": Decimal("0.000000000001")}}, 422, "usage_not_positive"),
        ({"properties": {"n": 1, "paid_by": "card"}}, 400, "invalid_request"),
        ({"properties": {"n": 1, "text": "x" * 40_000}}, 400, "invalid_request"),
        ({"timestamp": "2026-01-02T00:00:00.001Z"}, 400, "timestamp_in_future"),
        ({"timestamp": "yesterday"}, 400, "invalid_timestamp"),
        (
            {"timestamp": "2026-01-01T00:00:00Z", "occurred_at": "2026-01-01T00:00:01Z"},
            400,
            "invalid_request",
        ),
        ({"billable_metric_code": "calls"}, 400, "invalid_request"),
        ({"customer_id": ""}, 400, "invalid_request"),
        ({"customer_id": 7}, 400, "invalid_request"),
        ({"feature_code": "x" * 256}, 400, "invalid_request"),
        ({"properties": [1]}, 400, "invalid_request"),
    ],
)
async def test_what_cannot_be_quoted_is_refused_and_changes_nothing(
    acme: World, use: dict[str, object], status: int, code: str
) -> None:
    await acme.a_metric(code="calls", how="count_agg")
    await acme.a_metric(code="peak", how="max_agg")
    before = await _everything(acme)
    wanted = {"properties": {"n": 1000}, **use}
    for answer in (await track(acme, key="the key", **wanted), await check(acme, **wanted)):
        assert (answer.status, answer.code) == (status, code)
    assert await _everything(acme) == before
    # A refusal is not what the key was for.
    assert (await track(acme, key="the key", properties={"n": 1000})).json["allowed"]


async def test_a_key_is_required(acme: World) -> None:
    body = {"customer_id": "acme", "feature_code": "tokens", "properties": {"n": 1}}
    answer = await acme.call("POST", "/api/v1/usage/track", body)
    assert (answer.status, answer.code) == (400, "idempotency_key_required")
    assert (await acme.call("POST", "/api/v1/usage/track", body, key=acme.publishable)).status == 403
    assert (await acme.call("POST", "/api/v1/usage/check", body, key=acme.publishable)).status == 403


async def test_a_count_is_one_unit_a_use(acme: World) -> None:
    await acme.a_metric(code="calls", how="count_agg")
    await a_rate(acme, metric="calls", credits="0.25", per="1")
    answer = await track(
        acme, billable_metric_code="calls", feature_code="calls", properties={"any": "thing"}
    )
    assert (answer.json["metric_amount"], answer.json["credits_consumed"]) == ("1", "0.25")
    bare = await acme.call(
        "POST",
        "/engine/api/v1/usage/track",
        {"customer_id": "acme", "billable_metric_code": "calls"},
        headers={"Idempotency-Key": "1"},
    )
    assert (bare.status, bare.json["remaining"]) == (200, "99.5")
    await audit(acme)


@pytest.mark.parametrize(
    ("n", "required"),
    [
        ("0.000000000499", None),
        ("1", "0.002"),
        ("0.333333333333", "0.000666666667"),
        ("49999.9999999995", "99.999999999999"),
        ("50000", "100"),
    ],
)
async def test_amounts_are_exact(acme: World, n: str, required: str | None) -> None:
    """M14: units x credit_amount / metric_amount, rounded once to 12 decimals; numbers and texts alike."""
    answer = await track(acme, properties={"n": Decimal(n)})
    text = await check(acme, properties={"n": n})
    if required is None:
        assert answer.json["credits_required"] == text.json["credits_required"] == "0.000000000001"
        return
    assert answer.json["credits_required"] == text.json["credits_required"] == required
    assert Decimal(answer.json["remaining"]) == 100 - Decimal(required)
    await audit(acme)


async def test_the_rate_is_that_of_the_instant_of_the_use(acme: World) -> None:
    """Half-open: at the very instant of a change the new rate holds; the operation keeps the rate that it was made at."""
    await acme.turn("2026-01-10")
    await a_rate(acme, credits="5", effective_from="2026-01-20T00:00:00Z")
    await acme.turn("2026-01-20")
    costs = {
        "2026-01-01T00:00:00Z": "2",
        "2026-01-19T23:59:59.999999Z": "2",
        "2026-01-20T00:00:00.000Z": "5",
        None: "5",
    }
    for at, credits in costs.items():
        use = {"properties": {"n": 1000}, **({} if at is None else {"timestamp": at})}
        assert (await check(acme, **use)).json["credits_required"] == credits
        assert (await track(acme, **use)).json["credits_consumed"] == credits
    kept = [one for one in await operations(acme) if one["type"] == "consume"]
    assert [(one["rate_credit_amount"], one["rate_metric_amount"]) for one in kept] == [
        ("5", "1000"),
        ("5", "1000"),
        ("2", "1000"),
        ("2", "1000"),
    ]
    assert len({one["rate_id"] for one in kept}) == 2
    assert kept[1]["occurred_at"] == "2026-01-20T00:00:00Z"
    await audit(acme)


async def test_a_rate_that_changes_meanwhile_is_looked_up_anew(acme: World) -> None:
    """No operation is stored at a rate that no longer held at its instant when it was written."""
    await acme.turn("2026-01-10")
    await give(acme, 10_000)
    uses = [
        asyncio.create_task(track(acme, properties={"n": 1000}, timestamp="2026-01-10T00:00:00Z"))
        for _ in range(30)
    ]
    await asyncio.sleep(0.05)
    await a_rate(acme, credits="7")
    uses += [
        asyncio.create_task(track(acme, properties={"n": 1000}, timestamp="2026-01-10T00:00:00Z"))
        for _ in range(10)
    ]
    answers = [await one for one in uses]
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["credits_consumed"] for answer in answers} <= {"2", "7"}
    assert {answer.json["credits_consumed"] for answer in answers[30:]} == {"7"}
    rows = await acme.fetch(
        """select u.credit_amount, r.credit_amount as rate, r.effective_to from usage_operations u join credit_rates r
           on r.org_id = u.org_id and r.id = u.rate_id where u.org_id = $1"""
    )
    assert all(row["credit_amount"] == row["rate"] for row in rows)
    await audit(acme)


async def test_grants_are_spent_in_their_order_and_each_is_told(acme: World) -> None:
    """M13: priority, then earliest expiry; what has expired is not there."""
    await give(acme, 5, GrantSource.PLAN, expires="2026-02-01", reference="plan:x")
    await give(acme, 7, GrantSource.MANUAL, priority=0)
    await give(acme, 9, GrantSource.PROMOTION, expires="2026-01-02", priority=0)
    tracked = (await track(acme, properties={"n": 10_000})).json
    taken = [(one["source_type"], one["amount"], one["remaining"]) for one in tracked["deductions"]]
    assert taken == [("manual_grant", "9", "0"), ("manual_grant", "7", "0"), ("subscription_grant", "4", "1")]
    await acme.turn("2026-02-01")
    tracked = (await track(acme, properties={"n": 500})).json
    assert [(one["source_type"], one["amount"]) for one in tracked["deductions"]] == [("top_up", "1")]
    assert (tracked["available"], tracked["remaining"]) == ("100", "99")
    await audit(acme)


async def test_in_live_mode_a_use_happens_now(live_world: World) -> None:
    """Without a timestamp; a system that was made a moment ago rates it from its own moment on."""
    await live_world.a_metric()
    await a_system(live_world)
    await a_rate(live_world)
    await live_world.a_customer()
    await give(live_world, 1)
    tracked = (await track(live_world, properties={"n": 100})).json
    assert (tracked["allowed"], tracked["remaining"]) == (True, "0.8")
    event = await live_world.event(tracked["operation_id"])
    [row] = await live_world.fetch("select occurred_at, created_at from usage_operations where org_id = $1")
    assert event is not None
    assert event["timestamp"] == row["occurred_at"].isoformat().replace("+00:00", "Z")
    assert row["occurred_at"] <= row["created_at"]
    await audit(live_world)
