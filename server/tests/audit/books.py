"""A merchant with something of everything that the auditor reads, all of it right."""

from typing import Any

from world import World

CORE = "/core/api/v1"


async def keep_books(world: World) -> None:
    """Two months of a customer: credits, a wallet, usage of every kind, progressive and ordinary invoices, payments, a coupon,
    a tax, credit notes, fees in advance."""
    await world.turn("2026-01-01")
    await _sell(world)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.grant("acme", "40", expires_at="2026-01-20T00:00:00Z")
    await world.grant("acme", "60")
    assert (await world.deduct("acme", "0.1", idempotency_key="deduct 1"))[0]
    assert not (await world.deduct("acme", 500, idempotency_key="deduct 2"))[0]
    await world.a_wallet(granted_credits="3")
    bought = await world.a_wallet(code="bought", paid_credits="2")
    await _use(world)
    await world.turn("2026-02-03")
    invoices = await _invoices(world)
    await _pay(world, next(one for one in invoices if one["invoice_type"] == "credit"))
    period = next(one for one in reversed(invoices) if one["invoice_type"] == "subscription")
    await _pay(world, period, 900)
    fee = next(one for one in period["fees"] if one["amount_cents"] >= 400)
    for cents in (200, 100):
        await _take_back(world, period, fee, cents)
    await world.use("acme", 70)
    void = {"wallet_id": bought["lago_id"], "voided_credits": "0.5"}
    await world.post(f"{CORE}/wallet_transactions", {"wallet_transaction": void})
    await world.turn("2026-03-03")


async def _sell(world: World) -> None:
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post(f"{CORE}/taxes", {"tax": tax})
    for code, how, more in (
        ("tokens", "sum_agg", {}),
        ("calls", "count_agg", {}),
        ("peak", "max_agg", {}),
        ("level", "latest_agg", {}),
        ("users", "unique_count_agg", {}),
        ("seats", "sum_agg", {"recurring": True}),
    ):
        await world.a_metric(code=code, how=how, **more)
    price: dict[str, Any] = {"charge_model": "standard", "properties": {"amount": "0.1"}}
    charges = [
        {**price, "billable_metric_code": "tokens"},
        {**price, "billable_metric_code": "calls", "pay_in_advance": True},
        *({**price, "billable_metric_code": code} for code in ("peak", "level", "users", "seats")),
    ]
    await world.a_plan(
        amount_cents=1000, charges=charges, credits=10, usage_thresholds=[{"amount_cents": 1500}]
    )
    await world.a_cost_model(cost_type="per_unit", amount_cents="0.01")
    coupon = {
        "code": "welcome",
        "name": "Welcome",
        "coupon_type": "fixed_amount",
        "amount_cents": 300,
        "amount_currency": "USD",
        "frequency": "recurring",
        "frequency_duration": 2,
        "expiration": "no_expiration",
    }
    await world.post(f"{CORE}/coupons", {"coupon": coupon})


async def _use(world: World) -> None:
    given = {"external_customer_id": "acme", "coupon_code": "welcome"}
    await world.post(f"{CORE}/applied_coupons", {"applied_coupon": given})
    for code in ("tokens", "calls", "peak", "level", "users", "seats"):
        for n in (20, 30, 10):
            await world.use("acme", n, code=code, id=f"{code} {n}")
    await world.use("nobody", 1, id="nobody's")
    await world.at("2026-01-10").use("acme", 200, id="much")


async def _invoices(world: World) -> list[dict[str, Any]]:
    found = await world.fetch("select id from invoices where org_id = $1 order by id")
    return [(await world.get(f"{CORE}/invoices/{one['id']}"))["invoice"] for one in found]


async def _pay(world: World, invoice: dict[str, Any], cents: int | None = None) -> None:
    wanted = {"invoice_id": invoice["lago_id"], "amount_cents": cents or invoice["total_due_amount_cents"]}
    await world.post(f"{CORE}/payments", {"payment": wanted})


async def _take_back(world: World, invoice: dict[str, Any], fee: dict[str, Any], cents: int) -> None:
    items = [{"fee_id": fee["lago_id"], "amount_cents": cents}]
    wanted = {"invoice_id": invoice["lago_id"], "items": items}
    estimated = await world.post(f"{CORE}/credit_notes/estimate", {"credit_note": wanted})
    credit = estimated["estimated_credit_note"]["max_creditable_amount_cents"]
    await world.post(
        f"{CORE}/credit_notes", {"credit_note": {**wanted, "credit_amount_cents": credit, "reason": "other"}}
    )
