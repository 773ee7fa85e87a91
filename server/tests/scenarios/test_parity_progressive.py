"""Progressive billing: what a threshold bills while the month runs, and what the month takes off; figures of Lago's
scenarios."""

from typing import Any, NamedTuple

import pytest

from parity import Bill, a_coupon, a_tax, assert_bills, end, standard, start
from world import World, audit

pytestmark = pytest.mark.database


class Progress(NamedTuple):
    told: str
    thresholds: list[dict[str, Any]]
    events: list[tuple[str, int]]
    bills: list[Bill]
    ends: str | None = None


def threshold(cents: int, **more: object) -> dict[str, Any]:
    return {"amount_cents": cents, **more}


PROGRESS = [
    # golden/b05
    Progress("passed", [threshold(2000)], [("05", 30)],
             [{"total": 3000}, {"fees": 3000, "progressive": 3000, "total": 0}]),
    Progress("just reached", [threshold(3000)], [("05", 30)],
             [{"total": 3000}, {"fees": 3000, "progressive": 3000, "total": 0}]),
    Progress("that comes again", [threshold(2000, recurring=True)], [("05", 30)],
             [{"total": 3000}, {"fees": 3000, "progressive": 3000, "total": 0}]),
    Progress("two, one after the other", [threshold(2000), threshold(5000)], [("05", 30), ("12", 50)],
             [{"total": 3000}, {"fees": 8000, "progressive": 3000, "total": 5000},
              {"fees": 8000, "progressive": 8000, "total": 0}]),
    Progress("that came again", [threshold(2000, recurring=True)], [("05", 30), ("12", 30)],
             [{"total": 3000}, {"fees": 6000, "progressive": 3000, "total": 3000},
              {"fees": 6000, "progressive": 6000, "total": 0}]),
    Progress("before the end", [threshold(5000)], [("05", 100)],
             [{"total": 10_000}, {"fees": 10_000, "progressive": 10_000, "total": 0}], ends="2024-03-16T10:00"),
]  # fmt: skip


@pytest.mark.parametrize("progress", PROGRESS, ids=lambda progress: progress.told)
async def test_a_threshold_bills_what_was_used_and_the_month_takes_it_off(
    world: World, progress: Progress
) -> None:
    await world.turn("2024-03-01")
    await world.a_metric()
    await world.a_plan(charges=[standard()], usage_thresholds=progress.thresholds)
    await world.a_customer()
    await start(world, "2024-03-01")
    for day, amount in progress.events:
        await world.at(f"2024-03-{day}T10:00").use("acme", amount)
        await world.turn(f"2024-03-{day}T11:00")
    if progress.ends is not None:
        await end(world, progress.ends)
    await world.turn("2024-04-01T01:00")
    await assert_bills(world, progress.bills)
    await audit(world)


async def test_what_a_threshold_billed_is_not_taxed_again(world: World) -> None:
    """golden/b15: 150.00 less 100.00 billed before; 20 % on the rest."""
    await world.turn("2024-03-01")
    await a_tax(world, "20")
    await world.a_metric()
    await world.a_plan(amount_cents=5000, charges=[standard()], usage_thresholds=[threshold(5000)])
    await world.a_customer()
    await start(world, "2024-03-01")
    await world.at("2024-03-05T10:00").use("acme", 100)
    await world.turn("2024-04-01T01:00")
    await assert_bills(
        world,
        [
            {"total": 12_000},
            {"fees": 15_000, "progressive": 10_000, "before_tax": 5000, "taxes": 1000, "total": 6000},
        ],
    )
    await audit(world)


async def test_a_coupon_is_used_by_the_first_invoice_of_a_month(world: World) -> None:
    """coupons_breakdown_spec: the month takes off the usage that a threshold billed, coupon and all, so that what the coupon
    gave stays given: 100.00 less 30.00 at the threshold, then 150.00 less 100.00. (golden/b15 tells of a
    release that takes off 70.00, so that the coupon gives nothing.)"""
    await world.turn("2024-03-01")
    await world.a_metric()
    await world.a_plan(amount_cents=5000, charges=[standard()], usage_thresholds=[threshold(5000)])
    await world.a_customer()
    await a_coupon(world, amount_cents=3000)
    await start(world, "2024-03-01")
    await world.at("2024-03-05T10:00").use("acme", 100)
    await world.turn("2024-04-01T01:00")
    await assert_bills(
        world,
        [
            {"fees": 10_000, "coupons": 3000, "total": 7000},
            {"fees": 15_000, "coupons": 0, "progressive": 10_000, "total": 5000},
        ],
    )
    await audit(world)


async def test_an_upgrade_settles_what_a_threshold_billed(world: World) -> None:
    """golden/b09/upgrade/arrears: 100.00 at the old price, billed once, though the new plan's is twice as high."""
    await world.turn("2024-04-01")
    await world.a_metric()
    await world.a_plan(code="a", charges=[standard("1")], usage_thresholds=[threshold(5000)])
    await world.a_plan(code="b", charges=[standard("2")])
    await world.a_customer()
    await start(world, "2024-04-01", "a")
    await world.at("2024-04-05T10:00").use("acme", 100)
    await world.turn("2024-04-05T11:00")
    await start(world, "2024-04-16T10:00", "b")
    await assert_bills(world, [{"total": 10_000}, {"fees": 10_000, "progressive": 10_000, "total": 0}])
    await audit(world)


async def test_one_coupon_over_charges_in_advance_and_thresholds(world: World) -> None:
    """coupons_breakdown_spec: 100.00 off pays 65.00 in January: three events of 5.00, a threshold and the month."""
    await world.turn("2025-01-01")
    await world.a_metric(code="units")
    await world.a_plan(code="advance", charges=[standard("1", "units", pay_in_advance=True)])
    steps = [threshold(2000), threshold(5000)]
    await world.a_plan(
        code="progress", amount_cents=2000, charges=[standard("1", "units")], usage_thresholds=steps
    )
    await world.a_customer()
    await a_coupon(world, amount_cents=10_000)
    for plan in ("advance", "progress"):
        await start(world, "2025-01-01", plan, plan)
    for day in ("06", "11", "16"):
        for plan, units in (("advance", 5), ("progress", 10)):
            event = {"code": "units", "transaction_id": f"{plan} {day}", "external_subscription_id": plan}
            await world.at(f"2025-01-{day}").post(
                "/api/v1/events", {"event": {**event, "properties": {"n": units}}}
            )
        await world.turn(f"2025-01-{day}T01:00")
    await world.turn("2025-02-01")
    each: Bill = {"fees": 500, "coupons": 500, "total": 0}
    await assert_bills(
        world,
        [
            each,
            each,
            {"fees": 2000, "coupons": 2000, "total": 0},
            each,
            {"fees": 5000, "progressive": 2000, "coupons": 3000, "total": 0},
        ],
    )
    await audit(world)
