"""Meter events through the API: matched, counted once, in any order, never dropped in silence."""

import itertools
import random
from decimal import Decimal
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

HOWS = ("count_agg", "sum_agg", "max_agg", "unique_count_agg", "latest_agg")


async def _a_subscriber(world: World) -> None:
    """On a plan that prices and limits a metric of each aggregation."""
    await world.turn("2026-01-01")
    for how in HOWS:
        await world.a_metric(code=how, how=how)
        await world.a_feature(code=f"f_{how}", metric=how)
    await world.a_metric()
    charges = [
        {"billable_metric_code": how, "charge_model": "standard", "properties": {"amount": "1"}}
        for how in (*HOWS, "tokens")
    ]
    await world.a_plan(charges=charges, entitlements={f"f_{how}": {"limit": 1000} for how in HOWS})
    await world.a_customer()
    await world.subscribe("acme", "pro")


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_shuffled_events_over_three_periods_count_as_sorted_ones(world: World, seed: int) -> None:
    """I05, I09: whatever the order of arrival, every aggregate is that of the sorted events; the counters that can()
    reads are the aggregates that the invoice is made of."""
    rng = random.Random(seed)
    await _a_subscriber(world)
    # All within the 24 hours that events may be ahead, on both sides of two period ends of a weekly plan.
    plan = (await world.get("/core/api/v1/plans/pro"))["plan"]
    weekly = {"code": "week", "interval": "weekly", "amount_cents": 0, "charges": plan["charges"]}
    await world.post("/core/api/v1/plans", {"plan": {**weekly, "entitlements": _limits()}})
    await world.a_customer("week")
    await world.subscribe("week", "week", ending_at="2026-01-16T00:00:00Z")
    moments = ("2026-01-07T12:00:00Z", "2026-01-14T12:00:00Z", "2026-01-15T12:00:00Z")
    events = [
        {
            "transaction_id": f"{seed}-{how}-{n}",
            "customer_id": "week",
            "code": how,
            "properties": {"n": rng.choice([n % 7, Decimal(n) / 8])},
            "timestamp": f"2026-01-{rng.choice(('07T23', '08T01')) if n % 2 else '08T00'}:{n % 60:02d}:00Z",
        }
        for how, n in itertools.product(HOWS, range(40))
    ]
    rng.shuffle(events)
    await world.turn(moments[0])
    for batch in itertools.batched(events, 23) if hasattr(itertools, "batched") else _chunks(events, 23):
        answer = await world.post("/api/v1/events/batch", {"events": list(batch)})
        assert {row["billing_status"] for row in answer["events"]} == {"counted"}
    for start, end in (("2026-01-01", "2026-01-08"), ("2026-01-08", "2026-01-15")):
        await world.turn(f"{end}T00:00:00Z" if end == "2026-01-08" else "2026-01-14T23:59:59Z")
        if end == "2026-01-15":
            for how in HOWS:
                assert (await world.can("week", f"f_{how}"))["used"] == _expected(events, how, start, end)
            await world.turn(end)
        for how in HOWS:
            assert await world.units("week", how) == _expected(events, how, start, end)
    await audit(world)


def _expected(events: list[dict[str, Any]], how: str, start: str, end: str) -> Decimal:
    inside = sorted(
        (one["timestamp"], one["transaction_id"], one["properties"]["n"])
        for one in events
        if one["code"] == how and start <= one["timestamp"] < end
    )
    values = [Decimal(n) for _, _, n in inside]
    match how:
        case "count_agg":
            return Decimal(len(values))
        case "sum_agg":
            return sum(values, Decimal(0))
        case "max_agg":
            return max(values)
        case "unique_count_agg":
            return Decimal(len(set(values)))
        case _:
            return values[-1]


def _limits() -> dict[str, Any]:
    return {f"f_{how}": {"limit": 1000} for how in HOWS}


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[n : n + size] for n in range(0, len(items), size)]


async def test_events_may_be_a_day_ahead_and_not_more(world: World) -> None:
    """I08, Decision 4."""
    await _a_subscriber(world)
    ahead = await world.use("acme", 1, timestamp="2026-01-01T23:00:00Z")
    assert ahead["billing_status"] == "counted"
    for form in ("/api/v1/events", "/core/api/v1/events"):
        event = {
            "transaction_id": "x",
            "external_customer_id": "acme",
            "code": "tokens",
            "properties": {"n": 1},
        }
        answer = await world.call("POST", form, {"event": {**event, "timestamp": "2026-01-02T01:00:00Z"}})
        assert answer.status == (422 if form.startswith("/core") else 400)
    assert await world.event("x") is None


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"code": "nothing", "external_customer_id": "acme"}, "billable_metric_not_found"),
        ({"code": "tokens", "external_customer_id": "nobody"}, "customer_not_found"),
        ({"code": "tokens", "external_customer_id": "idle"}, "subscription_not_found"),
        ({"code": "tokens", "external_subscription_id": "sub_x"}, "subscription_not_found"),
    ],
)
async def test_unmatched_events_are_stored_and_flagged(
    world: World, event: dict[str, str], reason: str
) -> None:
    """Contract 2.4: the `{"event"}` form takes them in; nothing is dropped in silence."""
    await _a_subscriber(world)
    await world.a_customer("idle")
    body = {"event": {"transaction_id": "lost", "properties": {"n": 1}, **event}}
    stored = (await world.post("/api/v1/events", body))["event"]
    assert (stored["billing_status"], stored["reason"]) == ("unmatched", reason)
    found = await world.event("lost")
    assert found is not None
    assert found["reason"] == reason
    direct = await world.call(
        "POST", "/api/v1/events", {"metric_code": event["code"], "transaction_id": "d", **event}
    )
    if reason == "billable_metric_not_found":
        assert (direct.status, direct.json["event"]["reason"]) == (200, reason)  # "Never 4xx"
    else:
        assert (direct.status, direct.code) == (422, reason)
        assert await world.event("d") is None
    await audit(world)


async def test_a_repeat_is_a_replay_whatever_its_timestamp_and_another_payload_a_conflict(
    world: World,
) -> None:
    """I01, Decision 13."""
    await _a_subscriber(world)
    event = {
        "transaction_id": "one",
        "external_customer_id": "acme",
        "code": "sum_agg",
        "properties": {"n": 5, "m": 1},
    }
    first = await world.call("POST", "/api/v1/events", {"event": event})
    moved = {**event, "timestamp": "2026-01-01T00:00:01Z", "properties": {"m": 1, "n": 5}}
    again = await world.call("POST", "/api/v1/events", {"event": moved})
    assert not first.replayed
    assert again.replayed
    assert again.json == first.json
    for change in ({"properties": {"n": 6, "m": 1}}, {"code": "count_agg"}, {"external_customer_id": "beta"}):
        answer = await world.call("POST", "/api/v1/events", {"event": {**event, **change}})
        assert (answer.status, answer.code) == (409, "transaction_id_conflict")
    assert (await world.can("acme", "f_sum_agg"))["used"] == 5
    await audit(world)


async def test_a_repeat_under_a_providers_id_is_always_a_replay(world: World) -> None:
    """Decision 13: proxy and SDK may capture the same call with different properties."""
    await _a_subscriber(world)
    await world.use("acme", 5, id="llm-openai-1", code="sum_agg")
    event = {
        "transaction_id": "llm-openai-1",
        "external_customer_id": "acme",
        "code": "sum_agg",
        "properties": {"n": 9},
    }
    again = await world.call("POST", "/api/v1/events", {"event": event})
    assert (again.status, again.replayed) == (200, True)
    assert again.json["event"]["properties"] == {"n": 5}
    assert (await world.can("acme", "f_sum_agg"))["used"] == 5


async def test_a_batch_is_answered_event_by_event(world: World) -> None:
    """I03: good ones are stored, bad ones told, repeats replayed; the same batch again changes nothing."""
    await _a_subscriber(world)
    good = {"transaction_id": "a", "customer_id": "acme", "code": "sum_agg", "properties": {"n": 1}}
    batch = [
        good,
        good,
        {**good, "properties": {"n": 2}},
        {**good, "transaction_id": "b", "properties": {}},
        {**good, "transaction_id": "c", "timestamp": "soon"},
        {**good, "transaction_id": "d", "customer_id": None},
        {"transaction_id": 7},
        {**good, "transaction_id": "e"},
    ]
    fates = ["accepted", "replayed", "error", "error", "error", "error", "error", "accepted"]
    codes = [
        "transaction_id_conflict",
        "missing_property",
        "invalid_timestamp",
        "invalid_request",
        "invalid_request",
    ]
    rows = (await world.post("/api/v1/events/batch", {"events": batch}))["events"]
    assert [row["status"] for row in rows] == fates
    assert [row["code"] for row in rows if row["status"] == "error"] == codes
    again = (await world.post("/api/v1/events/batch", {"events": batch}))["events"]
    assert [row["status"] for row in again] == [one.replace("accepted", "replayed") for one in fates]
    assert (await world.can("acme", "f_sum_agg"))["used"] == 2
    await audit(world)


async def test_a_core_batch_is_all_or_nothing_with_errors_by_index(world: World) -> None:
    """Decision 4."""
    await _a_subscriber(world)
    good = {"external_customer_id": "acme", "code": "sum_agg", "properties": {"n": 1}}
    bad = [
        ({**good, "transaction_id": "x", "timestamp": "soon"}, "invalid_timestamp"),
        ({**good, "transaction_id": "x", "properties": {}}, "missing_property"),
        ({**good, "transaction_id": "ok", "properties": {"n": 2}}, "transaction_id_conflict"),
        (good, "invalid_request"),
    ]
    for event, code in bad:
        body = {"events": [{**good, "transaction_id": "ok"}, event]}
        answer = await world.call("POST", "/core/api/v1/events/batch", body)
        assert (answer.status, answer.json["error_details"]) == (422, {"1": [code]})
        assert await world.event("ok") is None
    assert (await world.can("acme", "f_sum_agg"))["used"] == 0


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_1_to_1000_events(world: World, size: int) -> None:
    event = {"transaction_id": "x", "customer_id": "acme", "code": "tokens"}
    for mount, status in (("/api/v1", 400), ("/core/api/v1", 422)):
        answer = await world.call("POST", f"{mount}/events/batch", {"events": [event] * size})
        assert answer.status == status


async def test_a_unique_value_may_be_as_long_as_a_property(world: World) -> None:
    """B03: what is told apart is any text that an event may carry, not only what fits into an index."""
    await _a_subscriber(world)
    rng = random.Random(1)
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    await world.use("acme", text, code="unique_count_agg")
    await world.use("acme", text, code="unique_count_agg")
    await world.use("acme", text + "!", code="unique_count_agg")
    assert (await world.can("acme", "f_unique_count_agg"))["used"] == 2


async def test_a_list_of_events_can_begin_with_the_subscription(world: World) -> None:
    """As Lago's `timestamp_from_started_at`."""
    await world.turn("2026-01-10")
    await world.a_metric()
    await world.a_plan(code="pro")
    await world.a_customer("acme")
    subscription = await world.subscribe("acme", "pro")
    named = {"external_subscription_id": subscription}
    await world.use("acme", 1, id="before", timestamp="2026-01-05T00:00:00Z", **named)
    await world.use("acme", 1, id="after", **named)
    found = await world.get(
        "/core/api/v1/events", external_subscription_id=subscription, timestamp_from_started_at="true"
    )
    assert [one["transaction_id"] for one in found["events"]] == ["after"]
    for query in ("", "&external_subscription_id=none"):
        answer = await world.call("GET", f"/core/api/v1/events?timestamp_from_started_at=true{query}")
        assert answer.status == (404 if query else 422)
