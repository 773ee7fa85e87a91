"""What is paid before its period is over: charges in advance; figures of Lago's scenarios."""

from typing import Any, NamedTuple

import pytest

from parity import assert_bills, invoices, ranges, start, usage
from world import World, audit

pytestmark = pytest.mark.database


def advance(name: str, **properties: object) -> dict[str, Any]:
    return {
        "billable_metric_code": "tokens",
        "charge_model": name,
        "properties": properties,
        "pay_in_advance": True,
    }


ONE = advance("standard", amount="1")
TIERS = ranges((0, 10, "2", "100"), (11, None, "1", "50"))


class Paid(NamedTuple):
    """Events on days of March, and what each brings at once; then what 1 April brings."""

    told: str
    how: str
    charge: dict[str, Any]
    events: list[tuple[str, object]]
    cents: list[int]
    lasting: bool = False
    april: int = 0


PAID = [
    # golden/b03
    Paid("a sum", "sum_agg", ONE, [("05", 10)], [1000]),
    Paid("a count", "count_agg", ONE, [("05", 10)], [100]),
    Paid("a user", "unique_count_agg", ONE, [("05", "u1")], [100]),
    Paid("tiers with flat amounts", "sum_agg", advance("graduated", graduated_ranges=TIERS),
         [("05", 10), ("06", 10)], [12_000, 6000]),
    Paid("a package begun", "sum_agg", advance("package", amount="10", free_units=0, package_size=25),
         [("05", 10)], [1000]),
    Paid("a percentage and a fee", "sum_agg", advance("percentage", rate="10", fixed_amount="1"), [("05", 10)], [200]),
    # golden/b16: what lasts is paid for the days that are left, and for whole months from then on.
    Paid("a lasting sum", "sum_agg", {**ONE, "prorated": True}, [("11", 31), ("22", 62)], [2100, 2000],
         lasting=True, april=9300),
    Paid("lasting seats", "unique_count_agg", {**advance("standard", amount="31"), "prorated": True},
         [("11", "seat 1"), ("22", "seat 2"), ("22", "seat 3")], [2100, 1000, 1000], lasting=True, april=9300),
]  # fmt: skip


@pytest.mark.parametrize("paid", PAID, ids=lambda paid: paid.told)
async def test_an_event_costs_at_once_what_it_adds(world: World, paid: Paid) -> None:
    await world.turn("2024-03-01")
    await world.a_metric(how=paid.how, recurring=paid.lasting)
    await world.a_plan(charges=[paid.charge])
    await world.a_customer()
    await start(world, "2024-03-01")
    for day, amount in paid.events:
        await world.at(f"2024-03-{day}T10:00").use("acme", amount)
    await assert_bills(world, [{"total": cents, "charge": [cents]} for cents in paid.cents])
    await world.turn("2024-04-01T01:00")
    await assert_bills(world, [{"total": cents} for cents in [*paid.cents, paid.april]])
    await audit(world)


async def test_a_fee_that_is_never_invoiced(world: World) -> None:
    """golden/b03: settled elsewhere, it is on no invoice."""
    await world.turn("2024-03-01")
    await world.a_metric()
    await world.a_plan(charges=[{**ONE, "invoiceable": False}])
    await world.a_customer()
    await start(world, "2024-03-01")
    await world.at("2024-03-05T10:00").use("acme", 10)
    await world.turn("2024-04-01T01:00")
    await assert_bills(world, [{"total": 0, "charge": []}])
    [fee] = (await world.get("/core/api/v1/fees", fee_type="charge"))["fees"]
    assert fee["amount_cents"] == 1000


async def test_fees_that_were_paid_are_regrouped(world: World) -> None:
    """golden/b03: one invoice of the fees that were paid, beside the period's."""
    await world.turn("2024-03-01")
    await world.a_metric()
    await world.a_plan(charges=[{**ONE, "invoiceable": False, "regroup_paid_fees": "invoice"}])
    await world.a_customer()
    await start(world, "2024-03-01")
    await world.at("2024-03-05T10:00").use("acme", 10)
    [fee] = (await world.get("/core/api/v1/fees", fee_type="charge"))["fees"]
    answer = await world.call(
        "PUT", f"/core/api/v1/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}}
    )
    assert answer.status == 200, answer.body
    await world.turn("2024-04-01T01:00")
    found = {one["invoice_type"]: one["total_amount_cents"] for one in await invoices(world)}
    assert found == {"advance_charges": 1000, "subscription": 0}
    await audit(world)


async def shown(world: World) -> tuple[int, str]:
    """What was charged so far, and the units that are there.

    Lago shows what was charged as the amount of current usage; ours prices what is there now, as for usage in arrears.
    """
    [charge] = (await usage(world))["charges_usage"]
    charged = sum(one["total_amount_cents"] for one in await invoices(world))
    return charged, str(charge["units"]).removesuffix(".0")


async def test_a_lasting_sum_that_falls_gives_nothing_back(world: World) -> None:
    """billable_metrics/sum_spec: 10 for 24 of February's 29 days at 29.00; 5 go, 2 come back, all paid for."""
    await world.turn("2024-02-01")
    await world.a_metric(recurring=True)
    await world.a_plan(charges=[{**advance("standard", amount="29", grouped_by=["day"]), "prorated": True}])
    await world.a_customer()
    await start(world, "2024-02-01")
    told = []
    for hour, amount in ((1, 10), (2, -5), (3, 2)):
        await world.at(f"2024-02-06T{hour:02}:00").use("acme", amount, properties={"day": "06"})
        told.append(await shown(world))
    assert told == [(24_000, "10"), (24_000, "5"), (24_000, "7")]
    await audit(world)


async def test_a_lasting_seat_that_goes_gives_nothing_back(world: World) -> None:
    """billable_metrics/unique_count_spec: 7 of 29 days at 1.00; removed twice."""
    await world.turn("2024-02-23T01:00")
    await world.a_metric(how="unique_count_agg", recurring=True)
    await world.a_plan(charges=[{**ONE, "prorated": True}])
    await world.a_customer()
    await start(world, "2024-02-23T01:00")
    told = []
    for when, deed in (("23T01:02", "add"), ("29T01:01", "remove"), ("29T01:02", "remove")):
        await world.at(f"2024-02-{when}").use("acme", "seat 1", properties={"operation_type": deed})
        told.append(await shown(world))
    assert told == [(24, "1"), (24, "0"), (24, "0")]
    await audit(world)


async def test_a_seat_in_the_place_of_another_is_paid_for(world: World) -> None:
    """billable_metrics/unique_count_spec: one goes, one comes; the most at a time was one."""
    await world.turn("2024-02-23T01:00")
    await world.a_metric(how="unique_count_agg", recurring=True)
    await world.a_plan(charges=[ONE])
    await world.a_customer()
    await start(world, "2024-02-23T01:00")
    told = []
    for when, seat, deed in (("23T01:02", 1, "add"), ("26T01:01", 1, "remove"), ("26T01:02", 2, "add")):
        await world.at(f"2024-02-{when}").use("acme", f"seat {seat}", properties={"operation_type": deed})
        told.append(await shown(world))
    assert told == [(100, "1"), (100, "0"), (100, "1")]
    await audit(world)


async def test_a_seat_removed_before_it_came_costs_nothing(world: World) -> None:
    """billable_metrics/unique_count_spec: removed, added, added, removed: once 29.00."""
    await world.turn("2024-02-01")
    await world.a_metric(how="unique_count_agg", recurring=True)
    await world.a_plan(charges=[{**advance("standard", amount="29", grouped_by=["day"]), "prorated": True}])
    await world.a_customer()
    await start(world, "2024-02-01")
    told = []
    for when, deed in (
        ("01T01:00", "remove"),
        ("01T02:00", "add"),
        ("02T01:00", "add"),
        ("03T01:00", "remove"),
    ):
        properties = {"operation_type": deed, "day": "06"}
        await world.at(f"2024-02-{when}").use("acme", "001", properties=properties)
        told.append((await shown(world))[0])
    assert told == [0, 2900, 2900, 2900]
    await audit(world)
