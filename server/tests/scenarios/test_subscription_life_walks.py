"""Random walks through subscriptions' lives, with the books audited at their end: reliability.md T02, T03."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from world import World, audit

pytestmark = pytest.mark.database

PLANS = ("free", "low", "mid", "top", "year", "week", "arrears")


async def a_market(world: World) -> None:
    await world.a_plan(code="free")
    await world.a_plan(code="low", amount_cents=1000, pay_in_advance=True)
    await world.a_plan(code="mid", amount_cents=2500, pay_in_advance=True, credits=10)
    await world.a_plan(code="top", amount_cents=9999, pay_in_advance=True)
    await world.a_plan(code="year", amount_cents=50000, interval="yearly", pay_in_advance=True)
    await world.a_plan(code="week", amount_cents=700, interval="weekly", pay_in_advance=True)
    await world.a_plan(code="arrears", amount_cents=4000)


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("seed", range(12))
async def test_any_sequence_of_changes_leaves_periods_that_tile(world: World, seed: int) -> None:
    """Upgrades, downgrades, cancellations and ends taken back in any order: one chain without gap or overlap, no usage
    billed twice, nothing put aside, and books that add up."""
    dice = random.Random(seed)
    now = datetime(2026, 1, 28, 9, tzinfo=UTC) + timedelta(days=dice.randrange(5))
    await world.turn(text(now))
    await a_market(world)
    zone = dice.choice(["UTC", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati"])
    await world.a_customer(timezone=zone)
    billing_time = dice.choice(["calendar", "anniversary"])
    await world.assign("acme", dice.choice(PLANS), "team", billing_time=billing_time)
    for _ in range(10):
        now += dice.choice(
            [
                timedelta(0),
                timedelta(seconds=1),
                timedelta(hours=5),
                timedelta(days=3),
                timedelta(days=20),
                timedelta(days=45),
            ]
        )
        await world.turn(text(now))
        deed = dice.random()
        if deed < 0.7:
            body = {"customer_id": "acme", "plan_code": dice.choice(PLANS)}
            answer = await world.call("POST", "/api/v1/billing/upgrade", body)
            assert answer.status in (200, 409)
        elif deed < 0.85:
            assert (await world.call("DELETE", "/api/v1/subscriptions/team")).status == 200
        else:
            body = {"subscription": {"ending_at": None}}
            answer = await world.call("PUT", "/core/api/v1/subscriptions/team", body)
            assert answer.status in (200, 404)
    await world.turn(text(now + timedelta(days=70)))
    lives = await world.fetch(
        """select status, started_at, terminated_at from subscriptions
           where org_id = $1 and status in ('active', 'terminated') order by started_at, created_at, id"""
    )
    assert all(one["terminated_at"] == two["started_at"] for one, two in itertools.pairwise(lives))
    assert all(one["status"] == "terminated" for one in lives[:-1])
    overlapping = await world.fetch(
        """select a.subscription_id from invoice_subscriptions a join invoice_subscriptions b
             on b.org_id = a.org_id and b.subscription_id = a.subscription_id
             and (b.charges_start, b.invoice_id) > (a.charges_start, a.invoice_id)
             and b.charges_start < a.charges_end and a.charges_start < b.charges_end
           where a.org_id = $1"""
    )
    assert overlapping == []
    parked = await world.fetch(
        "select kind, error from due_items where org_id = $1 and parked_at is not null"
    )
    assert parked == []
    await audit(world)


@pytest.mark.parametrize("day", ["2024-01-28", "2024-01-29", "2024-01-30", "2024-01-31", "2024-02-29"])
@pytest.mark.parametrize("plan", ["low", "year"])
async def test_the_day_of_the_anchor_clamps_and_returns(world: World, day: str, plan: str) -> None:
    """T02: 31 January, 29 February, 31 March; three years on, one invoice a period."""
    await world.turn(f"{day}T15:00:00Z")
    await a_market(world)
    await world.a_customer()
    await world.subscribe("acme", plan)
    await world.turn("2027-03-01")
    rows = await world.fetch(
        "select period_start::date as day from invoice_subscriptions where org_id = $1 order by period_start"
    )
    days = [row["day"] for row in rows]
    start = datetime.fromisoformat(day).date()
    for found in days:
        last = (found.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        assert found.day == min(start.day, last.day)
    months = [found.year * 12 + found.month for found in days]
    step = 12 if plan == "year" else 1
    assert months == list(range(months[0], months[0] + step * len(months), step))
    await audit(world)
