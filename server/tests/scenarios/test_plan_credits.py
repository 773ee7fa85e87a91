"""The credits that plans include, from the first grant to the last: contract 4.2, told in dates."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from nozle_server.catalog.queries import get_plan
from nozle_server.credits.operations.grants import advance
from nozle_server.customers.queries import lock_customer
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.workflows.change_plan import change_plan
from world import World, audit, instant

pytestmark = pytest.mark.database

Row = tuple[str, str, str | None]


def of(amount: object, cadence: str = "period", system: str = "credits", **more: object) -> dict[str, Any]:
    return {"credit_system": system, "amount": amount, "cadence": cadence, **more}


async def grants(world: World, system: str = "credits", source: str = "plan") -> list[Row]:
    """(amount, granted on, expires on) of each grant, in order."""
    rows = await world.fetch(
        """select g.amount, g.created_at, g.expires_at from credit_grants g
           join credit_accounts a on a.org_id = g.org_id and a.id = g.account_id
           where g.org_id = $1 and a.credit_system = $2 and g.source = $3 order by g.created_at, g.id""",
        system,
        source,
    )
    return [
        (
            f"{row['amount'].normalize():f}",
            row["created_at"].date().isoformat(),
            row["expires_at"] and row["expires_at"].date().isoformat(),
        )
        for row in rows
    ]


async def a_gpu_system(world: World) -> None:
    await world.post("/core/api/v1/credit-systems", {"credit_system": {"code": "gpu"}})


async def test_a_month_grant_on_a_yearly_plan(world: World) -> None:
    """Its months are counted from the subscription's anchor, never from the month before: 31 Jan, 28 Feb, 31 Mar. What is
    left of a month is gone with it; the year's own credits last the year."""
    await world.turn("2026-01-31")
    await world.a_customer()
    await world.a_plan(interval="yearly", credits=1000, credit_grants=[of(10, "month")])
    await world.subscribe("acme", "pro")
    assert await world.balance("acme") == 1010
    assert await world.deduct("acme", 4) == (True, Decimal(1006))
    await world.turn("2026-02-27")
    assert await world.balance("acme") == 1006
    # The month's is spent first, as it expires first: 6 of it are gone, and 10 come.
    await world.turn("2026-02-28")
    assert await world.balance("acme") == 1010
    await world.turn("2027-01-30")
    months = [
        "01-31",
        "02-28",
        "03-31",
        "04-30",
        "05-31",
        "06-30",
        "07-31",
        "08-31",
        "09-30",
        "10-31",
        "11-30",
    ]
    days = [*(f"2026-{day}" for day in months), "2026-12-31", "2027-01-31"]
    assert await grants(world) == [
        ("1000", "2026-01-31", "2027-01-31"),
        *(("10", start, end) for start, end in pairwise(days)),
    ]
    await world.turn("2027-01-31")
    assert sorted((await grants(world))[-2:]) == [
        ("10", "2027-01-31", "2027-02-28"),
        ("1000", "2027-01-31", "2028-01-31"),
    ]
    assert await world.balance("acme") == 1010
    await audit(world)


@pytest.mark.parametrize(
    ("interval", "cadence", "days"),
    [
        ("weekly", "month", ["2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"]),
        ("quarterly", "month", ["2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"]),
        ("monthly", "year", ["2026-01-15", "2027-01-15", "2028-01-15", "2029-01-15"]),
        ("weekly", "year", ["2026-01-15", "2027-01-15", "2028-01-15", "2029-01-15"]),
        ("yearly", "year", ["2026-01-15", "2027-01-15", "2028-01-15", "2029-01-15"]),
        ("monthly", "month", ["2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"]),
    ],
)
async def test_a_cadence_has_boundaries_of_its_own(
    world: World, interval: str, cadence: str, days: Sequence[str]
) -> None:
    """Whatever the plan's interval is; the clock turned at once over all of them."""
    await world.turn(days[0])
    await world.a_customer()
    await world.a_plan(interval=interval, credit_grants=[of(10, cadence)])
    await world.subscribe("acme", "pro")
    await world.turn(days[2])
    assert await grants(world) == [("10", start, end) for start, end in pairwise(days)]
    await audit(world)


async def test_calendar_months_of_a_calendar_plan(world: World) -> None:
    """With calendar billing the first month is the rest of it."""
    await world.turn("2026-01-15")
    await world.a_customer()
    await world.a_plan(interval="yearly", credit_grants=[of(10, "month")])
    await world.assign("acme", "pro", "team")
    await world.turn("2026-03-01")
    assert await grants(world) == [
        ("10", "2026-01-15", "2026-02-01"),
        ("10", "2026-02-01", "2026-03-01"),
        ("10", "2026-03-01", "2026-04-01"),
    ]


async def test_a_start_in_the_past_brings_what_runs(world: World) -> None:
    """Not the months that are over."""
    await world.turn("2026-04-20")
    await world.a_customer()
    await world.a_plan(interval="yearly", credits=100, credit_grants=[of(10, "month"), of(5, "lifetime")])
    await world.assign(
        "acme", "pro", "team", subscription_at="2026-01-15T00:00:00Z", billing_time="anniversary"
    )
    await world.turn("2026-05-15")
    assert sorted(await grants(world)) == [
        ("10", "2026-04-20", "2026-05-15"),
        ("10", "2026-05-15", "2026-06-15"),
        ("100", "2026-04-20", "2027-01-15"),
        ("5", "2026-04-20", None),
    ]


async def test_lifetime_credits_come_once_in_a_chain(world: World) -> None:
    """They never expire, renewals bring none, an upgrade what its target exceeds, a downgrade nothing and takes nothing."""
    await world.turn("2026-01-01")
    await world.a_customer()
    for code, cents, credits in (("low", 100, 20), ("mid", 200, 50), ("high", 300, 40)):
        await world.a_plan(code=code, amount_cents=cents, credit_grants=[of(credits, "lifetime")])
    await world.subscribe("acme", "low")
    await world.deduct("acme", 5)
    await world.turn("2026-03-10")
    assert await world.balance("acme") == 15
    await world.change_plan("acme", "mid")
    assert await world.balance("acme") == 45
    await world.change_plan("acme", "high")
    await world.change_plan("acme", "low")
    await world.turn("2027-06-01")
    assert await grants(world) == [("20", "2026-01-01", None), ("30", "2026-03-10", None)]
    assert await world.balance("acme") == 45
    await audit(world)


async def test_another_chain_brings_its_own_lifetime_credits(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credit_grants=[of(20, "lifetime")])
    await world.assign("acme", "pro", "one")
    await world.assign("acme", "pro", "two")
    assert await world.balance("acme") == 40


async def test_an_upgrade_brings_what_its_target_exceeds_in_each_system(world: World) -> None:
    """max(target - granted for this time, 0) by system and time, whatever was spent; all of it with the next period."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await a_gpu_system(world)
    await world.a_plan(
        code="starter", amount_cents=100, credits=10, credit_grants=[of(60, system="gpu"), of(7, "lifetime")]
    )
    await world.a_plan(
        code="pro",
        amount_cents=900,
        credits=50,
        credit_grants=[of(40, system="gpu"), of(5, "lifetime"), of(9, "year")],
    )
    await world.subscribe("acme", "starter")
    await world.deduct("acme", 17)
    await world.at("2026-01-16").change_plan("acme", "pro")
    assert await world.balance("acme") == 40 + 9
    assert await grants(world, "gpu") == [("60", "2026-01-01", "2026-02-01")]
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 50 + 9
    assert (await grants(world, "gpu"))[1:] == [("40", "2026-02-01", "2026-03-01")]
    await audit(world)


async def test_an_upgrade_within_months_of_their_own(world: World) -> None:
    """A month that runs is topped up, not granted anew, also where the plans' periods differ."""
    await world.turn("2026-01-15")
    await world.a_customer()
    await world.a_plan(code="monthly", amount_cents=100, credits=10)
    await world.a_plan(
        code="yearly", amount_cents=9000, interval="yearly", credit_grants=[of(25, "month"), of(100, "year")]
    )
    await world.subscribe("acme", "monthly")
    await world.at("2026-02-20").change_plan("acme", "yearly")
    await world.turn("2026-03-15")
    assert sorted((await grants(world))[2:]) == [
        ("100", "2026-02-20", "2027-01-15"),
        ("15", "2026-02-20", "2026-03-15"),
        ("25", "2026-03-15", "2026-04-15"),
    ]
    await audit(world)


async def test_a_yearly_plan_counts_what_the_year_has_granted(world: World) -> None:
    """From a monthly plan to one that grants for the year: the months that the year has had count."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(code="monthly", amount_cents=100, credits=10)
    await world.a_plan(code="yearly", amount_cents=9000, interval="yearly", credits=100)
    await world.subscribe("acme", "monthly")
    await world.at("2026-03-10").change_plan("acme", "yearly")
    assert (await grants(world))[-1] == ("70", "2026-03-10", "2027-01-01")


async def test_a_downgrade_brings_nothing_now_and_takes_nothing(world: World) -> None:
    """At its period's end the new plan's target; what the old one granted expires at its own boundary."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(code="pro", amount_cents=900, credits=50, credit_grants=[of(3, "year")])
    await world.a_plan(code="starter", amount_cents=100, credits=10)
    await world.subscribe("acme", "pro")
    await world.at("2026-01-10").change_plan("acme", "starter")
    assert await world.balance("acme") == 53
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 10 + 3
    await world.turn("2027-01-01")
    assert await world.balance("acme") == 10
    assert await grants(world) == [
        ("50", "2026-01-01", "2026-02-01"),
        ("3", "2026-01-01", "2027-01-01"),
        *(("10", f"2026-{month:02}-01", f"2026-{month + 1:02}-01") for month in range(2, 12)),
        ("10", "2026-12-01", "2027-01-01"),
        ("10", "2027-01-01", "2027-02-01"),
    ]
    await audit(world)


@pytest.mark.parametrize("policy", ["immediate", "end_of_period"])
async def test_a_cancellation_lets_credits_expire_at_their_own_boundary(world: World, policy: str) -> None:
    """And nothing comes after it, neither with a period nor with a month."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(interval="quarterly", credits=30, credit_grants=[of(10, "month")])
    subscription = await world.subscribe("acme", "pro")
    await world.at("2026-02-10").cancel(subscription, cancellation_policy=policy)
    assert await world.balance("acme") == 40
    await world.turn("2026-03-01")
    assert await world.balance("acme") == (30 if policy == "immediate" else 40)
    await world.turn("2026-04-01")
    assert await world.balance("acme") == 0
    assert len(await grants(world)) == (3 if policy == "immediate" else 4)
    await world.turn("2027-01-01")
    assert len(await grants(world)) == (3 if policy == "immediate" else 4)
    await audit(world)


async def test_years_at_once_are_as_day_by_day(world: World, other_world: World) -> None:
    """The clock turned in one go grants what it grants in steps."""
    for one in (world, other_world):
        await one.turn("2024-02-29")
        await one.a_customer()
        await one.a_plan(interval="weekly", credits=1, credit_grants=[of(2, "month"), of(3, "year")])
        await one.subscribe("acme", "pro")
    await world.turn("2025-03-05")
    for month in range(1, 13):
        await other_world.turn(f"2024-{month:02}-28" if month > 2 else "2024-03-01")
    await other_world.turn("2025-03-05")
    found = await grants(world)
    assert found == await grants(other_world)
    # 53 weeks, 12 months and a second one that began, and two years.
    assert [sum(row[0] == str(n) for row in found) for n in (1, 2, 3)] == [53, 13, 2]
    assert await world.transactions("acme") == await other_world.transactions("acme")
    await audit(world)


async def test_a_late_worker_changes_nothing(world: World) -> None:
    """A change of plan finds the months that nobody has granted yet, and grants them first."""
    await world.turn("2026-01-15")
    await world.a_customer()
    await world.a_plan(code="old", amount_cents=100, interval="yearly", credit_grants=[of(30, "month")])
    await world.a_plan(code="new", amount_cents=900, interval="yearly", credit_grants=[of(10, "month")])
    await world.subscribe("acme", "old")

    async def late(tx: Any) -> None:
        customer = await lock_customer(tx, world.org_id, "acme")
        [running] = await subscriptions_store.list_of_customer(tx, world.org_id, customer.id)
        plan = await get_plan(tx, world.org_id, "new")
        now = instant("2026-03-20")
        await change_plan(tx, world.services.seams, subscription=running, version=plan.current, now=now)

    await world.database.run(late)
    assert await grants(world) == [
        ("30", "2026-01-15", "2026-02-15"),
        ("30", "2026-02-15", "2026-03-15"),
        ("30", "2026-03-15", "2026-04-15"),
    ]
    await world.turn("2026-04-15")
    assert (await grants(world))[3:] == [("10", "2026-04-15", "2026-05-15")]
    await audit(world)


async def test_a_new_version_reaches_subscribers_with_their_next_period(world: World) -> None:
    """What a plan grants is versioned: subscribers keep theirs until they are migrated; lifetime credits are topped up."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credit_grants=[of(10), of(5, "lifetime")])
    await world.subscribe("acme", "pro")
    change = {"credit_grants": [of(20), of(8, "lifetime")]}
    await world.call("PUT", "/core/api/v1/plans/pro", {"plan": change})
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 15
    await world.call("PUT", "/core/api/v1/plans/pro", {"plan": {"name": "P", "cascade_updates": True}})
    assert await world.balance("acme") == 15
    await world.turn("2026-03-01")
    assert await world.balance("acme") == 20 + 5 + 3
    await audit(world)


async def test_priorities_decide_what_is_spent_first(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credit_grants=[of(10, priority=60), of(5, "lifetime", priority=40)])
    await world.subscribe("acme", "pro")
    await world.deduct("acme", 7)
    await world.turn("2026-02-01")
    # The five for ever went first, then two of the month; the rest of the month is gone.
    assert await world.balance("acme") == 10


# What is left is carried over.


async def carried(world: World, system: str = "credits") -> list[Row]:
    return await grants(world, system, "rollover")


async def test_what_is_left_is_carried_into_the_next_period_up_to_a_limit(world: World) -> None:
    """It expires with that period and is not carried again; it is spent before what the period brings."""
    await world.turn("2026-01-31")
    await world.a_customer()
    await world.a_plan(credits=100, credits_rollover={"limit": "30"})
    await world.subscribe("acme", "pro")
    await world.deduct("acme", 20)
    await world.turn("2026-02-28")
    assert await world.balance("acme") == 100 + 30
    await world.deduct("acme", 25)
    await world.turn("2026-03-31")
    # 5 of January's are gone; of February's 100, 30 come along.
    assert await world.balance("acme") == 100 + 30
    await world.deduct("acme", "129.5")
    await world.turn("2026-04-30")
    assert await world.balance("acme") == Decimal("100.5")
    await world.turn("2026-05-31")
    assert await world.balance("acme") == 130
    assert await carried(world) == [
        ("30", "2026-02-28", "2026-03-31"),
        ("30", "2026-03-31", "2026-04-30"),
        ("0.5", "2026-04-30", "2026-05-31"),
        ("30", "2026-05-31", "2026-06-30"),
    ]
    await audit(world)


async def test_without_a_limit_all_of_it_is_carried(world: World) -> None:
    """In any system, to the last digit; the clock turned over many periods at once: what was carried is not again."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await a_gpu_system(world)
    amount = "0.000000000003"
    await world.a_plan(credit_grants=[of(amount, system="gpu", priority=7, rollover={})])
    await world.subscribe("acme", "pro")
    await world.turn("2027-01-01")
    assert [row[0] for row in await carried(world, "gpu")] == [amount] * 12
    [row] = await world.fetch("select balance from credit_accounts where org_id = $1")
    assert row["balance"] == Decimal("0.000000000006")
    rows = await world.fetch("select distinct priority from credit_grants where org_id = $1")
    assert [row["priority"] for row in rows] == [7]
    await audit(world)


async def test_carrying_over_is_one_step(world: World) -> None:
    """No moment between: what expires, what is carried and what comes have one instant and one transaction."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credits=10, credits_rollover={"limit": None})
    await world.subscribe("acme", "pro")
    await world.turn("2026-02-01")
    assert await world.transactions("acme") == [
        ("grant", Decimal(10)),
        ("expire", Decimal(10)),
        ("grant", Decimal(10)),
        ("grant", Decimal(10)),
    ]
    rows = await world.fetch(
        "select count(distinct xmin::text) as n from ledger_entries where org_id = $1 and sequence > 1"
    )
    assert rows[0]["n"] == 1


async def test_what_was_written_off_before_the_period_opened_is_carried_all_the_same(world: World) -> None:
    """A deduction may come by before a late worker: it finds the old credits gone, and the renewal still carries them."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credits=10, credits_rollover={"limit": 4})
    await world.subscribe("acme", "pro")
    await world.deduct("acme", 3)
    [account] = await world.fetch("select id from credit_accounts where org_id = $1")
    late = instant("2026-02-01T00:00:05Z")

    async def write_off(tx: Any) -> None:
        bus = world.services.seams.change_bus
        await advance(tx, bus, org_id=world.org_id, account_id=account["id"], now=late)

    await world.database.run(write_off)
    await world.turn("2026-02-01T00:00:06Z")
    assert await carried(world) == [("4", "2026-02-01", "2026-03-01")]
    assert await world.balance("acme") == 14
    await audit(world)


async def test_months_of_a_longer_plan_are_carried_at_their_own_boundaries(world: World) -> None:
    """Through the year's end too, where month and year begin together."""
    await world.turn("2026-11-15")
    await world.a_customer()
    await world.a_plan(interval="yearly", credits=50, credit_grants=[of(10, "month", rollover={"limit": 4})])
    await world.assign("acme", "pro", "team")
    await world.turn("2027-02-01")
    assert await carried(world) == [
        ("4", "2026-12-01", "2027-01-01"),
        ("4", "2027-01-01", "2027-02-01"),
        ("4", "2027-02-01", "2027-03-01"),
    ]
    assert await world.balance("acme") == 50 + 10 + 4
    await audit(world)


async def test_an_upgraded_period_is_carried_as_one(world: World) -> None:
    """What both plans granted for it is left together, and the limit is of both."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(code="starter", amount_cents=100, credits=10)
    await world.a_plan(code="pro", amount_cents=900, credits=50, credits_rollover={"limit": 45})
    await world.subscribe("acme", "starter")
    await world.at("2026-01-16").change_plan("acme", "pro")
    await world.deduct("acme", 2)
    await world.turn("2026-02-01")
    assert [row[0] for row in await carried(world)] == ["8", "37"]
    assert await world.balance("acme") == 95
    await audit(world)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"limit": 30}, {"limit": 20}, ["20"]),
        ({"limit": 20}, {"limit": 30}, ["20"]),
        ({"limit": None}, {"limit": 25}, ["25"]),
        ({}, {}, ["50"]),
        ({"limit": 30}, None, []),
        (None, {"limit": 30}, []),
    ],
)
async def test_a_downgrade_carries_what_both_plans_allow(
    world: World, old: object, new: object, expected: Sequence[str]
) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(code="pro", amount_cents=900, credits=50, credits_rollover=old)
    await world.a_plan(code="starter", amount_cents=100, credits=10, credits_rollover=new)
    await world.subscribe("acme", "pro")
    await world.at("2026-01-10").change_plan("acme", "starter")
    await world.turn("2026-02-01")
    assert [row[0] for row in await carried(world)] == expected
    await audit(world)


async def test_an_end_carries_nothing(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credits=50, credits_rollover={})
    subscription = await world.subscribe("acme", "pro")
    await world.at("2026-01-10").cancel(subscription, cancellation_policy="end_of_period")
    await world.turn("2026-02-01")
    assert await carried(world) == []
    assert await world.balance("acme") == 0


async def test_two_subscriptions_carry_each_their_own(world: World) -> None:
    """The limit is of one subscription; other credits of the customer are not touched."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credits=10, credits_rollover={"limit": 6})
    await world.assign("acme", "pro", "one")
    await world.assign("acme", "pro", "two")
    await world.grant("acme", 5, expires_at="2026-02-01T00:00:00Z")
    await world.turn("2026-02-01")
    assert [row[0] for row in await carried(world)] == ["6", "6"]
    assert await world.balance("acme") == 32
    await audit(world)


async def test_a_new_version_with_a_rollover(world: World) -> None:
    """It begins with the next period, so it carries from the one after."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.a_plan(credits=10)
    await world.subscribe("acme", "pro")
    change = {"credits_rollover": {"limit": 5}, "cascade_updates": True}
    await world.call("PUT", "/core/api/v1/plans/pro", {"plan": change})
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 10
    await world.turn("2026-03-01")
    assert await world.balance("acme") == 15
    await audit(world)
