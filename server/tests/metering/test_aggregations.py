"""What the aggregation of raw events answers, against the plain meaning of each aggregation written in Python."""

import random
import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nozle_server.core.ids import new_id
from nozle_server.infra.postgres_usage import PostgresUsageStore
from nozle_server.infra.usage_store import Arrival, UsageQuery, UsageRow, Window
from world import World, instant

pytestmark = pytest.mark.database

START, END = instant("2026-03-01"), instant("2026-04-01")
METRIC = uuid.UUID(int=1)


class Events:
    """Events of a metric, written straight into the table."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.subscription, self.former = new_id(), new_id()
        self.rows: list[dict[str, Any]] = []

    async def add(
        self,
        at: str | datetime,
        quantity: object = 1,
        *,
        value: str | None = None,
        status: str = "counted",
        former: bool = False,
        cents: str | None = None,
        **properties: object,
    ) -> dict[str, Any]:
        occurred_at = instant(at) if isinstance(at, str) else at
        row = {
            "id": new_id(),
            "transaction_id": f"{len(self.rows):06d}",
            "occurred_at": occurred_at,
            "received_at": instant("2026-04-01") + timedelta(seconds=len(self.rows)),
            "quantity": Decimal(str(quantity)),
            "unique_value": value,
            "status": status,
            "properties": properties,
            "subscription_id": self.former if former else self.subscription,
            "cents": None if cents is None else Decimal(cents),
        }
        self.rows.append(row)
        async with self.world.database.transaction() as tx:
            await tx.execute(
                """insert into events (org_id, occurred_at, id, transaction_id, received_at, code, subscription_id,
                       metric_id, status, quantity, unique_value, properties, precise_total_amount_cents)
                   values ($1, $2, $3, $4, $5, 'm', $6, $7, $8, $9, $10, $11, $12)""",
                self.world.org_id,
                row["occurred_at"],
                row["id"],
                row["transaction_id"],
                row["received_at"],
                row["subscription_id"],
                METRIC,
                status,
                row["quantity"],
                value,
                properties,
                row["cents"],
            )
        return row

    async def usage(self, how: str, **more: Any) -> list[UsageRow]:
        window = Window(
            self.subscription,
            more.pop("start", START),
            more.pop("end", END),
            (self.former,),
            more.pop("timezone", "UTC"),
            more.pop("replaced", False),
        )
        query = UsageQuery(METRIC, how, (window,), **more)
        async with self.world.database.transaction() as tx:
            return await PostgresUsageStore().usage(tx, self.world.org_id, query)

    async def one(self, how: str, **more: Any) -> UsageRow:
        (row,) = await self.usage(how, **more)
        return row


@pytest.fixture
def events(world: World) -> Events:
    return Events(world)


async def test_a_weighted_sum_counts_each_change_for_the_seconds_that_are_left(events: Events) -> None:
    """Lago's example: the level holds from its event to the next, or to the end of the period."""
    await events.add("2026-03-01T00:00:00Z", 10)
    await events.add("2026-03-11T00:00:00Z", 5)
    await events.add("2026-03-21T12:00:00.500000Z", -15)
    row = await events.one("weighted_sum_agg", weighted=True)
    levels = 10 * 864_000 + 15 * (Decimal("10.5") * 86_400 + Decimal("0.5"))
    assert (row.units, row.weighted_units, row.events_count) == (0, levels, 3)


async def test_a_recurring_weighted_sum_starts_with_what_it_came_to_before(events: Events) -> None:
    await events.add("2026-01-10", 7, former=True)
    await events.add("2026-02-10", -2)
    await events.add("2026-03-31T23:00:00Z", 1)
    row = await events.one("weighted_sum_agg", weighted=True, recurring=True)
    assert (row.units, row.weighted_units) == (6, 5 * 31 * 86_400 + 3_600)
    assert row.events_count == 1
    alone = await events.one("weighted_sum_agg", weighted=True)
    assert (alone.units, alone.weighted_units) == (1, 3_600)


async def test_a_recurring_quantity_is_there_without_events_and_late_ones_are_in_it(events: Events) -> None:
    await events.add("2026-01-10", 7, former=True)
    await events.add("2026-02-10", 3, status="late")
    row = await events.one("sum_agg", recurring=True, with_transactions=True)
    assert (row.units, row.events_count, row.transactions) == (10, 0, (Decimal(10),))
    assert await events.usage("sum_agg") == []


async def test_late_events_of_the_window_are_counted_when_asked_for_only(events: Events) -> None:
    await events.add("2026-03-10", 7)
    await events.add("2026-03-11", 3, status="late")
    for how in ("sum_agg", "max_agg", "latest_agg", "count_agg"):
        assert (await events.one(how)).events_count == 1
        assert (await events.one(how, include_late=True)).events_count == 2
    assert (await events.one("sum_agg", recurring=True)).units == 7
    assert (await events.one("sum_agg", recurring=True, include_late=True)).units == 10


@pytest.mark.parametrize(
    ("timezone", "at", "days"),
    [
        ("UTC", "2026-03-01T00:00:00Z", 31),
        ("UTC", "2026-03-31T23:59:59Z", 1),
        ("UTC", "2026-03-10T23:30:00Z", 22),
        ("Europe/Paris", "2026-03-10T23:30:00Z", 21),  # the 11th there
        ("America/New_York", "2026-03-11T03:30:00Z", 22),  # the 10th there
    ],
)
async def test_prorated_units_count_local_days_from_the_event_on(
    events: Events, timezone: str, at: str, days: int
) -> None:
    """As Lago: the event's day counts in full, in the customer's zone."""
    zone = ZoneInfo(timezone)
    bounds = {
        "start": datetime(2026, 3, 1, tzinfo=zone).astimezone(UTC),
        "end": datetime(2026, 4, 1, tzinfo=zone).astimezone(UTC),
        "timezone": timezone,
    }
    await events.add(max(instant(at), bounds["start"]), 2)
    row = await events.one("sum_agg", weighted=True, recurring=True, with_transactions=True, **bounds)
    assert (row.units, row.weighted_units, row.weighted_transactions) == (2, 2 * days, (2 * days,))


async def test_units_carried_over_count_all_days_and_come_first(events: Events) -> None:
    await events.add("2026-01-05", 3)
    await events.add("2026-02-05", -1)
    await events.add("2026-03-16", 4)
    row = await events.one("sum_agg", weighted=True, recurring=True, with_transactions=True)
    assert (row.units, row.weighted_units) == (6, 2 * 31 + 4 * 16)
    assert (row.transactions, row.weighted_transactions) == ((2, 4), (62, 64))


@pytest.mark.parametrize(
    ("operations", "units", "days"),
    [
        ([], None, 0),
        ([("03-05", "add")], 1, 27),
        ([("03-05", "add"), ("03-10", "add")], 1, 27),  # there already
        ([("03-05", "remove")], 0, 0),  # never there
        ([("03-05", "add"), ("03-10", "remove")], 0, 6),  # both days count
        ([("03-05T01", "add"), ("03-05T02", "remove")], 0, 1),
        ([("03-05", "add"), ("03-10T01", "remove"), ("03-10T02", "add"), ("03-15", "remove")], 0, 11),
        ([("03-05", "add"), ("03-10", "remove"), ("03-20", "add")], 1, 6 + 12),
        ([("02-05", "add")], 1, 31),  # carried over
        ([("02-05", "add"), ("02-10", "remove")], 0, 0),
        ([("02-05", "add"), ("03-02", "remove")], 0, 2),
        ([("02-05", "add"), ("02-10", "remove"), ("03-31", "add")], 1, 1),
    ],
)
async def test_a_unique_value_is_there_from_add_to_remove(
    events: Events, operations: list[tuple[str, str]], units: int | None, days: int
) -> None:
    for at, operation in operations:
        text = f"2026-{at}" + ("" if "T" not in at else ":00:00Z")
        await events.add(text, 1 if operation == "add" else 0, value="v")
    rows = await events.usage("unique_count_agg", recurring=True, weighted=True)
    plain = await events.usage("unique_count_agg", recurring=True)
    if units is None:
        assert rows == plain == []
        return
    assert [row.units for row in plain] == [units]
    if rows:  # a value that was never there leaves nothing
        assert [(row.units, row.weighted_units) for row in rows] == [(units, days)]
    else:
        assert (units, days) == (0, 0)


async def test_a_value_added_in_an_earlier_period_is_not_there_unless_the_metric_is_recurring(
    events: Events,
) -> None:
    await events.add("2026-02-05", 1, value="a")
    await events.add("2026-03-05", 1, value="b")
    assert (await events.one("unique_count_agg")).units == 1
    assert (await events.one("unique_count_agg", recurring=True)).units == 2


async def test_the_day_on_which_another_plan_takes_over_is_the_others(events: Events) -> None:
    end = instant("2026-03-16T10:00:00Z")
    await events.add("2026-03-10", 2, value="a")
    await events.add("2026-03-16T08:00:00Z", 4, value="b")
    for replaced, days in ((True, 2 * 6), (False, 2 * 7 + 4)):
        row = await events.one("sum_agg", weighted=True, recurring=True, end=end, replaced=replaced)
        assert (row.units, row.weighted_units) == (6, days)


async def test_a_value_that_goes_and_comes_on_the_day_of_another_plan_is_not_counted_twice(
    events: Events,
) -> None:
    end = instant("2026-03-16T10:00:00Z")
    for at, quantity in (("10T00", 1), ("16T01", 0), ("16T02", 1)):
        await events.add(f"2026-03-{at}:00:00Z", quantity, value="a")
    for replaced, days in ((True, 6), (False, 7)):
        row = await events.one("unique_count_agg", weighted=True, recurring=True, end=end, replaced=replaced)
        assert (row.units, row.weighted_units) == (1, days)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("timezone", ["UTC", "America/Los_Angeles"])
async def test_random_operations_count_as_a_day_by_day_register_says(
    events: Events, seed: int, timezone: str
) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        at = instant("2026-02-20") + timedelta(minutes=rng.randrange(39 * 24 * 60))
        await events.add(at, rng.randrange(2), value=rng.choice("abc"), region=rng.choice(["eu", "us", ""]))
    rows = await events.usage(
        "unique_count_agg",
        recurring=True,
        weighted=True,
        with_transactions=True,
        group_keys=(("region",),),
        timezone=timezone,
    )
    found = {row.grouped_by["region"]: row for row in rows}
    for region, (units, days) in _register(events.rows, timezone).items():
        row = found.pop(region or None, None)
        assert (units, days) == (0, 0) if row is None else (row.units, row.weighted_units) == (units, days)
        if row is not None:
            assert sum(row.transactions) == units
            assert sum(row.weighted_transactions) == days
    assert not found


def _register(rows: list[dict[str, Any]], timezone: str) -> dict[str, tuple[int, int]]:
    """By region: how many values are there at the end, and on how many days of the window each was there at all."""
    zone = ZoneInfo(timezone)
    by_value: dict[tuple[str, str], list[tuple[datetime, str, bool]]] = defaultdict(list)
    for row in rows:
        if row["occurred_at"] < END:
            key = (row["properties"]["region"], row["unique_value"])
            by_value[key].append((row["occurred_at"], row["transaction_id"], bool(row["quantity"])))
    answer: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for (region, _), operations in by_value.items():
        operations.sort()
        there: set[date] = set()
        ends = [*operations, (END - timedelta(microseconds=1), "", False)]
        for (since, _, present), (until, _, _) in pairwise(ends):
            if present and until >= START:
                day = max(since, START).astimezone(zone).date()
                while day <= until.astimezone(zone).date():
                    there.add(day)
                    day += timedelta(days=1)
        units, days = answer[region]
        answer[region] = (units + operations[-1][2], days + len(there))
    return answer


async def test_each_bucket_and_each_group_has_a_row(events: Events) -> None:
    await events.add("2026-03-02", 1, region="eu", model="a")
    await events.add("2026-03-03", 2, region="eu", model="b")
    await events.add("2026-03-04", 4, region="us", model="a")
    await events.add("2026-03-05", 8, model="a")
    await events.add("2026-03-06", 16, region="", model=5)
    rows = await events.usage(
        "sum_agg", filters=({"model": ["b", "5"]},), group_keys=(("region",), ("model", "region"))
    )
    assert {(row.filter_index, *row.grouped_by.values()): row.units for row in rows} == {
        (None, "eu"): 1,
        (None, "us"): 4,
        (None, None): 8,
        (0, "b", "eu"): 2,
        (0, "5", None): 16,
    }


async def test_an_event_goes_to_the_first_filter_it_matches_and_to_no_other(events: Events) -> None:
    await events.add("2026-03-02", 1, region="eu", model="a")
    await events.add("2026-03-03", 2, region="eu", model="b")
    await events.add("2026-03-04", 4, region="us", model="b")
    rows = await events.usage(
        "sum_agg", filters=({"region": ["eu"], "model": ["a"]}, {"region": ["eu"]}, {"model": ["a"]})
    )
    assert {row.filter_index: row.units for row in rows} == {0: 1, 1: 2, None: 4}


async def test_the_events_own_prices_add_up_exactly(events: Events) -> None:
    await events.add("2026-03-02", 1, cents="0.000000000001")
    await events.add("2026-03-03", 2, cents="12.34")
    await events.add("2026-03-04", 2)
    row = await events.one("sum_agg", with_amounts=True)
    assert (row.units, row.amount_cents) == (5, Decimal("12.340000000001"))


async def test_the_highest_level_is_that_of_the_arrivals(events: Events) -> None:
    await events.add("2026-02-02", 4)
    await events.add("2026-03-20", 3)
    await events.add("2026-03-10", -5)
    fourth = await events.add("2026-03-05", 4)
    row = await events.one("sum_agg", recurring=True, with_highest=True)
    assert (row.units, row.highest) == (6, 7)
    for with_it, highest in ((False, 7), (True, 7)):
        until = Arrival(fourth["received_at"], fourth["id"], with_it)
        assert (
            await events.one("sum_agg", recurring=True, with_highest=True, arrived=until)
        ).highest == highest
    alone = await events.one("sum_agg", with_highest=True)
    assert (alone.units, alone.highest) == (2, 3)


async def test_the_highest_unique_count_rises_with_values_that_are_new(events: Events) -> None:
    highest = []
    for value, quantity in (("a", 1), ("a", 1), ("b", 1), ("a", 0), ("c", 1), ("a", 1)):
        event = await events.add("2026-03-05", quantity, value=value)
        until = Arrival(event["received_at"], event["id"], with_it=True)
        highest.append((await events.one("unique_count_agg", with_highest=True, arrived=until)).highest)
    assert highest == [1, 1, 2, 2, 2, 3]


async def test_many_windows_are_one_statement(events: Events) -> None:
    for day in range(1, 11):
        await events.add(f"2026-03-{day:02d}T12:00:00Z", day)
    starts = [START + timedelta(days=day) for day in range(10)]
    windows = tuple(Window(events.subscription, at, at + timedelta(days=1)) for at in starts)
    async with events.world.database.transaction() as tx:
        rows = await PostgresUsageStore().usage(
            tx, events.world.org_id, UsageQuery(METRIC, "sum_agg", windows)
        )
        carried = await PostgresUsageStore().usage(
            tx, events.world.org_id, UsageQuery(METRIC, "sum_agg", windows, recurring=True)
        )
    assert [(row.window, row.units) for row in rows] == [(n, n + 1) for n in range(10)]
    assert [row.units for row in carried] == [(n + 1) * (n + 2) // 2 for n in range(10)]
