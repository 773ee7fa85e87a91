"""Billable metrics through Core, and what their usage comes to on invoices and in `can()`."""

import itertools
import random
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.catalog import plan_store
from nozle_server.customers import store as customers_store
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.workflows.change_plan import change_plan
from world import World, audit, instant

pytestmark = pytest.mark.database

METRICS = "/core/api/v1/billable_metrics"


def a_charge(amount: str = "1", **more: object) -> dict[str, Any]:
    return {
        "billable_metric_code": "seats",
        "charge_model": "standard",
        "properties": {"amount": amount},
        **more,
    }


async def a_subscriber(world: World, charge: dict[str, Any], **metric: Any) -> None:
    """From 1 January 2026 on, on a plan that limits and prices the metric `seats`."""
    await world.turn("2026-01-01")
    await world.a_metric(code="seats", **metric)
    await world.a_feature(code="f", metric="seats")
    await world.a_plan(charges=[charge], entitlements={"f": {"limit": 1000}})
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def used(world: World) -> Decimal:
    return Decimal((await world.can("acme", "f"))["used"])


async def test_a_metric_keeps_all_that_it_was_given_and_changes_what_it_is_told(world: World) -> None:
    given = {
        "code": "storage",
        "name": "Storage",
        "description": "GB",
        "aggregation_type": "weighted_sum_agg",
        "field_name": "gb",
        "expression": None,
        "recurring": True,
        "weighted_interval": "seconds",
        "rounding_function": "ceil",
        "rounding_precision": 2,
        "filters": [{"key": "region", "values": ["eu", "us"]}],
    }
    made = (await world.post(METRICS, {"billable_metric": given}))["billable_metric"]
    assert {name: made[name] for name in given} == given
    answer = await world.call("PUT", f"{METRICS}/storage", {"billable_metric": {"name": "Disk"}})
    assert {name: answer.json["billable_metric"][name] for name in given} == {**given, "name": "Disk"}
    answer = await world.call(
        "PUT", f"{METRICS}/storage", {"billable_metric": {"rounding_function": None, "filters": []}}
    )
    changed = answer.json["billable_metric"]
    assert (changed["rounding_function"], changed["filters"], changed["recurring"]) == (None, [], True)
    assert (await world.get(f"{METRICS}/storage"))["billable_metric"] == changed


@pytest.mark.parametrize(
    ("wrong", "details"),
    [
        ({"aggregation_type": "max_agg", "recurring": True}, "recurring"),
        ({"aggregation_type": "latest_agg", "recurring": True}, "recurring"),
        ({"aggregation_type": "count_agg", "recurring": True}, "recurring"),
        ({"aggregation_type": "weighted_sum_agg"}, "weighted_interval"),
        ({"weighted_interval": "minutes"}, "weighted_interval"),
        ({"rounding_function": "truncate"}, "rounding_function"),
        ({"rounding_precision": -16}, "rounding_precision"),
    ],
)
async def test_a_metric_that_makes_no_sense_is_refused_in_lagos_words(
    world: World, wrong: dict[str, Any], details: str
) -> None:
    body = {"code": "m", "name": "m", "aggregation_type": "sum_agg", "field_name": "n", **wrong}
    answer = await world.call("POST", METRICS, {"billable_metric": body})
    assert answer.status == 422
    assert list(answer.json["error_details"]) == [details]
    assert (await world.call("GET", f"{METRICS}/m")).status == 404


@pytest.mark.parametrize(
    ("expression", "event", "value"),
    [
        ("1 + 2 * 3", {}, "7"),
        ("event.properties.a / 3", {"properties": {"a": 1}}, "0.333333333333333333333333"),
        ("round(event.properties.a, 1)", {"properties": {"a": "2.25"}}, "2.3"),
        ("ceil(event.properties.a / 1000) * 1000", {"properties": {"a": 1001}}, "2000"),
        ("FLOOR(-(event.properties.a))", {"properties": {"a": 1.5}}, "-2"),
        ("concat(event.code, '-', event.properties.a)", {"code": "c", "properties": {"a": 5}}, "c-5"),
        ("least(3, greatest(1, event.properties.a))", {"properties": {"a": 2}}, "2"),
        ("event.timestamp", {"timestamp": 1735689600}, "1735689600"),
        ("event.timestamp", {"timestamp": "2025-01-01T00:00:00Z"}, "1735689600"),
        ("event.timestamp", {}, "1767225600"),  # now, by the organization's clock
    ],
)
async def test_an_expression_can_be_tried(
    world: World, expression: str, event: dict[str, Any], value: str
) -> None:
    await world.turn("2026-01-01")
    body = {"expression": expression, "event": event}
    answer = await world.post(f"{METRICS}/evaluate_expression", body)
    assert answer == {"expression_result": {"value": value}}


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({}, {"expression": ["value_is_mandatory"]}),
        ({"expression": " ", "event": {}}, {"expression": ["value_is_mandatory"]}),
        ({"expression": "1 +", "event": {}}, {"expression": ["invalid_expression"]}),
        ({"expression": "event.properties.a"}, {"event": ["invalid_event"]}),
        (
            {"expression": "event.properties.a + 1", "event": {"properties": {"a": "x"}}},
            {"event": ["invalid_event"]},
        ),
        ({"expression": "1 / 0", "event": {}}, {"event": ["invalid_event"]}),
        ({"expression": "1", "event": {"properties": 5}}, {"event": ["invalid_event"]}),
        ({"expression": "1", "event": {"timestamp": "yesterday"}}, {"event": ["invalid_event"]}),
    ],
)
async def test_an_expression_or_event_that_will_not_do_is_told(
    world: World, body: dict[str, Any], details: dict[str, list[str]]
) -> None:
    answer = await world.call("POST", f"{METRICS}/evaluate_expression", body)
    assert (answer.status, answer.json["error_details"]) == (422, details)


async def test_seats_are_carried_over_and_billed_each_month(world: World) -> None:
    await a_subscriber(world, a_charge(), recurring=True)
    await world.at("2026-01-10").use("acme", 5, code="seats")
    await world.at("2026-02-10").use("acme", -2, code="seats")
    assert await used(world) == 3
    await world.turn("2026-04-01")
    assert [
        Decimal(line["units"])
        for invoice in await world.invoices("acme")
        for line in invoice["lines"]
        if line["metric_code"] == "seats"
    ] == [5, 3, 3]
    assert await used(world) == 3
    await audit(world)


async def test_a_seat_added_late_is_there_from_then_on(world: World) -> None:
    await a_subscriber(world, a_charge(), recurring=True)
    await world.turn("2026-02-10")
    late = await world.use("acme", 4, code="seats", timestamp="2026-01-20T00:00:00Z")
    assert late["billing_status"] == "late"
    assert await used(world) == 4
    await world.turn("2026-03-01")
    february = [
        line
        for line in (await world.last_invoice("acme"))["lines"]
        if line["metric_code"] == "seats" and line["period_start"].startswith("2026-02")
    ]
    assert [Decimal(line["units"]) for line in february] == [4]


async def test_prorated_seats_are_paid_by_the_days_they_are_there(world: World) -> None:
    await a_subscriber(world, a_charge("31", prorated=True), recurring=True)
    await world.at("2026-01-01").use("acme", 2, code="seats")
    await world.at("2026-01-16T22:00:00Z").use("acme", 1, code="seats")
    await world.at("2026-01-31").use("acme", -1, code="seats")
    await world.turn("2026-03-01")
    january, february = (
        next(line for line in invoice["lines"] if line["metric_code"] == "seats")
        for invoice in await world.invoices("acme")
    )
    # 16 days of the third seat, less the last day of the one that went.
    assert (january["amount_cents"], Decimal(january["units"])) == (6200 + 1600 - 100, 2)
    assert (february["amount_cents"], Decimal(february["units"])) == (6200, 2)
    await audit(world)


async def test_values_come_and_go_in_order_of_time_whatever_order_they_arrive_in(world: World) -> None:
    await a_subscriber(world, a_charge(), how="unique_count_agg")
    operations = [("a", "add", 1), ("b", "add", 2), ("a", "remove", 3), ("c", "remove", 4), ("a", "add", 5)]
    operations += [("b", "remove", 6), ("d", "add", 7)]
    random.Random(3).shuffle(operations)
    await world.turn("2026-01-15")
    for number, (value, operation, hour) in enumerate(operations):
        await world.use(
            "acme",
            value,
            code="seats",
            id=f"t{number}",
            timestamp=f"2026-01-10T{hour:02d}:00:00Z",
            properties={"operation_type": operation},
        )
    assert await used(world) == 2  # a and d
    await world.turn("2026-02-01")
    assert await world.units("acme", "seats") == 2
    answer = await world.call(
        "POST",
        "/api/v1/events",
        {
            "event": {
                "transaction_id": "x",
                "external_customer_id": "acme",
                "code": "seats",
                "properties": {"n": 1, "operation_type": "swap"},
            }
        },
    )
    assert answer.status == 422


@pytest.mark.parametrize("how", ["sum_agg", "unique_count_agg", "weighted_sum_agg"])
@pytest.mark.parametrize("recurring", [True, False])
async def test_the_counter_that_can_reads_is_the_aggregate_of_the_events(
    world: World, how: str, recurring: bool
) -> None:
    """Shuffled batches over months, with removals and events for closed periods."""
    more = {"weighted_interval": "seconds"} if how == "weighted_sum_agg" else {}
    await a_subscriber(world, a_charge(), how=how, recurring=recurring, **more)
    rng = random.Random(how + str(recurring))
    number = itertools.count()
    register: list[tuple[str, str, str, Any]] = []
    for month in ("01", "02", "03"):
        await world.turn(f"2026-{month}-25")
        batch = []
        for _ in range(30):
            day = rng.randrange(1, 25)
            at = f"2026-{rng.choice(['01', month, month]):2}-{day:02d}T00:00:00Z"
            n: Any = rng.choice("abcde") if how == "unique_count_agg" else rng.randrange(-3, 9)
            operation = rng.choice(["add", "remove"])
            name = f"t{next(number):04d}"
            register.append((at, name, operation, n))
            batch.append(
                {
                    "transaction_id": name,
                    "customer_id": "acme",
                    "code": "seats",
                    "timestamp": at,
                    "properties": {"n": n, "operation_type": operation},
                }
            )
        await world.post("/api/v1/events/batch", {"events": batch})
        seen = [one for one in register if recurring or one[0].startswith(f"2026-{month}")]
        if how == "unique_count_agg":
            last = {one[3]: one[2] for one in sorted(seen)}
            expected = sum(operation == "add" for operation in last.values())
        else:
            expected = sum(one[3] for one in seen)
        assert await used(world) == expected


async def test_what_can_says_is_used_is_rounded_as_the_metric_says(world: World) -> None:
    await a_subscriber(world, a_charge(), rounding_function="ceil", rounding_precision=0)
    await world.use("acme", Decimal("1.2"), code="seats")
    assert await used(world) == 2
    await world.use("acme", Decimal("0.5"), code="seats")
    assert await used(world) == 2
    await world.turn("2026-02-01")
    assert await world.units("acme", "seats") == 2


async def test_a_weighted_sum_is_billed_by_the_seconds_of_the_period(world: World) -> None:
    await a_subscriber(
        world, a_charge("31"), how="weighted_sum_agg", recurring=True, weighted_interval="seconds"
    )
    await world.at("2026-01-11").use("acme", 10, code="seats")
    assert await used(world) == 10
    await world.turn("2026-03-01")
    assert [
        line["amount_cents"]
        for invoice in await world.invoices("acme")
        for line in invoice["lines"]
        if line["metric_code"] == "seats"
    ] == [10 * 21 * 100, 10 * 3100]


@pytest.mark.parametrize(
    ("model", "properties", "events", "cents"),
    [
        ("dynamic", {}, [(1, "12.5"), (2, "0.25")], 13),
        ("dynamic", {}, [], 0),
        (
            "graduated_percentage",
            {
                "graduated_percentage_ranges": [
                    {"from_value": 0, "to_value": 100, "rate": "10", "flat_amount": "1"},
                    {"from_value": 101, "to_value": None, "rate": "1", "flat_amount": "0"},
                ]
            },
            [(100, None), (50, None)],
            1150,
        ),
    ],
)
async def test_newer_charge_models_on_an_invoice(
    world: World, model: str, properties: dict[str, Any], events: list[tuple[int, str | None]], cents: int
) -> None:
    await a_subscriber(world, a_charge(charge_model=model) | {"properties": properties})
    for n, price in events:
        more = {} if price is None else {"precise_total_amount_cents": price}
        await world.use("acme", n, code="seats", **more)
    await world.turn("2026-02-01")
    assert [line for line in await world.lines("acme") if line[0] == "seats"] == [("seats", cents)]
    await audit(world)


async def test_groups_and_minimums_on_an_invoice(world: World) -> None:
    charge = a_charge(min_amount_cents=1000)
    charge["properties"]["pricing_group_keys"] = ["region"]
    await a_subscriber(world, charge)
    await world.use("acme", 2, code="seats", properties={"region": "eu"})
    await world.use("acme", 3, code="seats", properties={"region": "us"})
    await world.use("acme", 1, code="seats")
    await world.turn("2026-02-01")
    assert sorted(line for line in await world.lines("acme") if line[0].startswith("seats")) == [
        ("seats", 100),
        ("seats • eu", 200),
        ("seats • us", 300),
        ("seats, minimum", 400),
    ]
    await audit(world)


async def _upgrade(world: World, plan: str, at: str) -> None:
    await world.turn(at)
    async with world.database.transaction() as tx:
        (subscription,) = [
            one
            for one in await subscriptions_store.list_of_external_id(
                tx, world.org_id, (await _external_id(world))
            )
            if one.status is Status.ACTIVE
        ]
        found = await plan_store.find_plan(tx, world.org_id, plan)
        assert found is not None
        await customers_store.lock_by_id(tx, world.org_id, subscription.customer_id)
        await change_plan(
            tx, world.services.seams, subscription=subscription, version=found.current, now=instant(at)
        )


async def _external_id(world: World) -> str:
    rows = await world.fetch("select external_id from subscriptions where org_id = $1 limit 1")
    external_id = rows[0]["external_id"]
    assert isinstance(external_id, str)
    return external_id


async def _seats(world: World) -> list[tuple[str, Decimal, int]]:
    """(start of the period, units, cents) of the lines for seats."""
    return [
        (line["period_start"][:10], Decimal(line["units"]), line["amount_cents"])
        for invoice in await world.invoices("acme")
        for line in invoice["lines"]
        if line["metric_code"] == "seats"
    ]


@pytest.mark.parametrize(
    ("prorated", "lines"),
    [
        # The old plan's part of the month is left to the new one, which counts the month's seats in full.
        (False, [("2026-01-16", Decimal(4), 40000), ("2026-02-01", Decimal(3), 30000)]),
        # 15 days at 31.00 for 3 seats and 16 at 62.00 for 4. A seat that goes on the 1st is not paid for that day, as
        # Lago.
        (
            True,
            [
                ("2026-01-01", Decimal(3), 3 * 15 * 100),
                ("2026-01-16", Decimal(4), 4 * 16 * 200),
                ("2026-02-01", Decimal(3), 3 * 6200),
            ],
        ),
    ],
)
async def test_seats_are_taken_along_to_another_plan_and_no_day_is_billed_twice(
    world: World, prorated: bool, lines: list[tuple[str, Decimal, int]]
) -> None:
    old, new = ("31", "62") if prorated else ("50", "100")
    await a_subscriber(world, a_charge(old, prorated=prorated), recurring=True)
    limits = {"f": {"limit": 1000}}
    charge = a_charge(new, prorated=prorated)
    await world.a_plan(code="max", amount_cents=100, charges=[charge], entitlements=limits)
    await world.use("acme", 3, code="seats")
    await _upgrade(world, "max", "2026-01-16T10:00:00Z")
    assert await used(world) == 3
    await world.at("2026-01-16T12:00:00Z").use("acme", 1, code="seats")
    assert await used(world) == 4
    await world.at("2026-02-01T09:00:00Z").use("acme", -1, code="seats")
    await world.turn("2026-03-01")
    assert await _seats(world) == lines
    await audit(world)
