"""Periods that end at one instant are closed and invoiced in batches: nobody can tell, except by the time it takes."""

from typing import Any

import pytest

from nozle_server.infra.database import Tx
from nozle_server.infra.postgres_usage import PostgresUsageStore
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import UsageQuery, UsageRow
from nozle_server.workflows import drain_due
from world import World, audit, instant

pytestmark = pytest.mark.database

CUSTOMERS = 12
CHARGES = [
    {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.0125"}},
    {
        "billable_metric_code": "tokens",
        "charge_model": "percentage",
        "properties": {"rate": "1.5", "fixed_amount": "0.1", "free_units_per_events": 1},
    },
]


async def a_month(world: World) -> None:
    """Customers of all kinds: with a coupon, a wallet, taxes of their own, two subscriptions, a last period, late usage."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=CHARGES)
    await world.a_plan(code="extra", amount_cents=700, charges=CHARGES[:1])
    await world.a_plan(code="euro", amount_cents=900, amount_currency="EUR")
    await world.post("/core/api/v1/taxes", {"tax": {"code": "vat", "name": "VAT", "rate": "20"}})
    coupon = {"code": "ten", "name": "Ten", "coupon_type": "percentage", "percentage_rate": "10"}
    more = {"frequency": "forever", "expiration": "no_expiration"}
    await world.post("/core/api/v1/coupons", {"coupon": {**coupon, **more}})
    for n in range(CUSTOMERS):
        name = f"customer-{n:02}"
        await world.a_customer(name, **({"tax_codes": ["vat"]} if n % 4 == 1 else {}))
        await world.subscribe(name, "euro" if n == 11 else "pro")
        if n in (3, 7):
            wanted = {"external_customer_id": name, "plan_code": "extra", "external_id": f"{name}-extra"}
            await world.post("/core/api/v1/subscriptions", {"subscription": wanted})
        if n in (2, 7):
            given = {"external_customer_id": name, "coupon_code": "ten"}
            await world.post("/core/api/v1/applied_coupons", {"applied_coupon": given})
        if n in (4, 7):
            await world.a_wallet(name, granted_credits="5")
        for _ in range(n % 3):
            await world.use(name, 17 * n)


async def bills(world: World) -> list[Any]:
    """Everything that the invoices say but their ids."""
    found = []
    for n in range(CUSTOMERS):
        for one in await world.invoices(f"customer-{n:02}"):
            kept = (
                "number",
                "status",
                "currency",
                "amount",
                "tax",
                "issuing_date",
                "period_start",
                "period_end",
            )
            lines = [(line["description"], line["units"], line["amount_cents"]) for line in one["lines"]]
            found.append(({name: one[name] for name in kept if name in one}, lines))
    return found


async def test_in_batches_everybody_gets_the_invoices_they_get_one_by_one(
    world: World, other_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers included, over three months, whoever has a coupon, a wallet, taxes or several subscriptions."""
    await a_month(world)
    await a_month(other_world)
    for month in ("2026-02-01", "2026-03-01", "2026-04-01"):
        await world.turn(month)
        with monkeypatch.context() as patch:
            patch.setattr(drain_due, "MOST_AT_ONCE", 1)
            await other_world.turn(month)
    together, one_by_one = await bills(world), await bills(other_world)
    assert len(together) == 3 * CUSTOMERS
    assert together == one_by_one
    await audit(world)


async def test_one_absurd_bill_in_a_batch_stops_nobody(world: World) -> None:
    await a_month(world)
    victim = await world.fetch(
        """select s.id from subscriptions s join customers c on c.org_id = s.org_id and c.id = s.customer_id
           where s.org_id = $1 and c.external_id = 'customer-05'"""
    )

    class BrokenUsage(PostgresUsageStore):
        async def usage(self, tx: Tx, org_id: Any, query: UsageQuery) -> list[UsageRow]:
            if any(window.subscription_id == victim[0]["id"] for window in query.windows):
                raise ArithmeticError("a quantity nobody can count")
            return await super().usage(tx, org_id, query)

    seams = world.services.seams
    broken = Seams(seams.event_log, BrokenUsage(), seams.change_bus)
    await drain_due.drain_due(
        world.database, broken, org_id=world.org_id, until=instant("2026-02-01"), turn_clock=True
    )
    invoices = [await world.last_invoice(f"customer-{n:02}") for n in range(CUSTOMERS)]
    assert [one["number"] for one in invoices if one["status"] == "failed"] == ["DRAFT"]
    assert sorted(one["number"] for one in invoices if one["status"] != "failed") == [
        f"INV-{number:03}" for number in range(1, CUSTOMERS)
    ]
    await audit(world)
