"""Progressive billing, told in dates: usage is invoiced at thresholds, and the period's invoice charges the rest."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.catalog.model import UsageThreshold
from nozle_server.core.ids import new_id
from nozle_server.invoicing.progressive import crossed
from world import World, audit, instant

pytestmark = pytest.mark.database

PROGRESSIVE, PERIOD = "progressive_billing", "subscription"


def charge(model: str = "standard", properties: object = None, **more: Any) -> dict[str, Any]:
    return {
        "billable_metric_code": "tokens",
        "charge_model": model,
        "properties": properties or {"amount": "1"},
        **more,
    }


def thresholds(*cents: int, recurring: int | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"amount_cents": one, "threshold_display_name": f"{one}"} for one in cents]
    return [*found, {"amount_cents": recurring, "recurring": True}] if recurring else found


async def subscriber(
    world: World, *cents: int, recurring: int | None = None, how: str = "sum_agg", **plan: Any
) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(how=how)
    await world.a_plan(
        usage_thresholds=thresholds(*cents, recurring=recurring), **{"charges": [charge()], **plan}
    )
    await world.a_customer()
    await world.assign("acme", "pro", "s1")


async def invoices(world: World) -> list[tuple[str, int, int, int]]:
    """(type, fees, what progressive invoices had charged, total) of the customer's invoices, oldest first."""
    found = (await world.get("/core/api/v1/invoices", external_customer_id="acme", per_page=100))["invoices"]
    return [
        (
            one["invoice_type"],
            one["fees_amount_cents"],
            one["progressive_billing_credit_amount_cents"],
            one["total_amount_cents"],
        )
        for one in reversed(found)
    ]


async def reached(world: World) -> list[int]:
    rows = await world.fetch(
        "select amount_cents from reached_thresholds where org_id = $1 order by reached_at, amount_cents"
    )
    return [int(row["amount_cents"]) for row in rows]


async def test_a_threshold_is_invoiced_at_once_and_the_period_charges_the_rest(world: World) -> None:
    await subscriber(world, 1000, amount_cents=500)
    await world.at("2026-01-10").use("acme", 9)
    await world.at("2026-01-11").use("acme", 3)
    await world.turn("2026-01-11")
    assert await invoices(world) == [(PROGRESSIVE, 1200, 0, 1200)]
    await world.at("2026-01-20").use("acme", 8)
    await world.turn("2026-02-01")
    assert (await invoices(world))[1:] == [(PERIOD, 500 + 2000, 1200, 500 + 800)]
    await audit(world)


async def test_usage_below_the_threshold_is_not_invoiced(world: World) -> None:
    await subscriber(world, 1000)
    await world.at("2026-01-10").use("acme", 9)
    await world.turn("2026-01-31")
    assert await invoices(world) == []
    assert await reached(world) == []


async def test_reaching_a_threshold_exactly_counts(world: World) -> None:
    await subscriber(world, 1000)
    await world.at("2026-01-10").use("acme", 10)
    await world.turn("2026-01-10")
    assert await invoices(world) == [(PROGRESSIVE, 1000, 0, 1000)]


async def test_several_thresholds_in_a_period_charge_what_came_after_the_one_before(world: World) -> None:
    await subscriber(world, 1000, 2000)
    for day in range(10, 16):
        await world.at(f"2026-01-{day}").use("acme", 5)
    await world.turn("2026-02-01")
    assert await invoices(world) == [
        (PROGRESSIVE, 1000, 0, 1000),
        (PROGRESSIVE, 2000, 1000, 1000),
        (PERIOD, 3000, 2000, 1000),
    ]
    assert await reached(world) == [1000, 2000]
    await audit(world)


async def test_thresholds_jumped_at_once_make_one_invoice(world: World) -> None:
    await subscriber(world, 1000, 2000, recurring=500)
    await world.at("2026-01-10").use("acme", 33)
    await world.turn("2026-01-11")
    assert await invoices(world) == [(PROGRESSIVE, 3300, 0, 3300)]
    assert await reached(world) == [1000, 2000, 3000]
    await audit(world)


async def test_a_recurring_threshold_is_reached_again_and_again_over_periods(world: World) -> None:
    await subscriber(world, 1000, recurring=500)
    for when, n in (("2026-01-10", 10), ("2026-01-20", 4), ("2026-02-10", 1), ("2026-02-20", 6)):
        await world.at(when).use("acme", n)
    await world.turn("2026-03-01")
    assert await invoices(world) == [
        (PROGRESSIVE, 1000, 0, 1000),
        (PERIOD, 1400, 1000, 400),
        (PROGRESSIVE, 100, 0, 100),
        (PROGRESSIVE, 700, 100, 600),
        (PERIOD, 700, 700, 0),
    ]
    assert await reached(world) == [1000, 1500, 2000]
    await audit(world)


async def test_lifetime_usage_counts_what_was_used_before_it_came_here(world: World) -> None:
    await subscriber(world, 1000)
    path = "/core/api/v1/subscriptions/s1/lifetime_usage"
    body = {"lifetime_usage": {"external_historical_usage_amount_cents": 900}}
    assert (await world.call("PUT", path, body)).status == 200
    await world.at("2026-01-10").use("acme", 2)
    await world.turn("2026-01-10")
    assert await invoices(world) == [(PROGRESSIVE, 200, 0, 200)]
    usage = (await world.get(path))["lifetime_usage"]
    assert (usage["current_usage_amount_cents"], usage["usage_thresholds"][0]["completion_ratio"]) == (200, 1)


async def test_the_plan_of_a_subscription_may_have_thresholds_of_its_own(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[charge()])
    await world.a_customer()
    await world.assign("acme", "pro", "s1", plan_overrides={"usage_thresholds": thresholds(300)})
    await world.use("acme", 3)
    await world.turn("2026-01-02")
    assert await invoices(world) == [(PROGRESSIVE, 300, 0, 300)]


async def test_a_repeated_event_and_another_look_invoice_nothing_again(world: World) -> None:
    await subscriber(world, 1000)
    for _ in range(3):
        await world.use("acme", 10, id="same")
        await world.turn("2026-01-02")
    await world.use("acme", 1)
    await world.turn("2026-01-03")
    assert await invoices(world) == [(PROGRESSIVE, 1000, 0, 1000)]
    await audit(world)


async def test_events_at_once_reach_a_threshold_once(world: World) -> None:
    await subscriber(world, 1000)
    await asyncio.gather(*(world.use("acme", 3) for _ in range(6)))
    await asyncio.gather(world.turn("2026-01-02"), world.turn("2026-01-02"))
    assert await invoices(world) == [(PROGRESSIVE, 1800, 0, 1800)]
    await audit(world)


async def test_what_became_cheaper_is_given_back_before_the_period_is_invoiced(world: World) -> None:
    volume = {
        "volume_ranges": [
            {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
            {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
        ]
    }
    await subscriber(world, 1000, charges=[charge("volume", volume)], amount_cents=500)
    await world.at("2026-01-10").use("acme", 10)
    await world.at("2026-01-11").use("acme", 2)
    await world.turn("2026-02-01")
    # 10.00 were charged, 12 units cost 6.00: 4.00 come back, and pay a part of the fee.
    assert await invoices(world) == [(PROGRESSIVE, 1000, 0, 1000), (PERIOD, 500 + 600, 600, 100)]
    [note] = (await world.get("/core/api/v1/credit_notes"))["credit_notes"]
    assert (note["total_amount_cents"], note["balance_amount_cents"]) == (400, 0)
    await audit(world)


async def test_taxes_and_coupons_are_taken_on_what_each_invoice_charges(world: World) -> None:
    await world.turn("2026-01-01")
    tax = {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    await subscriber(world, 1000)
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
    await world.at("2026-01-10").use("acme", 10)
    await world.at("2026-01-20").use("acme", 5)
    await world.turn("2026-02-01")
    assert await invoices(world) == [(PROGRESSIVE, 1000, 0, 1080), (PERIOD, 1500, 1000, 540)]
    await audit(world)


async def test_with_grace_the_draft_takes_off_what_was_charged_and_so_does_the_final_invoice(
    world: World,
) -> None:
    await subscriber(world, 1000)
    customer = {"external_id": "acme", "billing_configuration": {"invoice_grace_period": 3}}
    await world.post("/core/api/v1/customers", {"customer": customer})
    await world.at("2026-01-10").use("acme", 12)
    await world.turn("2026-02-01")
    assert await invoices(world) == [(PROGRESSIVE, 1200, 0, 1200), (PERIOD, 1200, 1200, 0)]
    await world.use("acme", 4, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-02-05")
    assert (await invoices(world))[1] == (PERIOD, 1600, 1200, 400)
    await audit(world)


async def test_a_wallet_of_one_metric_pays_no_more_than_what_is_left_of_its_usage(world: World) -> None:
    """What a progressive invoice charged of the metric is not paid again, in place of the plan's fee, by its wallet."""
    await subscriber(world, 1000, amount_cents=500)
    await world.at("2026-01-10").use("acme", 12)
    await world.turn("2026-01-11")
    limits = {"billable_metric_codes": ["tokens"]}
    await world.a_wallet(granted_credits="50", applies_to=limits)
    await world.at("2026-01-20").use("acme", 3)
    await world.turn("2026-02-01")
    found = (await world.get("/core/api/v1/invoices", external_customer_id="acme"))["invoices"][0]
    assert (found["invoice_type"], found["fees_amount_cents"]) == (PERIOD, 500 + 1500)
    assert (found["prepaid_credit_amount_cents"], found["total_amount_cents"]) == (300, 500)
    await audit(world)


async def test_a_voided_progressive_invoice_is_charged_by_the_period_again(world: World) -> None:
    await subscriber(world, 1000)
    await world.at("2026-01-10").use("acme", 10)
    await world.turn("2026-01-11")
    [invoice] = (await world.get("/core/api/v1/invoices"))["invoices"]
    voided = await world.call("POST", f"/core/api/v1/invoices/{invoice['lago_id']}/void", {})
    assert voided.status == 200
    await world.turn("2026-02-01")
    assert (await invoices(world))[1] == (PERIOD, 1000, 0, 1000)
    await audit(world)


async def test_charges_in_advance_and_minimums_are_not_invoiced_progressively(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(code="other")
    other = charge(pay_in_advance=True) | {"billable_metric_code": "other"}
    await subscriber(world, 1000, charges=[charge(min_amount_cents=5000), other])
    await world.use("acme", 2, code="other")
    await world.use("acme", 10)
    await world.turn("2026-02-01")
    assert await invoices(world) == [
        (PERIOD, 200, 0, 200),
        (PROGRESSIVE, 1000, 0, 1000),
        (PERIOD, 5000, 1000, 4000),
    ]
    await audit(world)


async def test_the_end_of_a_subscription_charges_the_rest(world: World) -> None:
    await subscriber(world, 1000)
    await world.at("2026-01-10").use("acme", 12)
    await world.at("2026-01-20").use("acme", 3)
    await world.turn("2026-01-21")
    assert (await world.call("DELETE", "/core/api/v1/subscriptions/s1")).status == 200
    assert (await invoices(world))[-1] == (PERIOD, 1500, 1200, 300)
    await audit(world)


async def test_late_usage_of_a_progressively_billed_period_is_corrected_once(world: World) -> None:
    await subscriber(world, 1000)
    await world.at("2026-01-10").use("acme", 12)
    await world.turn("2026-02-01")
    await world.at("2026-02-10").use("acme", 4, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-03-01")
    assert (await invoices(world))[-1] == (PERIOD, 400, 0, 400)
    await audit(world)


async def test_a_wallet_pays_progressive_invoices_and_is_not_to_pay_their_usage_again(world: World) -> None:
    await subscriber(world, 1000)
    wallet = await world.a_wallet(granted_credits="50")
    await world.at("2026-01-10").use("acme", 12)
    await world.at("2026-01-11").use("acme", 3)
    shown = (await world.get(f"/core/api/v1/wallets/{wallet['lago_id']}"))["wallet"]
    assert (shown["balance_cents"], shown["ongoing_usage_balance_cents"]) == (3800, 300)
    await world.turn("2026-02-01")
    shown = (await world.get(f"/core/api/v1/wallets/{wallet['lago_id']}"))["wallet"]
    assert shown["balance_cents"] == 3500
    await audit(world)


async def test_reaching_a_threshold_is_told(world: World) -> None:
    await subscriber(world, 1000)
    await world.use("acme", 10)
    await world.turn("2026-01-02")
    [told] = await world.fetch(
        "select payload from outbox where org_id = $1 and kind = 'subscription.usage_threshold_reached'"
    )
    assert told["payload"]["usage_threshold"]["amount_cents"] == 1000


MODELS: list[tuple[str, dict[str, Any]]] = [
    ("standard", {"amount": "0.333"}),
    (
        "volume",
        {
            "volume_ranges": [
                {"from_value": 0, "to_value": 20, "per_unit_amount": "1", "flat_amount": "0"},
                {"from_value": 21, "to_value": None, "per_unit_amount": "0.4", "flat_amount": "1"},
            ]
        },
    ),
    ("package", {"amount": "5", "free_units": 3, "package_size": 4}),
]


@pytest.mark.parametrize(("model", "properties"), MODELS)
@pytest.mark.parametrize("walk", [(5, 9, 1, 14, 3), (1, 1, 20, 1), (30,), (2, 3, 4, 5, 6, 7)])
async def test_the_invoices_of_a_period_come_to_what_one_would_have(
    world: World, model: str, properties: dict[str, Any], walk: tuple[int, ...]
) -> None:
    """The law: all that was charged, less what was given back, is the price of the period's usage."""
    await subscriber(world, 300, 700, recurring=400, charges=[charge(model, properties)])
    for day, n in enumerate(walk, start=10):
        await world.at(f"2026-01-{day}").use("acme", n)
    await world.turn("2026-02-01")
    rows = await world.fetch(
        """select (select coalesce(sum(sub_total_excluding_taxes_amount_cents), 0) from invoices where org_id = $1)
            - (select coalesce(sum(sub_total_excluding_taxes_amount_cents), 0) from credit_notes where org_id = $1)
            as charged"""
    )
    last = (await invoices(world))[-1]
    assert last[0] == PERIOD
    assert int(rows[0]["charged"]) == last[1]
    await audit(world)


@given(
    fixed=st.sets(st.integers(min_value=1, max_value=50), max_size=3),
    repeat=st.none() | st.integers(min_value=1, max_value=20),
    steps=st.lists(st.integers(min_value=0, max_value=60), max_size=8),
)
def test_every_threshold_is_crossed_once_whatever_the_steps(
    fixed: set[int], repeat: int | None, steps: list[int]
) -> None:
    """In however many steps usage grows, each fixed threshold below it is crossed once, and the last repeat is among
    those of the ones that repeat."""
    given_ones = [a_threshold(one) for one in sorted(fixed)]
    given_ones += [a_threshold(repeat, recurring=True)] if repeat else []
    total, found = 0, []
    for step in steps:
        found += crossed(given_ones, total, total + step)
        total += step
    once = [one.amount_cents for one in found if not one.threshold.recurring]
    assert once == [one for one in sorted(fixed) if one <= total]
    repeats = [one.amount_cents for one in found if one.threshold.recurring]
    assert repeats == sorted(set(repeats))
    last = max(fixed, default=0)
    if repeat and total >= last + repeat:
        assert repeats[-1] == last + (total - last) // repeat * repeat
    else:
        assert not repeats


def a_threshold(cents: int, *, recurring: bool = False) -> UsageThreshold:
    return UsageThreshold(new_id(), cents, None, recurring, instant("2026-01-01"))
