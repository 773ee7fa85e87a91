"""Usage as Core shows it: now, projected, past, of all time; the figures are the invoice's."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.catalog.charge_models import Standard
from nozle_server.invoicing.projection import Progress, project
from world import World

PER_UNIT = {"charge_model": "standard", "properties": {"amount": "0.03"}}
CUSTOMERS = "/core/api/v1/customers"


async def a_subscriber(world: World, *charges: dict[str, Any], **plan: object) -> str:
    """acme on a plan with these charges, from 1 January 2026 in UTC."""
    await world.turn("2026-01-01")
    await world.a_plan(charges=list(charges), **plan)  # type: ignore[arg-type]
    await world.a_customer("acme")
    return await world.subscribe("acme", "pro")


async def usage(world: World, subscription: str, which: str = "current_usage", **query: object) -> Any:
    found = await world.get(f"{CUSTOMERS}/acme/{which}", external_subscription_id=subscription, **query)
    return found["customer_usage" if which == "current_usage" else "customer_projected_usage"]


@pytest.mark.database
async def test_current_usage_is_what_the_invoice_will_say(world: World) -> None:
    await world.a_metric(code="tokens", name="Tokens")
    subscription = await a_subscriber(
        world, {"billable_metric_code": "tokens", "invoice_display_name": "LLM", **PER_UNIT}, amount_cents=900
    )
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    await world.at("2026-01-05").use("acme", 1000)
    await world.at("2026-01-10").use("acme", 17)
    shown = await usage(world, subscription)
    [charge] = shown.pop("charges_usage")
    assert shown == {
        "from_datetime": "2026-01-01T00:00:00Z",
        "to_datetime": "2026-01-31T23:59:59Z",
        "issuing_date": "2026-02-01",
        "lago_invoice_id": None,
        "currency": "USD",
        "amount_cents": 3051,
        "taxes_amount_cents": 610,
        "total_amount_cents": 3661,
    }
    assert (charge["units"], charge["events_count"], charge["amount_cents"]) == ("1017.0", 2, 3051)
    assert (charge["amount_currency"], charge["pricing_unit_details"]) == ("USD", None)
    assert (charge["charge"]["charge_model"], charge["charge"]["invoice_display_name"]) == ("standard", "LLM")
    metric = charge["billable_metric"]
    assert (metric["name"], metric["code"], metric["aggregation_type"]) == ("Tokens", "tokens", "sum_agg")
    assert charge["feature"] == metric
    assert (charge["filters"], charge["grouped_usage"]) == ([], [])
    untaxed = await usage(world, subscription, apply_taxes="false")
    assert (untaxed["taxes_amount_cents"], untaxed["total_amount_cents"]) == (0, 3051)
    await world.turn("2026-02-01")
    assert ("LLM", 3051) in await world.lines("acme")
    after = await usage(world, subscription)
    assert (after["from_datetime"], after["amount_cents"]) == ("2026-02-01T00:00:00Z", 0)


@pytest.mark.database
async def test_filters_are_shown_one_by_one_and_what_matched_none_last(world: World) -> None:
    await world.a_metric(filters=[{"key": "model", "values": ["gpt", "claude"]}])
    filters = [
        {"values": {"model": [name]}, "invoice_display_name": name, "properties": {"amount": price}}
        for name, price in (("gpt", "1"), ("claude", "2"))
    ]
    subscription = await a_subscriber(
        world, {"billable_metric_code": "tokens", **PER_UNIT, "filters": filters}
    )
    await world.use("acme", 3, properties={"model": "gpt"})
    await world.use("acme", 100)
    [charge] = (await usage(world, subscription))["charges_usage"]
    assert [(one["values"], one["units"], one["amount_cents"]) for one in charge["filters"]] == [
        ({"model": ["gpt"]}, "3.0", 300),
        ({"model": ["claude"]}, "0.0", 0),
        (None, "100.0", 300),
    ]
    assert (charge["units"], charge["amount_cents"], charge["events_count"]) == ("103.0", 600, 2)


@pytest.mark.database
async def test_some_charges_can_be_asked_for(world: World) -> None:
    await world.a_metric(code="tokens")
    await world.a_metric(code="calls", how="count_agg")
    subscription = await a_subscriber(
        world,
        {"billable_metric_code": "tokens", **PER_UNIT},
        {"billable_metric_code": "calls", **PER_UNIT},
    )
    await world.use("acme", 100)
    await world.use("acme", code="calls")
    both = await usage(world, subscription)
    assert [one["billable_metric"]["code"] for one in both["charges_usage"]] == ["calls", "tokens"]
    by_metric = await usage(world, subscription, filter_by_metric_code="tokens")
    assert (len(by_metric["charges_usage"]), by_metric["amount_cents"]) == (1, 300)
    by_id = await usage(
        world, subscription, filter_by_charge_id=both["charges_usage"][0]["charge"]["lago_id"]
    )
    assert [one["billable_metric"]["code"] for one in by_id["charges_usage"]] == ["calls"]
    assert (await usage(world, subscription, filter_by_charge_code="nothing"))["charges_usage"] == []
    for bad in ({"filter_by_charge_id": "x"}, {"filter_by_group": "["}, {"filter_by_group": "[1]"}):
        answer = await world.call(
            "GET",
            f"{CUSTOMERS}/acme/current_usage?external_subscription_id={subscription}&"
            + "&".join(f"{key}={value}" for key, value in bad.items()),
        )
        assert answer.status == 422


@pytest.mark.database
async def test_full_usage_looks_at_the_whole_life(world: World) -> None:
    await world.a_metric()
    subscription = await a_subscriber(world, {"billable_metric_code": "tokens", **PER_UNIT})
    await world.use("acme", 100)
    await world.at("2026-02-10").use("acme", 50)
    assert (await usage(world, subscription))["charges_usage"][0]["units"] == "50.0"
    whole = await usage(world, subscription, full_usage="true")
    assert (whole["from_datetime"], whole["charges_usage"][0]["units"]) == ("2026-01-01T00:00:00Z", "150.0")


@pytest.mark.database
async def test_usage_without_a_running_subscription_is_405_and_of_nobody_404(world: World) -> None:
    """As Lago, whose clients tell these apart."""
    subscription = await a_subscriber(world)
    for which in ("current_usage", "projected_usage"):
        for target, status, code in (
            (f"acme/{which}?external_subscription_id=other", 405, "no_active_subscription"),
            (f"nobody/{which}?external_subscription_id={subscription}", 404, "customer_not_found"),
            (f"acme/{which}", 422, "validation_errors"),
        ):
            answer = await world.call("GET", f"{CUSTOMERS}/{target}")
            assert (answer.status, answer.code) == (status, code)
    other = await world.call("GET", f"{CUSTOMERS}/acme/past_usage")
    assert (other.status, other.json["error_details"]) == (
        422,
        {"external_subscription_id": ["value_is_mandatory"]},
    )
    unknown = await world.call(
        "GET",
        f"{CUSTOMERS}/acme/past_usage?external_subscription_id={subscription}&billable_metric_code=x",
    )
    assert (unknown.status, unknown.code) == (404, "billable_metric_not_found")


@pytest.mark.database
async def test_projected_usage_goes_on_as_the_period_began(world: World) -> None:
    """Ten of 31 days, today included: 100 units become 310, priced by the model's own tiers."""
    await world.a_metric(code="tokens", name="A")
    await world.a_metric(code="seats", name="B", how="max_agg")
    ranges = [
        {"from_value": 0, "to_value": 200, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 201, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
    ]
    subscription = await a_subscriber(
        world,
        {
            "billable_metric_code": "tokens",
            "charge_model": "graduated",
            "properties": {"graduated_ranges": ranges},
        },
        {"billable_metric_code": "seats", **PER_UNIT},
    )
    await world.at("2026-01-10T12:00:00Z").use("acme", 100)
    shown = await usage(world, subscription, "projected_usage")
    tokens, seats = shown["charges_usage"]
    assert (shown["amount_cents"], shown["projected_amount_cents"]) == (10000, 20000 + 5500)
    assert (tokens["units"], tokens["projected_units"]) == ("100.0", "310.0")
    assert (seats["projected_units"], seats["projected_amount_cents"]) == ("0.0", 0)
    await world.turn("2026-01-31T23:00:00Z")
    last_day = await usage(world, subscription, "projected_usage")
    assert last_day["projected_amount_cents"] == last_day["amount_cents"]


@pytest.mark.database
async def test_past_usage_is_what_the_invoices_said(world: World) -> None:
    await world.a_metric(code="tokens")
    await world.a_metric(code="calls", how="count_agg")
    subscription = await a_subscriber(
        world,
        {"billable_metric_code": "tokens", **PER_UNIT},
        {"billable_metric_code": "calls", **PER_UNIT},
        amount_cents=900,
    )
    await world.use("acme", 1000)
    await world.at("2026-02-10").use("acme", 50)
    await world.turn("2026-04-02")
    target = f"{CUSTOMERS}/acme/past_usage"
    found = await world.get(target, external_subscription_id=subscription)
    assert [one["from_datetime"] for one in found["usage_periods"]] == [
        "2026-03-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ]
    assert found["meta"]["total_count"] == 3
    first = found["usage_periods"][-1]
    invoice = (await world.invoices("acme"))[0]
    assert (first["to_datetime"], first["issuing_date"]) == ("2026-01-31T23:59:59Z", "2026-02-01")
    assert (first["lago_invoice_id"], first["amount_cents"]) == (invoice["lago_id"], 3900)
    assert [(one["billable_metric"]["code"], one["amount_cents"]) for one in first["charges_usage"]] == [
        ("calls", 0),
        ("tokens", 3000),
    ]
    two = await world.get(target, external_subscription_id=subscription, periods_count=2, per_page=1, page=2)
    assert [one["from_datetime"] for one in two["usage_periods"]] == ["2026-02-01T00:00:00Z"]
    assert two["meta"]["total_count"] == 2
    three = await world.get(
        target, external_subscription_id=subscription, periods_count=2, page=2, per_page=2
    )
    assert three["usage_periods"] == []
    tokens = await world.get(
        target, external_subscription_id=subscription, billable_metric_code="tokens", periods_count=1
    )
    assert [one["billable_metric"]["code"] for one in tokens["usage_periods"][0]["charges_usage"]] == [
        "tokens"
    ]


@pytest.mark.database
async def test_a_browser_reads_one_metric_beside_its_limit(world: World) -> None:
    """Contract 2.8: what `useUsage` reads, with either key."""
    await world.turn("2026-01-01")
    await world.a_metric(code="tokens")
    await world.a_metric(code="calls", how="count_agg")
    await world.a_feature(code="chat", metric="tokens")
    await world.a_plan(code="pro")
    await world.post(
        "/core/api/v1/plans/pro/entitlements", {"entitlements": {"chat": {"limit": 200, "overage": False}}}
    )
    await world.a_customer("acme")
    nothing = await world.get("/api/v1/usage/acme/chat")
    assert (nothing["value"], nothing["limit"], nothing["period_start"]) == (0, None, None)
    await world.subscribe("acme", "pro")
    await world.use("acme", 50)
    await world.use("acme", code="calls")
    answer = await world.call("GET", "/api/v1/usage/acme/chat", key=world.publishable)
    assert answer.json == {
        "customer_id": "acme",
        "metric": "chat",
        "value": 50,
        "total": 50,
        "used": 50,
        "limit": 200,
        "remaining": 150,
        "percentage": 25,
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-02-01T00:00:00Z",
    }
    unpriced = await world.get("/api/v1/usage/acme/calls")
    assert (unpriced["used"], unpriced["limit"], unpriced["percentage"]) == (1, None, None)
    for target, code in (
        ("nobody/chat", "customer_not_found"),
        ("acme/unknown", "billable_metric_not_found"),
    ):
        missing = await world.call("GET", f"/api/v1/usage/{target}")
        assert (missing.status, missing.code) == (404, code)


@given(
    units=st.decimals(min_value=0, max_value=10**12, places=3),
    days=st.integers(min_value=1, max_value=366),
    more=st.integers(min_value=0, max_value=366),
)
def test_a_projection_never_falls_below_what_is_there(units: Decimal, days: int, more: int) -> None:
    """And on the last day, or for what is carried over, it is exactly that."""
    exact = units * 3
    for carried_over in (True, False):
        projected = project(
            Standard(Decimal("0.03")),
            units=units,
            events_count=1,
            exact_amount_cents=exact,
            currency="USD",
            progress=Progress(days, days + more),
            carried_over=carried_over,
        )
        now = int(exact.quantize(Decimal(1), rounding="ROUND_HALF_UP"))
        if carried_over or more == 0:
            assert (projected.units, projected.amount_cents) == (units, now)
        else:
            assert projected.units >= round(units, 2) - Decimal("0.01")
            assert projected.amount_cents >= now - 3


@pytest.mark.database
async def test_lifetime_usage_is_before_invoiced_and_now(world: World) -> None:
    await world.a_metric()
    thresholds = [{"amount_cents": 1000}, {"amount_cents": 5000}, {"amount_cents": 2000, "recurring": True}]
    subscription = await a_subscriber(
        world,
        {"billable_metric_code": "tokens", **PER_UNIT},
        amount_cents=900,
        usage_thresholds=thresholds,
    )
    target = f"/core/api/v1/subscriptions/{subscription}/lifetime_usage"
    await world.use("acme", 1000)
    await world.at("2026-02-10").use("acme", 100)
    shown = (await world.get(target))["lifetime_usage"]
    assert (shown["invoiced_usage_amount_cents"], shown["current_usage_amount_cents"]) == (3000, 300)
    assert (shown["from_datetime"], shown["to_datetime"]) == ("2026-01-01T00:00:00Z", "2026-02-10T00:00:00Z")
    assert shown["external_historical_usage_amount_cents"] == 0
    body = {"lifetime_usage": {"external_historical_usage_amount_cents": 700}}
    changed = (await world.call("PUT", target, body)).json["lifetime_usage"]
    assert changed["external_historical_usage_amount_cents"] == 700
    assert [(one["amount_cents"], one["completion_ratio"]) for one in changed["usage_thresholds"]] == [
        (1000, 1),
        (5000, Decimal("0.75")),
        (7000, 0),
    ]
    for wrong, status in ((-1, 422), ("x", 422)):
        body = {"lifetime_usage": {"external_historical_usage_amount_cents": wrong}}  # type: ignore[dict-item]
        assert (await world.call("PUT", target, body)).status == status
    assert (await world.call("GET", "/core/api/v1/subscriptions/none/lifetime_usage")).status == 404
