"""Margin: every report is another view of the same sums, and revenue is what the invoices say."""

from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any

import pytest

from nozle_server.core.rounding import EXACT
from world import World

pytestmark = pytest.mark.database

GRADUATED = {
    "graduated_ranges": [
        {"from_value": 0, "to_value": 100, "per_unit_amount": "0.01", "flat_amount": "0"},
        {"from_value": 101, "to_value": None, "per_unit_amount": "0.003", "flat_amount": "1"},
    ]
}
FIGURES = ("revenue_cents", "cost_cents", "margin_cents", "events_count")


async def _a_business(world: World) -> None:
    """Two plans, three customers, three models, a filter that is free, costs of two kinds."""
    await world.turn("2026-01-01")
    await world.a_metric(filters=[{"key": "paid_by", "values": ["credits"]}])
    await world.a_metric(code="seats", how="unique_count_agg")
    charge = {"billable_metric_code": "tokens", "charge_model": "graduated", "properties": GRADUATED}
    free = {
        "graduated_ranges": [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}]
    }
    filters = [{"values": {"paid_by": ["credits"]}, "properties": free}]
    seats = {"billable_metric_code": "seats", "charge_model": "standard", "properties": {"amount": "3.333"}}
    await world.a_plan(amount_cents=3100, charges=[{**charge, "filters": filters}, seats])
    await world.a_plan(code="adv", amount_cents=999, pay_in_advance=True, charges=[charge])
    await world.a_cost_model(cost_per_unit_cents=Decimal("0.1"))
    await world.a_cost_model(name="big", cost_per_unit_cents=Decimal("0.7"), model="big")
    for customer, plan in (("a", "pro"), ("b", "pro"), ("c", "adv")):
        await world.a_customer(customer, name=customer.upper())
        await world.subscribe(customer, plan)
    traffic = [
        ("a", 70, "big"),
        ("b", 33, "small"),
        ("a", 71, "small"),
        ("c", 300, None),
        ("a", 7, "big"),
    ] * 8
    for turn, (customer, n, model) in enumerate(traffic):
        await world.turn(f"2026-01-{1 + turn // 2:02d}T{turn % 2 * 12 + turn % 7:02d}:30:00Z")
        more = {"model": model} if model else {}
        if turn % 7 == 0:
            more["paid_by"] = "credits"
        await world.use(customer, n, properties=more)
    await world.use("a", "user1", code="seats")
    await world.use("a", "user2", code="seats")


@pytest.fixture(autouse=True)
def exact_arithmetic() -> Iterator[None]:
    """Python's own context would round what is checked here to 28 digits."""
    with localcontext(EXACT):
        yield


def _sums(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(Decimal(row[name]) for row in rows) for name in FIGURES}


@pytest.mark.parametrize("until", ["2026-01-25", "2026-02-01", "2026-02-10T05:00:00Z"])
@pytest.mark.parametrize(
    "within",
    [{}, {"from_": "2026-01-03", "to": "2026-01-10"}, {"from_": "2026-01-05T07:00:00Z", "to": "2026-03-01"}],
)
async def test_every_report_adds_up_to_the_summary(world: World, until: str, within: dict[str, str]) -> None:
    await _a_business(world)
    await world.turn(until)
    summary = await world.get("/api/v1/margin/summary", **within)
    total = {name: Decimal(summary.get(f"total_{name}", summary.get(name))) for name in FIGURES}
    assert total["margin_cents"] == total["revenue_cents"] - total["cost_cents"]
    assert total["revenue_cents"] == Decimal(summary["usage_revenue_cents"]) + Decimal(
        summary["subscription_revenue_cents"]
    )
    usage_only = {**total, "revenue_cents": Decimal(summary["usage_revenue_cents"])}
    usage_only["margin_cents"] = usage_only["revenue_cents"] - total["cost_cents"]
    for report, expected in (
        ("customers", total),
        ("plans", total),
        ("metrics", usage_only),
        ("models", usage_only),
    ):
        rows = await world.get(f"/api/v1/margin/{report}", **within)
        assert _sums(rows) == expected, report
        for row in rows:
            assert Decimal(row["margin_cents"]) == Decimal(row["revenue_cents"]) - Decimal(row["cost_cents"])
    for granularity in ("hour", "day", "week", "month"):
        points = (await world.get("/api/v1/margin/trend", granularity=granularity, **within))["points"]
        assert _sums(points) == total, granularity


async def test_revenue_of_a_finished_period_is_its_invoices(world: World) -> None:
    await _a_business(world)
    await world.turn("2026-02-01")
    lines = [
        line
        for customer in "abc"
        for invoice in await world.invoices(customer)
        for line in invoice["lines"]
        if line["period_end"] <= "2026-02-01T00:00:00Z"
    ]
    summary = await world.get("/api/v1/margin/summary", from_="2026-01-01", to="2026-01-31")
    for kind, name in (("charge", "usage_revenue_cents"), ("subscription", "subscription_revenue_cents")):
        assert summary[name] == sum(line["amount_cents"] for line in lines if line["kind"] == kind)


async def test_dates_are_inclusive_and_instants_half_open(world: World) -> None:
    """Decision 4."""
    await _a_business(world)
    whole = await world.get("/api/v1/margin/customers", from_="2026-01-02", to="2026-01-03")
    exact = await world.get(
        "/api/v1/margin/customers", from_="2026-01-02T00:00:00Z", to="2026-01-04T00:00:00Z"
    )
    assert whole == exact
    aliased = await world.get("/api/v1/margin/customers", from_date="2026-01-02", to_date="2026-01-03")
    assert aliased == whole


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-02-30",
        "from=yesterday",
        "to=2026-13-01",
        "from=2026-02-02&to=2026-02-01",
        "from=2026-W01-1",
        "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=",
        "from=2026-01-01&from=2026-01-02",
    ],
)
async def test_a_bad_or_reversed_range_is_400(world: World, query: str) -> None:
    for report in ("summary", "customers", "metrics", "plans", "models", "trend"):
        assert (await world.call("GET", f"/api/v1/margin/{report}?{query}")).status == 400


async def test_trend_fills_empty_buckets_and_weeks_start_on_monday(world: World) -> None:
    await _a_business(world)
    days = await world.get("/api/v1/margin/trend", from_="2025-12-30", to="2026-01-02")
    assert [point["period"] for point in days["points"]] == [
        f"{day}T00:00:00Z" for day in ("2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02")
    ]
    assert [point["events_count"] for point in days["points"]][:2] == [0, 0]
    weeks = await world.get("/api/v1/margin/trend", granularity="week", from_="2026-01-01", to="2026-01-12")
    assert [point["period"][:10] for point in weeks["points"]] == ["2025-12-29", "2026-01-05", "2026-01-12"]
    bad = await world.call("GET", "/api/v1/margin/trend?granularity=year")
    assert bad.status == 400


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month"])
@pytest.mark.parametrize("day", ["9999-12-30", "0001-01-01"])
async def test_a_trend_at_the_ends_of_time_is_no_error_of_ours(
    world: World, granularity: str, day: str
) -> None:
    """B13."""
    answer = await world.call("GET", f"/api/v1/margin/trend?from={day}&to={day}&granularity={granularity}")
    assert answer.status in (200, 400)


async def test_a_publishable_key_gets_no_margin(world: World) -> None:
    for report in ("summary", "customers", "metrics", "plans", "models", "trend"):
        answer = await world.call("GET", f"/api/v1/margin/{report}", key=world.publishable)
        assert answer.status == 403


async def test_what_is_there_from_day_to_day_is_earned_by_the_day(world: World) -> None:
    """Carried-over seats, weighted sums and minimums are spread over their period; groups and dynamic prices fall on their
    events. Together they are what the invoice charges."""
    await world.turn("2026-01-01")
    await world.a_metric(code="seats", recurring=True)
    await world.a_metric(code="disk", how="weighted_sum_agg", weighted_interval="seconds")
    await world.a_metric()

    def priced(metric: str, model: str = "standard", **properties: object) -> dict[str, Any]:
        return {"billable_metric_code": metric, "charge_model": model, "properties": properties}

    charges = [
        priced("seats", amount="31"),
        priced("disk", amount="31"),
        {**priced("tokens", amount="1", pricing_group_keys=["region"]), "min_amount_cents": 3200},
        priced("tokens", "dynamic"),
    ]
    await world.a_plan(charges=charges)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 2, code="seats")
    await world.use("acme", 10, code="disk")
    await world.at("2026-01-20").use("acme", 1, properties={"region": "eu"}, precise_total_amount_cents="100")
    await world.turn("2026-02-01")
    january = {"from_": "2026-01-01", "to": "2026-01-31"}
    charged = (await world.last_invoice("acme"))["total_amount_cents"]
    assert charged == 6200 + 31000 + 3200 + 100
    assert (await world.get("/api/v1/margin/summary", **january))["usage_revenue_cents"] == charged
    day = (await world.get("/api/v1/margin/summary", from_="2026-01-20", to="2026-01-20"))[
        "usage_revenue_cents"
    ]
    assert day == 200 + 1000 + (3200 - 100) // 31 + 100 + 100
    february = await world.get("/api/v1/margin/summary", from_="2026-02-01", to="2026-02-28")
    assert february["usage_revenue_cents"] > 0  # the first day of the seats that are carried over
