"""One rule says which taxes a line pays, on bills and in usage that is only shown."""

import pytest

from world import World

pytestmark = pytest.mark.database


async def test_a_charge_whose_tax_is_gone_pays_its_plans_and_not_the_organizations(world: World) -> None:
    """Of 100.00: 20 % of the charge's own tax, and once that is deleted 10 % of the plan's, shown and billed alike."""
    await world.turn("2026-01-01")
    for code, rate, everywhere in (("own", "20", False), ("plan", "10", False), ("all", "5", True)):
        tax = {"code": code, "name": code, "rate": rate, "applied_to_organization": everywhere}
        await world.post("/core/api/v1/taxes", {"tax": tax})
    await world.a_metric()
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "tax_codes": ["own"],
    }
    await world.a_plan(charges=[charge], tax_codes=["plan"])
    await world.a_customer()
    subscription = await world.subscribe("acme", "pro")
    for month, cents in ((1, 2000), (2, 1000)):
        await world.use("acme", 100)
        usage = await world.get(
            "/core/api/v1/customers/acme/current_usage", external_subscription_id=subscription
        )
        assert usage["customer_usage"]["taxes_amount_cents"] == cents
        await world.turn(f"2026-0{month + 1}-01")
        assert (await world.last_invoice("acme"))["total_amount_cents"] == 10000 + cents
        await world.call("DELETE", "/core/api/v1/taxes/own")
