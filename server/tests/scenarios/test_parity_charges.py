"""What usage comes to: charge models, metrics, lasting and prorated quantities; figures of Lago's scenarios."""

from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from parity import a_tax, assert_bills, bill, costs, end, invoices, ranges, standard, start, usage
from world import World, audit

pytestmark = pytest.mark.database


class Priced(NamedTuple):
    """A month's events of a metric, and what they come to."""

    told: str
    how: str
    charge: dict[str, Any]
    used: list[object]
    cents: int


def model(name: str, **properties: object) -> dict[str, Any]:
    return {"billable_metric_code": "tokens", "charge_model": name, "properties": properties}


ONE = standard()
TIERS = ranges((0, 10, "2", "100"), (11, None, "1", "50"))
VOLUMES = ranges((0, 10, "10", "0"), (11, None, "20", "0"))
SHARES = [
    {"from_value": 0, "to_value": 25, "rate": "10", "flat_amount": "1"},
    {"from_value": 26, "to_value": None, "rate": "20", "flat_amount": "2"},
]
SMALL_SHARES = [
    {"from_value": 0, "to_value": 100, "rate": "5", "flat_amount": "0"},
    {"from_value": 101, "to_value": None, "rate": "2", "flat_amount": "10"},
]

PRICED = [
    # golden/b01: three events of 10, 20 and 30.
    Priced("a count", "count_agg", ONE, [10, 20, 30], 300),
    Priced("a sum", "sum_agg", ONE, [10, 20, 30], 6000),
    Priced("the most", "max_agg", ONE, [10, 20, 30], 3000),
    Priced("the latest", "latest_agg", ONE, [10, 30, 20], 2000),
    Priced("different users", "unique_count_agg", ONE, ["u1", "u2", "u2"], 200),
    Priced("graduated", "sum_agg", model("graduated", graduated_ranges=TIERS), [10, 20, 30], 22_000),
    Priced("graduated, nothing used", "sum_agg", model("graduated", graduated_ranges=TIERS), [], 10_000),
    Priced("volume", "sum_agg", model("volume", volume_ranges=VOLUMES), [15], 30_000),
    Priced("packages", "sum_agg", model("package", amount="10", free_units=0, package_size=25), [10, 20, 30], 3000),
    Priced("a percentage", "sum_agg", model("percentage", rate="10", fixed_amount="1"), [10, 20, 30], 900),
    Priced("shares by tiers", "sum_agg", model("graduated_percentage", graduated_percentage_ranges=SHARES),
           [10, 20, 30], 1250),
    # current_usage/by_charge_model/graduated_percentage_spec
    Priced("a share of the first tier", "sum_agg",
           model("graduated_percentage", graduated_percentage_ranges=SMALL_SHARES), [50], 250),
    Priced("shares of both tiers", "sum_agg",
           model("graduated_percentage", graduated_percentage_ranges=SMALL_SHARES), [150], 1600),
    # charge_models/percentage_spec: free events, a free sum, and bounds of what an event pays.
    Priced("three free events of four", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_events=3), [10] * 4, 510),
    Priced("a free sum of 15 used up by the fourth", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_total_aggregation="15.0"), [4] * 4, 501),
    Priced("and passed by the fifth", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_total_aggregation="15.0"),
           [4, 4, 4, 4, 10], 1011),
    Priced("both allowances, events first", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_events=3,
                 free_units_per_total_aggregation="15.0"), [1] * 4, 501),
    Priced("both allowances, the sum first", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_events=3,
                 free_units_per_total_aggregation="15.0"), [10, 10], 505),
    Priced("and one event more", "sum_agg",
           model("percentage", rate="1", fixed_amount="5", free_units_per_events=3,
                 free_units_per_total_aggregation="15.0"), [10, 10, 10], 1015),
    Priced("at most 12 an event, at least 1.75", "sum_agg",
           model("percentage", rate="1", fixed_amount="1", per_transaction_max_amount="12",
                 per_transaction_min_amount="1.75"), [100, 1000, 10_000], 2500),
]  # fmt: skip


@pytest.mark.parametrize("priced", PRICED, ids=lambda priced: priced.told)
async def test_usage_costs_what_it_costs_with_lago(world: World, priced: Priced) -> None:
    """Shown while the month runs and billed when it is over, alike."""
    await world.turn("2024-03-01")
    await world.a_metric(how=priced.how)
    await world.a_plan(charges=[priced.charge])
    await world.a_customer()
    await start(world, "2024-03-01")
    for hour, amount in enumerate(priced.used):
        await world.at(f"2024-03-05T{hour:02}:00").use("acme", amount)
    assert await costs(world) == priced.cents
    await world.turn("2024-04-01")
    await assert_bills(world, [{"total": priced.cents, "charge": [priced.cents]}])
    await audit(world)


async def test_prices_that_events_bring_with_them(world: World) -> None:
    """charge_models/dynamic_spec: 10.1 and 901.9 cents, rounded once, together."""
    await world.turn("2023-03-05")
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[model("dynamic")])
    await world.a_customer()
    await start(world, "2023-03-05")
    await world.at("2023-03-06").use("acme", 10, precise_total_amount_cents="10.1")
    assert await costs(world) == 10
    await world.use("acme", 10, precise_total_amount_cents="901.9")
    assert await costs(world) == 912
    await audit(world)


async def test_prices_that_events_bring_with_them_by_group(world: World) -> None:
    """charge_models/dynamic_spec: the groups are lines of 10 and of 902 cents."""
    await world.turn("2023-03-05")
    await world.a_metric()
    await world.a_plan(charges=[model("dynamic", grouped_by=["team"])])
    await world.a_customer()
    await start(world, "2023-03-05")
    for team, cents in (("one", "10.1"), ("two", "901.9")):
        await world.at("2023-03-06").use(
            "acme", 10, precise_total_amount_cents=cents, properties={"team": team}
        )
    [charge] = (await usage(world))["charges_usage"]
    shown = {one["grouped_by"]["team"]: one["amount_cents"] for one in charge["grouped_usage"]}
    assert (shown, charge["amount_cents"]) == ({"one": 10, "two": 902}, 912)


async def test_taxes_are_on_usage_while_it_runs(world: World) -> None:
    """charge_models/percentage_spec: 5.01 and 20 % of it are 6.01; 10.11 are 12.13."""
    await world.turn("2023-03-05")
    await a_tax(world, "20")
    await world.a_metric()
    free = model("percentage", rate="1", fixed_amount="5", free_units_per_total_aggregation="15.0")
    await world.a_plan(amount_cents=1000, charges=[free])
    await world.a_customer()
    await start(world, "2023-03-05")
    shown = []
    for minute, amount in enumerate((4, 4, 4, 4, 10)):
        await world.at(f"2023-03-06T00:0{minute}").use("acme", amount)
        shown.append((await usage(world))["total_amount_cents"])
    assert shown == [0, 0, 0, 601, 1213]


# Quantities weighted by time, and quantities that last.


async def test_a_quantity_weighted_by_time_carries_over(world: World) -> None:
    """billable_metrics/weighted_sum_spec: 2,500 for 27 of March's 31 days; then 2,500, 500 and 300 in April."""
    await world.turn("2023-03-05")
    await world.a_metric(how="weighted_sum_agg", recurring=True, weighted_interval="seconds")
    await world.a_plan(charges=[ONE])
    await world.a_customer()
    await start(world, "2023-03-05")
    await world.use("acme", 2500)
    assert await costs(world) == 217_742
    await world.turn("2023-04-01")
    await world.at("2023-04-04").use("acme", -2000)
    await world.at("2023-04-06").use("acme", -200)
    assert await costs(world) == 53_333
    await world.turn("2023-05-01")
    await assert_bills(world, [{"total": 217_742}, {"total": 53_333}])
    await audit(world)


async def test_a_quantity_weighted_by_time_from_mid_month(world: World) -> None:
    """golden/b01: 62 for 16 of 31 days are 32."""
    await world.turn("2024-03-01")
    await world.a_metric(how="weighted_sum_agg", recurring=True, weighted_interval="seconds")
    await world.a_plan(charges=[ONE])
    await world.a_customer()
    await start(world, "2024-03-01")
    await world.at("2024-03-16").use("acme", 62)
    await world.turn("2024-04-01")
    await assert_bills(world, [{"charge": [3200]}])


async def test_lasting_users_are_counted_in_each_group(world: World) -> None:
    """billable_metrics/unique_count_spec: one user in two groups is two, and there is a third."""
    await world.turn("2024-02-06")
    await world.a_metric(how="unique_count_agg", recurring=True)
    await world.a_plan(charges=[model("standard", amount="1", grouped_by=["day"])])
    await world.a_customer()
    await start(world, "2024-02-06")
    for user, day in (("001", "08"), ("001", "06"), ("002", "06")):
        await world.at("2024-02-07").use("acme", user, properties={"day": day})
    assert await costs(world) == 300


class Prorated(NamedTuple):
    told: str
    how: str
    charge: dict[str, Any]
    cents: int


def prorated(name: str, **properties: object) -> dict[str, Any]:
    return {**model(name, **properties), "prorated": True}


PRORATED = [
    # golden/b16: 31 from the 11th and 62 from the 22nd of March, or one seat and two: 41 of 93 unit-months.
    Prorated("standard sum", "sum_agg", prorated("standard", amount="1"), 4100),
    Prorated("standard seats", "unique_count_agg", prorated("standard", amount="31"), 4100),
    Prorated("graduated sum", "sum_agg",
             prorated("graduated", graduated_ranges=ranges((0, 31, "1", "0"), (32, None, "2", "0"))), 6100),
    Prorated("graduated seats", "unique_count_agg",
             prorated("graduated", graduated_ranges=ranges((0, 1, "31", "0"), (2, None, "62", "0"))), 6100),
    Prorated("volume sum", "sum_agg",
             prorated("volume", volume_ranges=ranges((0, 50, "1", "0"), (51, None, "2", "0"))), 8200),
    Prorated("volume seats, with a flat amount in full", "unique_count_agg",
             prorated("volume", volume_ranges=ranges((0, 2, "31", "0"), (3, None, "62", "10"))), 9200),
]  # fmt: skip


@pytest.mark.parametrize("case", PRORATED, ids=lambda case: case.told)
async def test_a_prorated_quantity_counts_its_days(world: World, case: Prorated) -> None:
    await world.turn("2024-03-01")
    await world.a_metric(how=case.how, recurring=True)
    await world.a_plan(charges=[case.charge])
    await world.a_customer()
    await start(world, "2024-03-01")
    seats = case.how == "unique_count_agg"
    await world.at("2024-03-11T10:00").use("acme", "seat 1" if seats else 31)
    for amount in ["seat 2", "seat 3"] if seats else [62]:
        await world.at("2024-03-22T10:00").use("acme", amount)
    await world.turn("2024-04-01T01:00")
    await assert_bills(world, [{"charge": [case.cents]}])
    assert Decimal((await invoices(world))[0]["fees"][-1]["units"]) == (3 if seats else 93)
    await audit(world)


STEEP = ranges((0, 5, "10", "100"), (6, 15, "5", "50"), (16, None, "2", "0"))
SEPTEMBER = [("10", 2, 11_400), ("16", 5, 18_400), ("20", -6, 16_567), ("25", 10, 17_967), ("26", 4, 18_300),
             ("30", 60, 18_700)]  # fmt: skip


async def a_steep_september(world: World) -> None:
    """A lasting sum that goes up and down over three tiers; each step as Lago shows it."""
    await world.turn("2023-09-01")
    await world.a_metric(recurring=True)
    await world.a_plan(charges=[prorated("graduated", graduated_ranges=STEEP)])
    await world.a_plan(code="next", amount_cents=100, charges=[prorated("graduated", graduated_ranges=STEEP)])
    await world.a_customer()
    await start(world, "2023-09-01")
    shown = []
    for day, amount, _ in SEPTEMBER:
        await world.at(f"2023-09-{day}").use("acme", amount)
        shown.append(await costs(world))
    assert shown == [cents for _, _, cents in SEPTEMBER]
    await world.turn("2023-10-01")
    await assert_bills(world, [{"total": 18_700}])


async def test_a_lasting_sum_over_tiers(world: World) -> None:
    """charge_models/prorated_graduated_spec: 75 carry over in full, 20 more for 15 of October's days."""
    await a_steep_september(world)
    await world.turn("2023-10-05")
    assert await costs(world) == 37_000
    await world.at("2023-10-17").use("acme", 20)
    assert await costs(world) == 38_935
    await audit(world)


async def test_a_lasting_sum_over_tiers_and_an_upgrade(world: World) -> None:
    """charge_models/prorated_graduated_spec: 17 days on the old plan, 14 on the new one.

    Lago bills 273.23: the 20 units of the 17th for the day of the change too, which the new plan bills as well. With us a
    day belongs to one plan (decision 0008, which days count): 1.29 less.
    """
    await a_steep_september(world)
    await world.at("2023-10-17").use("acme", 20)
    await start(world, "2023-10-18T05:20", "next")
    last = (await invoices(world))[-1]
    assert bill(last, {"charge": []}) == {"charge": [27_194]}
    await world.turn("2023-11-01")
    last = (await invoices(world))[-1]
    assert bill(last, {"charge": [], "subscription": []}) == {"charge": [26_742], "subscription": [45]}
    await world.turn("2023-11-05")
    assert await costs(world) == 41_000
    await audit(world)


async def test_a_lasting_sum_of_a_subscription_that_ends(world: World) -> None:
    """charge_models/prorated_graduated_spec: one of 6 units is paid, and one more from 7 December."""
    await world.turn("2023-10-01")
    await world.a_metric(recurring=True)
    free = ranges((0, 5, "0", "0"), (6, None, "10", "0"))
    await world.a_plan(charges=[prorated("graduated", graduated_ranges=free)])
    await world.a_customer()
    await start(world, "2023-10-01")
    await world.at("2023-10-05").use("acme", 4)
    await world.use("acme", 3)
    await world.at("2023-11-05").use("acme", -1)
    await world.turn("2023-12-07T12:00")
    assert await costs(world) == 1000
    await world.use("acme", 1)
    assert await costs(world) == 1806
    await end(world, "2023-12-07T12:01")
    assert (await invoices(world))[-1]["total_amount_cents"] == 258
    await audit(world)


async def test_seats_that_come_and_go_over_tiers(world: World) -> None:
    """charge_models/prorated_graduated_spec: a seat that returns takes the place it left; the next ones are dearer."""
    await world.turn("2023-09-01")
    await world.a_metric(how="unique_count_agg", recurring=True)
    tiers = ranges((0, 1, "10", "100"), (2, None, "5", "50"))
    await world.a_plan(charges=[prorated("graduated", graduated_ranges=tiers)])
    await world.a_customer()
    await start(world, "2023-09-01")
    shown = []
    for day, seat, deed in (
        ("10", "1111", "add"), ("12", "1111", "remove"), ("14", "1111", "add"), ("15", "2222", "add"),
        ("16", "2222", "add"), ("20", "3333", "add"),
    ):  # fmt: skip
        await world.at(f"2023-09-{day}").use("acme", seat, properties={"operation_type": deed})
        shown.append(await costs(world))
    assert shown == [10_700, 10_100, 10_667, 15_933, 15_933, 16_117]
    await world.turn("2023-10-05")
    await assert_bills(world, [{"total": 16_117}])
    assert await costs(world) == 17_000
    await world.at("2023-10-17").use("acme", "4444", properties={"operation_type": "add"})
    assert await costs(world) == 17_242
    await audit(world)
