"""Each charge model on a real invoice, through the API: what was used in January is what February's invoice says."""

from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

GRADUATED = {
    "graduated_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "2"},
    ]
}
VOLUME = {
    "volume_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
    ]
}
PACKAGE = {"amount": "5", "package_size": 10, "free_units": 5}
PERCENTAGE = {"rate": "1.5", "fixed_amount": "0.2", "free_units_per_events": 1}


@pytest.mark.parametrize(
    ("model", "properties", "used", "cents"),
    [
        ("standard", {"amount": "0.05"}, [], 0),
        ("standard", {"amount": "0.05"}, [10, 20], 150),
        ("standard", {"amount": "0.005"}, [1], 1),  # half a cent, away from zero
        ("standard", {"amount": "0.000000000001"}, [3], 0),
        ("graduated", GRADUATED, [], 0),
        ("graduated", GRADUATED, [4, 6], 1000),
        ("graduated", GRADUATED, [4, 6, 1], 1250),
        ("graduated", GRADUATED, [10, 10], 1700),
        ("volume", VOLUME, [], 0),
        ("volume", VOLUME, [10], 1000),
        ("volume", VOLUME, [10, 1], 850),
        ("package", PACKAGE, [5], 0),
        ("package", PACKAGE, [5, 1], 500),
        ("package", PACKAGE, [15], 500),
        ("package", PACKAGE, [16], 1000),
        ("percentage", PERCENTAGE, [100], 0),
        ("percentage", PERCENTAGE, [100, 200], 320),
    ],
)
async def test_charge_model(
    world: World, model: str, properties: dict[str, Any], used: list[int], cents: int
) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[_charge(model, properties)])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    for day, n in enumerate(used, start=2):
        await world.at(f"2026-01-{day:02d}").use("acme", n)
    await world.turn("2026-02-01")
    assert await world.lines("acme") == [("Pro, monthly fee", 0), ("tokens", cents)]
    assert await world.units("acme") == sum(used)
    await audit(world)


async def test_a_price_per_property_value_and_the_most_specific_filter_wins(world: World) -> None:
    """Events are priced once: by the filter that names most of their properties, else by the charge itself."""
    await world.turn("2026-01-01")
    await world.a_metric(
        filters=[{"key": "model", "values": ["big", "small"]}, {"key": "tier", "values": ["fast", "slow"]}]
    )
    filters = [
        {"values": {"model": ["big"]}, "properties": {"amount": "1"}},
        {
            "values": {"model": ["big"], "tier": ["fast"]},
            "properties": {"amount": "10"},
            "invoice_display_name": "Best",
        },
        {
            "values": {"tier": ["fast", "slow"]},
            "properties": {"amount": "0"},
            "invoice_display_name": "Included",
        },
    ]
    charge = {**_charge("standard", {"amount": "0.1"}), "filters": filters}
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    for properties in (
        {},
        {"model": "small"},
        {"model": "big"},
        {"model": "big", "tier": "fast"},
        {"tier": "slow"},
    ):
        await world.use("acme", 1, properties=properties)
    await world.turn("2026-02-01")
    assert await world.lines("acme") == [
        ("Pro, monthly fee", 0),
        ("tokens", 20),
        ("Best", 1000),
        ("tokens (big)", 100),
        ("Included", 0),
    ]
    await audit(world)


async def test_exact_amounts_stand_beside_rounded_ones_and_totals_add_the_rounded(world: World) -> None:
    """T05: the total is the sum of the shown lines; rounding happens once a line."""
    await world.turn("2026-01-01")
    for code in ("a", "b", "c"):
        await world.a_metric(code=code)
    charges = [
        {**_charge("standard", {"amount": "0.003335"}), "billable_metric_code": code} for code in "abc"
    ]
    await world.a_plan(charges=charges)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    for code in "abc":
        await world.use("acme", 10, code=code)
    await world.turn("2026-02-01")
    invoice = await world.last_invoice("acme")
    charged = [line for line in invoice["lines"] if line["kind"] == "charge"]
    assert [(str(line["exact_amount_cents"]), line["amount_cents"]) for line in charged] == [("3.335", 3)] * 3
    assert invoice["total_amount_cents"] == 9


@pytest.mark.parametrize(
    ("how", "values", "units"),
    [
        ("count_agg", [5, 5, 9], 3),
        ("sum_agg", ["0.1", "0.2", -5, 10], "5.3"),
        ("max_agg", [3, 9, 4], 9),
        ("unique_count_agg", ["x", "y", "x", 1, "1", True], 4),
        ("latest_agg", [3, 9, 4], 4),
    ],
)
async def test_every_aggregation_reaches_the_invoice(
    world: World, how: str, values: list[Any], units: Any
) -> None:
    await world.turn("2026-01-01")
    await world.a_metric(how=how)
    await world.a_feature()
    await world.a_plan(charges=[_charge("standard", {"amount": "1"})], entitlements={"chat": {"limit": 100}})
    await world.a_customer()
    await world.subscribe("acme", "pro")
    for minute, n in enumerate(values):
        await world.use("acme", n, timestamp=f"2026-01-01T00:{minute:02d}:00Z")
    used = (await world.can("acme"))["used"]
    await world.turn("2026-02-01")
    assert str(await world.units("acme")) == str(used) == str(units)
    await audit(world)


def _charge(model: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"billable_metric_code": "tokens", "charge_model": model, "properties": properties}


async def test_a_filter_on_all_values_of_a_property_takes_those_that_the_metric_declares(
    world: World,
) -> None:
    """Of the models that the metric knows each event costs 2, of others 1; one that is named costs 3."""
    await world.turn("2026-01-01")
    await world.a_metric(filters=[{"key": "model", "values": ["small", "large"]}])
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "filters": [
            {"values": {"model": ["__ALL_FILTER_VALUES__"]}, "properties": {"amount": "2"}},
            {"values": {"model": ["large"]}, "properties": {"amount": "3"}},
        ],
    }
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    for model in ("small", "large", "unheard-of"):
        await world.use("acme", 1, properties={"model": model})
    await world.turn("2026-02-01")
    lines = [one["amount_cents"] for one in (await world.last_invoice("acme"))["lines"]]
    assert sorted(amount for amount in lines if amount) == [100, 200, 300]
