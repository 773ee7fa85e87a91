"""A preview is the invoice to the cent, and leaves nothing behind."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PREVIEW = "/core/api/v1/invoices/preview"
INVOICES = "/core/api/v1/invoices"
AMOUNTS = (
    "fees_amount_cents",
    "coupons_amount_cents",
    "taxes_amount_cents",
    "total_amount_cents",
    "currency",
)


async def previewed(world: World, **body: object) -> Any:
    """The preview; whatever it did, the books are as before."""
    counted = """select (select count(*) from customers where org_id = $1), (select count(*) from subscriptions
        where org_id = $1), (select count(*) from invoices where org_id = $1), (select count(*) from due_items
        where org_id = $1), (select count(*) from outbox where org_id = $1), (select count(*) from applied_coupons
        where org_id = $1), (select count(*) from credit_notes where org_id = $1), (select sum(value)
        from organization_counters where org_id = $1)"""
    before = await world.fetch(counted)
    preview = (await world.post(PREVIEW, body))["invoice"]
    assert await world.fetch(counted) == before
    assert (preview["number"], preview["status"], preview["file_url"]) == ("DRAFT", "draft", None)
    assert (await world.call("GET", f"{INVOICES}/{preview['lago_id']}")).code == "invoice_not_found"
    return preview


def amounts(invoice: Any) -> list[object]:
    fees = [(fee["item"]["type"], fee["amount_cents"], fee["units"]) for fee in invoice["fees"]]
    return [*(invoice[name] for name in AMOUNTS), fees]


async def last(world: World) -> Any:
    found = (await world.get(INVOICES))["invoices"][0]
    return (await world.get(f"{INVOICES}/{found['lago_id']}"))["invoice"]


async def a_shop(world: World) -> None:
    await world.turn("2026-01-10")
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.1"}}
    await world.a_plan(amount_cents=3100, pay_in_advance=True, charges=[charge])
    await world.a_plan(code="big", amount_cents=6200, pay_in_advance=True, charges=[charge])
    await world.a_plan(code="late", amount_cents=3100)
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})


async def subscribe(world: World, plan: str, **more: object) -> None:
    body = {"external_customer_id": "acme", "plan_code": plan, "external_id": "s", **more}
    await world.post("/core/api/v1/subscriptions", {"subscription": body})


@pytest.mark.parametrize("plan", ["pro", "late"])
async def test_the_first_invoice_of_somebody_who_does_not_exist_yet(world: World, plan: str) -> None:
    await a_shop(world)
    preview = await previewed(world, customer={"name": "New"}, plan_code=plan)
    await world.a_customer()
    same = await previewed(world, customer={"external_id": "acme"}, plan_code=plan)
    await subscribe(world, plan)
    if plan == "late":
        await world.turn("2026-02-01")
    assert amounts(preview) == amounts(same) == amounts(await last(world))
    assert preview["total_amount_cents"] == 2640


async def test_coupons_that_exist_or_might_reduce_it(world: World) -> None:
    await a_shop(world)
    terms = {
        "coupon_type": "fixed_amount",
        "amount_cents": 200,
        "amount_currency": "USD",
        "frequency": "once",
    }
    coupon = {"code": "two", "name": "Two", "expiration": "no_expiration", **terms}
    await world.post("/core/api/v1/coupons", {"coupon": coupon})
    for wanted in ({"code": "two"}, {"code": "other", **terms}, terms):
        preview = await previewed(world, customer={}, plan_code="pro", coupons=[wanted])
        assert (preview["coupons_amount_cents"], preview["total_amount_cents"]) == (200, 2400)


async def test_the_next_invoice_of_a_subscription_with_the_usage_by_now(world: World) -> None:
    await a_shop(world)
    await world.a_customer()
    await subscribe(world, "pro")
    await world.use("acme", 50)
    preview = await previewed(world, subscriptions={"external_ids": ["s"]})
    assert (preview["issuing_date"], preview["fees_amount_cents"]) == ("2026-02-01", 3600)
    await world.turn("2026-02-01")
    assert amounts(preview) == amounts(await last(world))


async def test_ending_and_changing_a_subscription(world: World) -> None:
    """Usage up to the end; an upgrade at once, with the unused days of the old plan as credit."""
    await a_shop(world)
    await world.a_customer()
    await subscribe(world, "pro")
    await world.turn("2026-01-16")
    await world.use("acme", 50)
    ended = await previewed(
        world, subscriptions={"external_ids": ["s"], "terminated_at": "2026-01-20T12:00:00Z"}
    )
    assert ended["fees_amount_cents"] == 500
    upgraded = await previewed(world, subscriptions={"external_ids": ["s"], "plan_code": "big"})
    await subscribe(world, "big")
    assert amounts(upgraded) == amounts(await last(world))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"plan_code": "pro"}, 404, "customer_not_found"),
        ({"customer": {}, "plan_code": "none"}, 404, "plan_not_found"),
        ({"customer": {}}, 422, "validation_errors"),
        ({"customer": {}, "plan_code": "pro", "coupons": [{"code": "none"}]}, 404, "coupon_not_found"),
        ({"subscriptions": {"external_ids": ["none"]}}, 404, "subscription_not_found"),
        (
            {"subscriptions": {"external_ids": ["s"], "terminated_at": "2025-01-01T00:00:00Z"}},
            422,
            "validation_errors",
        ),
        (
            {"subscriptions": {"external_ids": ["s"], "terminated_at": "2026-03-01T00:00:00Z"}},
            422,
            "validation_errors",
        ),
        (
            {"customer": {"external_id": "zz"}, "subscriptions": {"external_ids": ["s"]}},
            404,
            "subscription_not_found",
        ),
        ({"customer": {}, "plan_code": "pro", "coupons": {}}, 422, "validation_errors"),
    ],
)
async def test_what_cannot_be_previewed_is_told(
    world: World, body: dict[str, object], status: int, code: str
) -> None:
    await a_shop(world)
    await world.a_customer()
    await subscribe(world, "pro")
    answer = await world.call("POST", PREVIEW, body)
    assert (answer.status, answer.code) == (status, code), answer.body
