"""Coupons and taxes on real invoices, told in dates through the API."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database


async def a_tax(world: World, code: str, rate: object, **more: object) -> None:
    await world.post("/core/api/v1/taxes", {"tax": {"code": code, "name": code, "rate": rate, **more}})


async def give(world: World, code: str, **terms: object) -> None:
    """A coupon for acme, forever unless it says otherwise."""
    wanted = {"code": code, "name": code, "frequency": "forever", "expiration": "no_expiration", **terms}
    await world.post("/core/api/v1/coupons", {"coupon": wanted})
    given = {"external_customer_id": "acme", "coupon_code": code}
    await world.post("/core/api/v1/applied_coupons", {"applied_coupon": given})


async def amounts(world: World) -> tuple[int, int, int, int]:
    """(fees, coupons, taxes, total) of the customer's latest invoice."""
    [invoice, *_] = (await world.get("/core/api/v1/invoices", external_customer_id="acme"))["invoices"]
    parts = ("fees_amount_cents", "coupons_amount_cents", "taxes_amount_cents", "total_amount_cents")
    fees, coupons, taxes, total = (invoice[part] for part in parts)
    return fees, coupons, taxes, total


def percent(rate: str, **more: object) -> dict[str, Any]:
    return {"coupon_type": "percentage", "percentage_rate": rate, **more}


def fixed(cents: int, **more: object) -> dict[str, Any]:
    return {"coupon_type": "fixed_amount", "amount_cents": cents, "amount_currency": "USD", **more}


@pytest.fixture
async def acme(world: World) -> World:
    """A customer who pays 10.00 in arrears each month and a cent a token, with 20 % tax for everybody."""
    await world.turn("2026-01-01")
    await a_tax(world, "vat", "20", applied_to_organization=True)
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    return world


async def test_taxes_are_on_what_coupons_leave(acme: World) -> None:
    """https://getlago.com/docs/guide/coupons: the coupon comes off before tax."""
    await give(acme, "tenth", **percent("10"))
    await acme.turn("2026-02-01")
    assert await amounts(acme) == (1000, 100, 180, 1080)


async def test_a_coupon_for_a_metric_leaves_the_fee_alone(acme: World) -> None:
    await give(acme, "tokens off", **fixed(5000, applies_to={"billable_metric_codes": ["tokens"]}))
    await give(acme, "half", **percent("50"))
    await acme.use("acme", 600)
    await acme.turn("2026-02-01")
    assert await amounts(acme) == (1600, 600 + 500, 100, 600)


async def test_a_fixed_amount_runs_down_over_months(acme: World) -> None:
    """25.00 once on invoices of 10.00: two months and a half are free, without tax."""
    await give(acme, "start", **fixed(2500, frequency="once"))
    seen = []
    for month in ("02", "03", "04", "05"):
        await acme.turn(f"2026-{month}-01")
        seen.append(await amounts(acme))
    assert seen == [(1000, 1000, 0, 0), (1000, 1000, 0, 0), (1000, 500, 100, 600), (1000, 0, 200, 1200)]
    [applied] = (await acme.get("/core/api/v1/applied_coupons"))["applied_coupons"]
    assert (applied["status"], applied["amount_cents_remaining"]) == ("terminated", 0)
    assert [credit["amount_cents"] for credit in applied["credits"]] == [1000, 1000, 500]


async def test_a_recurring_coupon_is_for_so_many_months(acme: World) -> None:
    await give(acme, "two months", **percent("25", frequency="recurring", frequency_duration=2))
    seen = []
    for month in ("02", "03", "04"):
        await acme.turn(f"2026-{month}-01")
        seen.append((await amounts(acme))[1])
    assert seen == [250, 250, 0]


async def test_a_deleted_tax_is_on_no_further_invoice(acme: World) -> None:
    """A new rate, a second tax, and none: each from the next invoice on."""
    await acme.call("PUT", "/core/api/v1/taxes/vat", {"tax": {"rate": "7.25"}})
    await acme.turn("2026-02-01")
    assert await amounts(acme) == (1000, 0, 73, 1073)
    await a_tax(acme, "city", "1.2", applied_to_organization=True)
    await acme.turn("2026-03-01")
    assert await amounts(acme) == (1000, 0, 85, 1085)
    for code in ("vat", "city"):
        await acme.call("DELETE", f"/core/api/v1/taxes/{code}")
    await acme.turn("2026-04-01")
    assert await amounts(acme) == (1000, 0, 0, 1000)
