"""Estimates of fees: what an event would cost, and no trace of it afterwards."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/events"


def in_advance(model: str = "standard", **properties: object) -> dict[str, Any]:
    return {
        "billable_metric_code": "tokens",
        "charge_model": model,
        "pay_in_advance": True,
        "properties": properties or {"amount": "0.03"},
    }


async def a_subscriber(world: World, *charges: dict[str, Any]) -> str:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_metric(code="calls", how="count_agg")
    await world.a_plan(charges=list(charges))
    await world.a_customer("acme")
    return await world.subscribe("acme", "pro")


async def fees(
    world: World, subscription: str, n: object, which: str = "estimate_fees", **more: object
) -> list[dict[str, Any]]:
    event = {
        "code": "tokens",
        "external_subscription_id": subscription,
        "properties": {"n": n},
        **more,
    }
    found = (await world.post(f"{PATH}/{which}", {"event": event}))["fees"]
    assert isinstance(found, list)
    return found


GRADUATED = in_advance(
    "graduated",
    graduated_ranges=[
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
    ],
)


async def test_an_estimate_comes_after_what_was_used_and_writes_nothing(world: World) -> None:
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    subscription = await a_subscriber(world, GRADUATED)
    await world.use("acme", 8)
    tables = ("events", "usage_counters", "invoice_lines", "invoices", "outbox", "due_items")
    before = {name: await world.fetch(f"select * from {name} where org_id = $1") for name in tables}
    for _ in range(2):
        [fee] = await fees(world, subscription, 4, transaction_id="t1")
        assert (fee["amount_cents"], fee["units"], fee["taxes_amount_cents"]) == (300, "4.0", 60)
        assert (fee["total_amount_cents"], fee["amount_currency"]) == (360, "USD")
        assert (fee["lago_id"], fee["lago_invoice_id"], fee["created_at"]) == (None, None, None)
        assert (fee["pay_in_advance"], fee["events_count"]) == (True, 1)
        assert (fee["item"]["code"], fee["event_transaction_id"]) == ("tokens", "t1")
        assert [tax["tax_code"] for tax in fee["applied_taxes"]] == ["vat"]
    assert {name: await world.fetch(f"select * from {name} where org_id = $1") for name in tables} == before
    assert await world.event("t1") is None


async def test_an_instant_estimate_looks_at_the_event_alone(world: World) -> None:
    percentage = in_advance("percentage", rate="10", fixed_amount="1")
    subscription = await a_subscriber(world, in_advance(), percentage, GRADUATED)
    await world.use("acme", 1000)
    found = await fees(world, subscription, 10, "estimate_instant_fees")
    assert sorted(fee["amount_cents"] for fee in found) == [30, 200]
    assert {fee["taxes_amount_cents"] for fee in found} == {0}
    event = {"code": "tokens", "external_subscription_id": subscription}
    events = [{**event, "properties": {"n": n}, "transaction_id": f"t{n}"} for n in (1, 2)]
    batch = (await world.post(f"{PATH}/batch_estimate_instant_fees", {"events": events}))["fees"]
    assert [(fee["event_transaction_id"], fee["amount_cents"]) for fee in batch] == [
        ("t1", 3),
        ("t1", 110),
        ("t2", 6),
        ("t2", 120),
    ]


async def test_what_matches_no_instant_charge_is_told(world: World) -> None:
    """As Lago: 422 by code; an unknown subscription or metric is 404."""
    arrears = {**in_advance(), "pay_in_advance": False}
    subscription = await a_subscriber(world, arrears, {**GRADUATED, "billable_metric_code": "calls"})
    for which, body, status, code in (
        ("estimate_fees", {"code": "tokens", "properties": {"n": 1}}, 422, "validation_errors"),
        ("estimate_instant_fees", {"code": "calls"}, 422, "validation_errors"),
        ("estimate_fees", {"code": "nothing"}, 404, "billable_metric_not_found"),
        (
            "estimate_fees",
            {"code": "calls", "external_subscription_id": "none"},
            404,
            "subscription_not_found",
        ),
    ):
        event = {"external_subscription_id": subscription, **body}
        answer = await world.call("POST", f"{PATH}/{which}", {"event": event})
        assert (answer.status, answer.code) == (status, code)
        if status == 422:
            assert answer.json["error_details"] == {"code": ["does_not_match_an_instant_charge"]}
    for size in (0, 101):
        answer = await world.call("POST", f"{PATH}/batch_estimate_instant_fees", {"events": [{}] * size})
        assert answer.status == 422


async def test_what_is_paid_in_advance_is_part_of_the_current_usage(world: World) -> None:
    subscription = await a_subscriber(world, GRADUATED)
    await world.use("acme", 12)
    usage = await world.get(
        "/core/api/v1/customers/acme/current_usage", external_subscription_id=subscription
    )
    assert usage["customer_usage"]["amount_cents"] == 1100
