"""Analytics through Core, over a few months of invoices."""

from typing import Any
from uuid import UUID

import pytest

from nozle_server.invoicing.store import set_payment
from world import World, instant

pytestmark = pytest.mark.database

PATH = "/core/api/v1/analytics"
PER_UNIT = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.03"}}


async def figures(world: World, name: str, **query: object) -> list[dict[str, Any]]:
    [rows] = (await world.get(f"{PATH}/{name}", **query)).values()
    return [{**row, "month": row["month"].removesuffix("-01T00:00:00.000Z")} for row in rows]


async def three_months(world: World) -> None:
    """acme pays 10 USD and usage a month, globex 120 EUR a year in advance; it is 15 April 2026."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    await world.a_plan(code="pro", amount_cents=1000, charges=[PER_UNIT])
    await world.a_plan(
        code="year", amount_cents=12000, interval="yearly", pay_in_advance=True, amount_currency="EUR"
    )
    await world.a_customer("acme", net_payment_term=10)
    await world.a_customer("globex")
    await world.subscribe("acme", "pro")
    await world.subscribe("globex", "year")
    await world.at("2026-01-10").use("acme", 1000)
    await world.at("2026-03-10").use("acme", 100)
    await world.turn("2026-04-05")


async def pay(world: World, invoice: dict[str, Any]) -> None:
    async with world.database.transaction() as tx:
        await set_payment(
            tx,
            world.org_id,
            UUID(invoice["lago_id"]),
            payment_status="succeeded",
            total_paid_amount_cents=invoice["total_amount_cents"],
            now=instant("2026-04-05"),
        )


async def test_gross_revenue_is_what_was_invoiced(world: World, other_world: World) -> None:
    await three_months(world)
    assert await figures(world, "gross_revenue") == [
        {"month": "2026-01", "amount_cents": 14400, "currency": "EUR", "invoices_count": 1},
        {"month": "2026-02", "amount_cents": 4800, "currency": "USD", "invoices_count": 1},
        {"month": "2026-03", "amount_cents": 1200, "currency": "USD", "invoices_count": 1},
        {"month": "2026-04", "amount_cents": 1560, "currency": "USD", "invoices_count": 1},
    ]
    assert [row["month"] for row in await figures(world, "gross_revenue", currency="usd", months=2)] == [
        "2026-03",
        "2026-04",
    ]
    assert [row["month"] for row in await figures(world, "gross_revenue", months=1)] == ["2026-04"]
    globex = await figures(world, "gross_revenue", external_customer_id="globex")
    assert [row["amount_cents"] for row in globex] == [14400]
    assert await figures(other_world, "gross_revenue") == []


async def test_mrr_spreads_what_is_paid_for_a_year(world: World) -> None:
    await three_months(world)
    euros = await figures(world, "mrr", currency="EUR")
    assert [row["month"] for row in euros] == ["2026-01", "2026-02", "2026-03", "2026-04"]
    assert {row["amount_cents"] for row in euros} == {1201}
    dollars = await figures(world, "mrr", currency="USD")
    assert [(row["month"], row["amount_cents"]) for row in dollars] == [
        ("2026-02", 1200),
        ("2026-03", 1200),
        ("2026-04", 1200),
    ]


async def test_invoiced_usage_is_by_metric_without_tax(world: World) -> None:
    await three_months(world)
    assert await figures(world, "invoiced_usage") == [
        {"month": "2026-04", "code": "tokens", "currency": "USD", "amount_cents": 300},
        {"month": "2026-03", "code": "tokens", "currency": "USD", "amount_cents": 0},
        {"month": "2026-02", "code": "tokens", "currency": "USD", "amount_cents": 3000},
    ]


async def test_collection_tells_what_was_paid_and_overdue_what_was_not(world: World) -> None:
    await three_months(world)
    january, _, march = await world.invoices("acme")
    await pay(world, january)
    rows = await figures(world, "invoice_collection", currency="USD")
    assert [(row["month"], row["payment_status"], row["amount_cents"]) for row in rows] == [
        ("2026-02", "succeeded", 4800),
        ("2026-03", "pending", 1200),
        ("2026-04", "pending", 1560),
    ]
    assert {row["invoices_count"] for row in rows} == {1}
    overdue = await figures(world, "overdue_balance", external_customer_id="acme")
    assert [(row["month"], row["amount_cents"]) for row in overdue] == [("2026-03", 1200)]
    await world.turn("2026-04-12")
    overdue = await figures(world, "overdue_balance", currency="USD")
    assert [(row["month"], row["amount_cents"]) for row in overdue] == [("2026-03", 1200), ("2026-04", 1560)]
    assert overdue[-1]["lago_invoice_ids"] == [march["lago_id"]]
    fee = (await world.get(f"/core/api/v1/invoices/{march['lago_id']}"))["invoice"]["fees"][0]
    note = {
        "invoice_id": march["lago_id"],
        "items": [{"fee_id": fee["lago_id"], "amount_cents": 200}],
        "offset_amount_cents": 240,
    }
    await world.post("/core/api/v1/credit_notes", {"credit_note": note})
    overdue = await figures(world, "overdue_balance", currency="USD")
    assert overdue[-1]["amount_cents"] == 1560 - 240


async def test_months_without_figures_are_shown_empty_unless_a_currency_is_asked_for(world: World) -> None:
    """As Lago."""
    await world.turn("2026-04-05")
    assert await figures(world, "invoice_collection", months=2) == [
        {
            "month": month,
            "payment_status": None,
            "invoices_count": 0,
            "amount_cents": 0,
            "currency": None,
        }
        for month in ("2026-03", "2026-04")
    ]
    assert await figures(world, "mrr", months=1) == [
        {"month": "2026-04", "amount_cents": None, "currency": None}
    ]
    assert await figures(world, "mrr", months=1, currency="USD") == []


async def test_months_are_the_organizations(world: World) -> None:
    """At 23:00 UTC on 30 April it is May in Tokyo."""
    await world.turn("2026-04-30T23:00:00Z")
    await world.call("PUT", "/core/api/v1/organizations", {"organization": {"timezone": "Asia/Tokyo"}})
    assert [row["month"] for row in await figures(world, "mrr", months=1)] == ["2026-05"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("currency=XYZ", 422),
        ("months=-1", 422),
        ("months=x", 422),
        ("external_customer_id=nobody", 404),
        ("billing_entity_code=other", 404),
    ],
)
async def test_a_bad_question_is_refused(world: World, query: str, status: int) -> None:
    answer = await world.call("GET", f"{PATH}/gross_revenue?{query}")
    assert answer.status == status
