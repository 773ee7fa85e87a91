"""Charges that are paid in advance, told in dates: a fee at the event, with an invoice or without."""

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nozle_server.workflows import advance_charges
from world import World, audit

pytestmark = pytest.mark.database

GRADUATED = {
    "graduated_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "2"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
    ]
}


def charge(model: str = "standard", properties: object = None, **more: Any) -> dict[str, Any]:
    return {
        "billable_metric_code": "tokens",
        "charge_model": model,
        "properties": properties or {"amount": "1"},
        "pay_in_advance": True,
        **more,
    }


async def subscriber(world: World, *charges: object, metric: Any = None, **plan: Any) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(**(metric or {}))
    await world.a_plan(charges=list(charges), **plan)
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def fees(world: World) -> list[dict[str, Any]]:
    """All fees of usage, oldest first."""
    found = (await world.get("/core/api/v1/fees", fee_type="charge", per_page=100))["fees"]
    return sorted(found, key=lambda fee: (fee["created_at"], fee["lago_id"]))


async def amounts(world: World) -> list[int]:
    return [fee["amount_cents"] for fee in await fees(world)]


async def pay(world: World, fee: dict[str, Any]) -> None:
    answer = await world.call(
        "PUT", f"/core/api/v1/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}}
    )
    assert answer.status == 200, answer.body


async def types(world: World) -> list[tuple[str, str, int]]:
    """(type, status, total) of the customer's invoices, oldest first."""
    found = (await world.get("/core/api/v1/invoices", external_customer_id="acme", per_page=100))["invoices"]
    return [(one["invoice_type"], one["status"], one["total_amount_cents"]) for one in reversed(found)]


async def test_an_event_is_invoiced_when_it_comes_and_not_when_the_period_ends(world: World) -> None:
    await subscriber(world, charge())
    await world.at("2026-01-10").use("acme", 5, id="e1")
    assert await types(world) == [("subscription", "finalized", 500)]
    [fee] = await fees(world)
    assert (fee["event_transaction_id"], fee["pay_in_advance"], fee["amount_cents"]) == ("e1", True, 500)
    await world.at("2026-01-20").use("acme", 2)
    await world.turn("2026-02-01")
    assert [total for _, _, total in await types(world)] == [500, 200, 0]
    await audit(world)


async def test_a_repeated_event_is_charged_once(world: World) -> None:
    await subscriber(world, charge())
    for _ in range(3):
        await world.use("acme", 5, id="same")
    assert await amounts(world) == [500]
    await audit(world)


async def test_an_event_pays_what_it_adds_to_the_tiers(world: World) -> None:
    await subscriber(world, charge("graduated", GRADUATED))
    for n in (4, 8, 3):
        await world.use("acme", n)
    # 4 + 2 flat; then 6 in the first tier, 2 in the second with its flat amount; then 3 in the second.
    assert await amounts(world) == [600, 1000, 150]
    await audit(world)


async def test_an_invoice_in_advance_has_taxes_coupons_and_wallets_and_no_grace(world: World) -> None:
    await world.turn("2026-01-01")
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}},
    )
    await subscriber(world, charge())
    customer = {"external_id": "acme", "billing_configuration": {"invoice_grace_period": 5}}
    await world.post("/core/api/v1/customers", {"customer": customer})
    coupon = {
        "code": "off",
        "name": "off",
        "coupon_type": "percentage",
        "percentage_rate": "10",
        "frequency": "forever",
        "expiration": "no_expiration",
    }
    await world.post("/core/api/v1/coupons", {"coupon": coupon})
    applied = {"external_customer_id": "acme", "coupon_code": "off"}
    await world.post("/core/api/v1/applied_coupons", {"applied_coupon": applied})
    await world.a_wallet(granted_credits="3")
    await world.use("acme", 10)
    [invoice] = (await world.get("/core/api/v1/invoices"))["invoices"]
    assert (invoice["status"], invoice["coupons_amount_cents"], invoice["taxes_amount_cents"]) == (
        "finalized",
        100,
        180,
    )
    assert (invoice["prepaid_credit_amount_cents"], invoice["total_amount_cents"]) == (300, 780)
    await audit(world)


async def test_a_batch_prices_each_event_in_order(world: World) -> None:
    await subscriber(world, charge("graduated", GRADUATED))
    events = [
        {
            "transaction_id": f"e{n}",
            "external_customer_id": "acme",
            "code": "tokens",
            "properties": {"n": n},
        }
        for n in (4, 8, 3)
    ]
    await world.post("/core/api/v1/events/batch", {"events": events})
    found = {fee["event_transaction_id"]: fee["amount_cents"] for fee in await fees(world)}
    assert found == {"e4": 600, "e8": 1000, "e3": 150}
    await audit(world)


async def test_a_late_event_is_charged_at_once_in_its_own_period(world: World) -> None:
    await subscriber(world, charge("graduated", GRADUATED))
    await world.use("acme", 8)
    await world.turn("2026-02-10")
    await world.use("acme", 4, id="late", timestamp="2026-01-20T00:00:00Z")
    late = next(fee for fee in await fees(world) if fee["event_transaction_id"] == "late")
    assert (late["amount_cents"], late["from_date"][:10]) == (200 + 300 + 100, "2026-01-01")
    await world.turn("2026-03-01")
    assert sum(total for _, _, total in await types(world)) == 1000 + 600
    await audit(world)


async def test_an_event_of_another_metric_or_plan_costs_nothing_in_advance(world: World) -> None:
    await subscriber(world, charge(pay_in_advance=False))
    await world.a_metric(code="other")
    await world.use("acme", 5)
    await world.use("acme", 5, code="other")
    assert await fees(world) == []


async def test_a_fee_without_an_invoice_is_taxed_and_collected_by_the_merchant(world: World) -> None:
    await world.turn("2026-01-01")
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}},
    )
    await subscriber(world, charge(invoiceable=False))
    await world.use("acme", 5)
    [fee] = await fees(world)
    assert (fee["lago_invoice_id"], fee["taxes_amount_cents"], fee["payment_status"]) == (
        None,
        100,
        "pending",
    )
    await pay(world, fee)
    await world.turn("2026-02-01")
    assert await types(world) == [("subscription", "finalized", 0)], "nothing of it is ever invoiced"
    await audit(world)


async def test_paid_fees_are_regrouped_on_one_invoice_when_their_period_ends(world: World) -> None:
    await world.turn("2026-01-01")
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}},
    )
    await subscriber(world, charge(invoiceable=False, regroup_paid_fees="invoice"))
    for n in (5, 7, 9):
        await world.use("acme", n)
    first, second, third = await fees(world)
    await pay(world, first)
    await pay(world, second)
    await world.turn("2026-02-01")
    [invoice] = (await world.get("/core/api/v1/invoices", invoice_type="advance_charges"))["invoices"]
    assert (invoice["fees_amount_cents"], invoice["taxes_amount_cents"]) == (1200, 240)
    assert (invoice["payment_status"], invoice["total_paid_amount_cents"]) == ("succeeded", 1440)
    on_invoice = {fee["lago_id"] for fee in await fees(world) if fee["lago_invoice_id"] == invoice["lago_id"]}
    assert on_invoice == {first["lago_id"], second["lago_id"]}
    await pay(world, third)
    await world.turn("2026-03-01")
    later = (await world.get("/core/api/v1/invoices", invoice_type="advance_charges"))["invoices"]
    assert sorted(one["fees_amount_cents"] for one in later) == [900, 1200]
    await audit(world)


async def test_the_end_of_a_subscription_regroups_what_was_paid_of_its_last_period(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[charge(invoiceable=False, regroup_paid_fees="invoice")])
    await world.a_customer()
    await world.assign("acme", "pro", "s1")
    await world.use("acme", 5)
    await pay(world, (await fees(world))[0])
    await world.turn("2026-01-20")
    assert (await world.call("DELETE", "/core/api/v1/subscriptions/s1")).status == 200
    assert ("advance_charges", "finalized", 500) in await types(world)
    await audit(world)


async def test_two_charges_on_one_metric_are_charged_each(world: World) -> None:
    await subscriber(world, charge(code="a"), charge(code="b", properties={"amount": "3"}, invoiceable=False))
    await world.use("acme", 2)
    assert sorted(await amounts(world)) == [200, 600]
    await audit(world)


async def test_a_filter_and_a_group_are_priced_on_their_own(world: World) -> None:
    metric = {"filters": [{"key": "region", "values": ["eu", "us"]}]}
    filtered = {"properties": {"amount": "10"}, "values": {"region": ["eu"]}}
    await subscriber(
        world,
        charge(properties={"amount": "1", "pricing_group_keys": ["cloud"]}, filters=[filtered]),
        metric=metric,
    )
    await world.use("acme", 2, properties={"region": "eu"})
    await world.use("acme", 2, properties={"region": "us", "cloud": "aws"})
    found = await fees(world)
    assert [fee["amount_cents"] for fee in found] == [2000, 200]
    await audit(world)


async def test_a_seat_is_paid_once_however_often_it_comes_back(world: World) -> None:
    await subscriber(world, charge(properties={"amount": "10"}), metric={"how": "unique_count_agg"})
    for value, operation in (("a", "add"), ("a", "remove"), ("a", "add"), ("b", "add")):
        await world.use("acme", value, properties={"operation_type": operation})
    assert [one for one in await amounts(world) if one] == [1000, 1000]
    await audit(world)


async def test_zero_amounts_are_fees_too_and_invoices_where_they_are_wanted(world: World) -> None:
    await subscriber(world, charge("package", {"amount": "5", "free_units": 10, "package_size": 10}))
    await world.use("acme", 3)
    assert await types(world) == [("subscription", "finalized", 0)]
    changed = {"organization": {"finalize_zero_amount_invoice": False}}
    answer = await world.call("PUT", "/core/api/v1/organizations", changed)
    if answer.status != 200:
        await world.settings(finalize_zero_invoices=False)
    await world.use("acme", 3)
    assert len(await types(world)) == 1, "an invoice of zero that is not wanted is not shown"
    await audit(world)


async def test_events_at_once_are_charged_one_after_the_other(world: World) -> None:
    """Two connections and more: together the events pay what the whole usage costs, whoever comes first."""
    await subscriber(world, charge("graduated", GRADUATED), charge("graduated", GRADUATED, invoiceable=False))
    await asyncio.gather(*(world.use("acme", 3) for _ in range(8)))
    whole = 200 + 1000 + 300 + 14 * 50
    assert sum(await amounts(world)) == 2 * whole
    await audit(world)


async def test_events_at_once_with_a_change_of_plan_lose_nothing(world: World) -> None:
    await subscriber(world, charge())
    await world.a_plan(code="max", amount_cents=100, charges=[charge()])
    advance_charges._charged_at_once.clear()
    await asyncio.gather(
        *(world.use("acme", 1) for _ in range(4)),
        world.change_plan("acme", "max"),
        *(world.use("acme", 1) for _ in range(4)),
    )
    assert sum(fee["units"] != "0.0" for fee in await fees(world) if fee["pay_in_advance"]) == 8
    assert sum(await amounts(world)) == 800
    await audit(world)


@pytest.mark.parametrize(("old", "new"), [(True, True), (True, False), (False, True)])
async def test_an_event_ahead_of_a_change_of_plan_is_paid_once(world: World, old: bool, new: bool) -> None:
    """By the plan that charged it when it came, else by the one that it belongs to."""
    await subscriber(world, charge(pay_in_advance=old))
    price = {"amount": "3"}
    await world.a_plan(code="max", amount_cents=100, charges=[charge(pay_in_advance=new, properties=price)])
    await world.at("2026-01-10").use("acme", 1, timestamp="2026-01-10T20:00:00Z")
    await world.at("2026-01-10T10:00:00Z").change_plan("acme", "max")
    await world.turn("2026-02-01")
    assert [amount for amount in await amounts(world) if amount] == [100 if old else 300]
    await audit(world)


MODELS: list[tuple[str, dict[str, Any]]] = [
    ("standard", {"amount": "0.333"}),
    ("graduated", GRADUATED),
    ("package", {"amount": "5", "free_units": 3, "package_size": 4}),
    ("percentage", {"rate": "1.5", "fixed_amount": "0.2", "free_units_per_events": 1}),
    (
        "graduated_percentage",
        {
            "graduated_percentage_ranges": [
                {"from_value": 0, "to_value": 10, "rate": "5", "flat_amount": "1"},
                {"from_value": 11, "to_value": None, "rate": "2", "flat_amount": "2"},
            ]
        },
    ),
]


@pytest.mark.parametrize(("model", "properties"), MODELS)
async def test_the_events_of_a_period_pay_what_the_period_costs(
    world: World, model: str, properties: dict[str, Any]
) -> None:
    """The law, for random events through the API: exact amounts in advance sum to the exact amount in arrears."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(code="advance", charges=[charge(model, properties)])
    await world.a_plan(code="arrears", charges=[charge(model, properties, pay_in_advance=False)])
    drawn: list[list[int]] = []

    @settings(max_examples=5, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(min_value=1, max_value=15), min_size=1, max_size=6))
    def draw(quantities: list[int]) -> None:
        drawn.append(quantities)

    draw()
    for quantities in drawn:
        name = uuid.uuid4().hex
        for plan in ("advance", "arrears"):
            await world.a_customer(f"{plan}-{name}")
            await world.subscribe(f"{plan}-{name}", plan)
            for place, n in enumerate(quantities):
                await world.use(f"{plan}-{name}", n, id=f"{plan}-{name}-{place:02}")
    await world.turn("2026-02-01")
    rows = await world.fetch(
        """select c.external_id, sum(l.exact_amount_cents) as exact from invoice_lines l
           join customers c on c.org_id = l.org_id and c.id = l.customer_id where l.org_id = $1 group by 1"""
    )
    exact: dict[str, Decimal] = {row["external_id"]: row["exact"] for row in rows}
    assert exact
    for name, amount in exact.items():
        assert amount == exact[name.replace("advance-", "arrears-")], name
    await audit(world)
