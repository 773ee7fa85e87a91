"""Alerts through Core: what they are, when they fire, and how often."""

import asyncio
from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PER_UNIT = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
BUDGET = {
    "alert_type": "current_usage_amount",
    "code": "budget",
    "name": "Budget",
    "thresholds": [{"code": "warn", "value": "1000"}, {"code": "more", "value": 500, "recurring": True}],
}


async def a_subscriber(world: World) -> str:
    """acme on a plan with one dollar a token, from 1 January 2026; the path of its alerts."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_metric(code="calls", how="count_agg")
    await world.a_plan(charges=[PER_UNIT, {**PER_UNIT, "billable_metric_code": "calls"}])
    await world.a_customer("acme")
    return f"/core/api/v1/subscriptions/{await world.subscribe('acme', 'pro')}/alerts"


async def create(world: World, path: str, **fields: object) -> dict[str, Any]:
    made = (await world.post(path, {"alert": {**BUDGET, **fields}}))["alert"]
    assert isinstance(made, dict)
    return made


async def refusal(world: World, path: str, **fields: object) -> dict[str, list[str]]:
    answer = await world.call("POST", path, {"alert": {**BUDGET, **fields}})
    assert answer.status == 422
    details = answer.json["error_details"]
    assert isinstance(details, dict)
    return details


async def fired(world: World) -> list[tuple[str, int, list[str]]]:
    """(code, value, values of the crossed thresholds) of what fired, in order."""
    rows = await world.fetch(
        """select payload from outbox where org_id = $1 and kind = 'alert.triggered' order by id"""
    )
    found = [row["payload"] for row in rows]
    stored = await world.fetch("select 1 from triggered_alerts where org_id = $1")
    assert len(stored) == len(found)
    return [
        (one["alert_code"], one["current_value"], [each["value"] for each in one["crossed_thresholds"]])
        for one in found
    ]


async def test_the_life_of_an_alert(world: World) -> None:
    path = await a_subscriber(world)
    made = await create(world, path)
    assert made == {
        "lago_id": made["nozle_id"],
        "nozle_id": made["nozle_id"],
        "lago_organization_id": str(world.org_id),
        "external_subscription_id": path.split("/")[-2],
        "subscription_external_id": path.split("/")[-2],
        "lago_wallet_id": None,
        "wallet_code": None,
        "alert_type": "current_usage_amount",
        "code": "budget",
        "name": "Budget",
        "direction": "increasing",
        "previous_value": "0.0",
        "last_processed_at": None,
        "thresholds": [
            {"code": "warn", "value": "1000.0", "recurring": False},
            {"code": "more", "value": "500.0", "recurring": True},
        ],
        "billable_metric": None,
        "feature": None,
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert (await world.get(f"{path}/budget"))["alert"] == made
    listed = await world.get(path)
    assert (listed["alerts"], listed["meta"]["total_count"]) == ([made], 1)
    body = {"alert": {"code": "limit", "name": None, "thresholds": [{"value": "7"}]}}
    changed = (await world.call("PUT", f"{path}/budget", body)).json["alert"]
    thresholds = [{"code": None, "value": "7.0", "recurring": False}]
    assert changed == {**made, "code": "limit", "name": None, "thresholds": thresholds}
    assert (await world.call("GET", f"{path}/budget")).code == "alert_not_found"
    assert (await world.call("DELETE", f"{path}/limit")).json["alert"] == changed
    assert (await world.get(path))["alerts"] == []
    assert (await create(world, path))["lago_id"] != made["lago_id"]
    await create(
        world,
        path,
        code="tokens",
        alert_type="feature_current_usage_units",
        feature_code="tokens",
        thresholds=[{"value": "5"}],
    )
    assert (await world.get(f"{path}/tokens"))["alert"]["billable_metric"]["code"] == "tokens"
    assert (await world.call("DELETE", path)).status == 200
    assert (await world.get(path))["meta"]["total_count"] == 0


async def test_a_batch_is_made_whole_or_not_at_all(world: World) -> None:
    path = await a_subscriber(world)
    other = {**BUDGET, "code": "life", "alert_type": "lifetime_usage_amount"}
    answer = await world.call("POST", path, {"alerts": [BUDGET, {**other, "code": "budget"}, other]})
    assert (answer.status, answer.json["error_details"]) == (422, {"1": ["value_already_exist"]})
    assert (await world.get(path))["alerts"] == []
    made = await world.post(path, {"alerts": [BUDGET, other]})
    assert [one["code"] for one in made["alerts"]] == ["budget", "life"]
    assert (await world.call("POST", path, {"alerts": []})).json["error_details"] == {"alerts": ["no_alerts"]}


async def test_what_cannot_be_is_refused_in_lagos_words(world: World) -> None:
    path = await a_subscriber(world)
    assert await refusal(world, path, alert_type="mood") == {"alert_type": ["invalid_type"]}
    assert await refusal(world, path, alert_type="wallet_balance_amount") == {"alert_type": ["invalid_type"]}
    assert await refusal(world, path, thresholds=[]) == {"thresholds": ["value_is_mandatory"]}
    many = [{"value": str(n)} for n in range(21)]
    assert await refusal(world, path, thresholds=many) == {"thresholds": ["too_many_thresholds"]}
    twice = [{"value": "1"}, {"value": "1.0"}]
    assert await refusal(world, path, thresholds=twice) == {"thresholds": ["duplicate_threshold_values"]}
    steps = [{"value": "0", "recurring": True}]
    assert await refusal(world, path, thresholds=steps) == {"thresholds": ["value_is_out_of_range"]}
    of_metric = "billable_metric_current_usage_amount"
    assert await refusal(world, path, alert_type=of_metric) == {"billable_metric": ["value_is_mandatory"]}
    assert await refusal(world, path, billable_metric_code="tokens") == {
        "billable_metric": ["value_must_be_blank"]
    }
    unknown = {**BUDGET, "alert_type": of_metric, "billable_metric_code": "nothing"}
    answer = await world.call("POST", path, {"alert": unknown})
    assert (answer.status, answer.code) == (404, "billable_metric_not_found")
    await create(world, path)
    assert await refusal(world, path) == {"code": ["value_already_exist"]}
    assert await refusal(world, path, code="again") == {"base": ["alert_already_exists"]}
    assert (await world.call("GET", "/core/api/v1/subscriptions/none/alerts")).status == 404


async def test_it_fires_once_a_crossing_and_anew_in_the_next_period(world: World) -> None:
    path = await a_subscriber(world)
    await create(world, path)
    await world.at("2026-01-02").use("acme", 9)
    assert await fired(world) == []
    await world.at("2026-01-03").use("acme", 1)
    await world.turn("2026-01-04")
    assert await fired(world) == [("budget", 1000, ["1000"])]
    await world.use("acme", 3)
    await world.turn("2026-01-05")
    assert len(await fired(world)) == 1
    await world.use("acme", 8)
    await world.turn("2026-01-06")
    assert (await fired(world))[1:] == [("budget", 2100, ["1500", "2000"])]
    shown = (await world.get(f"{path}/budget"))["alert"]
    assert (shown["previous_value"], shown["last_processed_at"]) == ("2100.0", "2026-01-05T00:00:00Z")
    await world.at("2026-02-02").use("acme", 10)
    await world.turn("2026-02-03")
    assert (await fired(world))[2:] == [("budget", 1000, ["1000"])]


async def test_what_the_merchant_is_told(world: World) -> None:
    """Contract 7.2."""
    path = await a_subscriber(world)
    made = await create(
        world,
        path,
        alert_type="billable_metric_current_usage_units",
        billable_metric_code="tokens",
        thresholds=[{"code": "warn", "value": "2.5"}],
    )
    await world.use("acme", 3)
    await world.turn("2026-01-02")
    [row] = await world.fetch(
        "select subject, payload from outbox where org_id = $1 and kind = 'alert.triggered'"
    )
    told = row["payload"]
    assert told.pop("lago_id") == told.pop("nozle_id") == row["subject"]
    assert told.pop("lago_subscription_id")
    assert told == {
        "lago_organization_id": str(world.org_id),
        "lago_alert_id": made["lago_id"],
        "external_subscription_id": made["external_subscription_id"],
        "subscription_external_id": made["external_subscription_id"],
        "lago_wallet_id": None,
        "wallet_code": None,
        "external_customer_id": "acme",
        "customer_external_id": "acme",
        "billable_metric_code": "tokens",
        "alert_type": "billable_metric_current_usage_units",
        "alert_code": "budget",
        "alert_name": "Budget",
        "current_value": 3,
        "previous_value": 0,
        "crossed_thresholds": [{"code": "warn", "value": "2.5", "recurring": False}],
        "triggered_at": "2026-01-01T00:00:00Z",
    }


async def test_each_type_looks_at_its_own_value(world: World) -> None:
    path = await a_subscriber(world)
    one = [{"value": "100"}]
    await create(world, path, code="all", thresholds=one)
    await create(world, path, code="life", alert_type="lifetime_usage_amount", thresholds=one)
    await create(
        world,
        path,
        code="calls",
        alert_type="billable_metric_current_usage_amount",
        billable_metric_code="calls",
        thresholds=one,
    )
    await world.use("acme", 4)
    await world.use("acme", code="calls")
    await world.turn("2026-01-02")
    assert sorted(await fired(world)) == [
        ("all", 500, ["100"]),
        ("calls", 100, ["100"]),
        ("life", 500, ["100"]),
    ]
    await world.at("2026-02-02").use("acme", 2)
    await world.turn("2026-02-03")
    assert (await fired(world))[3:] == [("all", 200, ["100"])]


async def test_usage_that_is_there_already_fires_once(world: World) -> None:
    """As Lago: an alert's first look is from 0."""
    path = await a_subscriber(world)
    await world.use("acme", 10)
    await world.turn("2026-01-02")
    await create(world, path)
    await world.turn("2026-01-03")
    assert await fired(world) == [("budget", 1000, ["1000"])]


async def test_events_at_once_fire_once(world: World) -> None:
    """Twenty events in parallel cross the threshold together: one look, one alert."""
    path = await a_subscriber(world)
    await create(world, path)
    await asyncio.gather(*(world.use("acme", 1) for _ in range(20)))
    assert (
        len(await world.fetch("select 1 from due_items where org_id = $1 and kind like 'check_usage%'")) == 1
    )
    await world.turn("2026-01-02")
    assert await fired(world) == [("budget", 2000, ["1000", "1500", "2000"])]


async def test_what_nobody_watches_costs_no_due_item(world: World) -> None:
    path = await a_subscriber(world)
    await create(world, path)
    await world.call("DELETE", path)
    await world.turn("2026-01-02")
    await world.use("acme", 10)
    assert await world.fetch("select 1 from due_items where org_id = $1 and kind like 'check_%'") == []
    assert await world.fetch("select 1 from watches where org_id = $1") == []


async def test_a_wallet_that_shrinks_fires_its_alerts(world: World) -> None:
    await a_subscriber(world)
    wallet = {
        "external_customer_id": "acme",
        "code": "main",
        "currency": "USD",
        "rate_amount": "2",
        "granted_credits": "10",
    }
    made = (await world.post("/core/api/v1/wallets", {"wallet": wallet}))["wallet"]
    path = "/core/api/v1/customers/acme/wallets/main/alerts"
    low = [{"code": "low", "value": "1500"}, {"code": "empty", "value": "500"}]
    alert = await create(world, path, code="balance", alert_type="wallet_balance_amount", thresholds=low)
    assert (alert["direction"], alert["previous_value"]) == ("decreasing", "2000.0")
    assert (alert["wallet_code"], alert["lago_wallet_id"]) == ("main", made["lago_id"])
    await create(
        world,
        path,
        code="ongoing",
        alert_type="wallet_credits_ongoing_balance",
        thresholds=[{"value": "8"}],
    )
    assert await refusal(world, path) == {"alert_type": ["invalid_type"]}
    await world.at("2026-01-02").use("acme", 4)
    await world.turn("2026-01-03")
    assert await fired(world) == [("ongoing", 8, ["8"])]
    await world.post(
        "/core/api/v1/wallet_transactions",
        {"wallet_transaction": {"wallet_id": made["lago_id"], "voided_credits": "8"}},
    )
    await world.turn("2026-01-04")
    assert (await fired(world))[1:] == [("balance", 400, ["1500", "500"])]
    assert [one["code"] for one in (await world.get(path))["alerts"]] == ["ongoing", "balance"]
    assert (await world.call("GET", "/core/api/v1/customers/acme/wallets/none/alerts")).status == 404


async def test_a_wallet_that_shrinks_anew_after_it_was_filled_fires_anew(world: World) -> None:
    await a_subscriber(world)
    wallet = await world.a_wallet(code="main", granted_credits="10")
    path = "/core/api/v1/customers/acme/wallets/main/alerts"
    await create(world, path, code="low", alert_type="wallet_balance_amount", thresholds=[{"value": "500"}])

    async def move(**what: str) -> None:
        moved = {"wallet_transaction": {"wallet_id": wallet["lago_id"], **what}}
        await world.post("/core/api/v1/wallet_transactions", moved)

    await move(voided_credits="8")
    await world.turn("2026-01-02")
    assert await fired(world) == [("low", 200, ["500"])]
    await move(paid_credits="20")
    [bought] = (await world.get("/core/api/v1/invoices", invoice_type="credit"))["invoices"]
    paid = {"invoice": {"payment_status": "succeeded"}}
    await world.call("PUT", f"/core/api/v1/invoices/{bought['lago_id']}", paid)
    await world.turn("2026-01-03")
    await move(voided_credits="21")
    await world.turn("2026-01-04")
    assert (await fired(world))[1:] == [("low", 100, ["500"])]
