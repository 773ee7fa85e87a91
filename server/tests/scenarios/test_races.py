"""Many callers at once: one winner, exact totals, and no deadlock or half effect that a client could see."""

import asyncio
import itertools
from collections import Counter
from decimal import Decimal

import pytest

from world import Answer, World, audit

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}


@pytest.mark.parametrize(
    ("granted", "step"), [("100", "5"), ("3", "0.1"), ("0.3", "0.01"), ("6", "0.3"), ("1000", "1")]
)
async def test_parallel_deductions_take_exactly_what_is_there(world: World, granted: str, step: str) -> None:
    """M01: of 50 at once exactly as many succeed as the balance covers, and `remaining` walks down the staircase."""
    await world.a_customer()
    await world.grant("acme", Decimal(granted))
    amount, balance = Decimal(step), Decimal(granted)
    answers = await asyncio.gather(*(world.deduct("acme", amount) for _ in range(50)))
    affordable = min(50, int(balance / amount))
    assert sum(allowed for allowed, _ in answers) == affordable
    stairs = sorted((remaining for allowed, remaining in answers if allowed), reverse=True)
    assert stairs == [balance - amount * n for n in range(1, affordable + 1)]
    assert {remaining for allowed, remaining in answers if not allowed} <= {balance - amount * affordable}
    assert await world.balance("acme") == balance - amount * affordable
    await audit(world)


async def test_one_key_at_once_is_one_deduction(world: World) -> None:
    """M04, M05: 20 calls with one Idempotency-Key have one effect and get the same bytes; another body is a 409."""
    await world.a_customer()
    await world.grant("acme", 100)
    body = {"customer_id": "acme", "feature": "chat", "credits": 5}

    async def send(body: object) -> Answer:
        return await world.call("POST", "/api/v1/check-and-deduct", body, headers={"Idempotency-Key": "once"})

    answers = await asyncio.gather(*(send(body) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sum(answer.replayed for answer in answers) == 19
    other = await send({**body, "credits": 6})
    assert (other.status, other.code) == (409, "idempotency_key_reused")
    assert await world.balance("acme") == 95
    await audit(world)


async def test_first_grants_at_once_share_one_account(world: World) -> None:
    """Ten grants to a customer who never had credits: all of them count, on one account."""
    await world.a_customer()
    given = await asyncio.gather(*(world.grant("acme", n) for n in range(1, 11)))
    assert await world.balance("acme") == 55
    assert max(Decimal(one["balance"]) for one in given) == 55
    assert len(await world.fetch("select id from credit_accounts where org_id = $1")) == 1
    await audit(world)


async def test_grants_and_deductions_at_once_add_up(world: World) -> None:
    """M02 in small: whatever the order, what is left is what came in less what was allowed out."""
    await world.a_customer()
    deeds = [world.grant("acme", 3) if n % 3 == 0 else world.deduct("acme", 2) for n in range(60)]
    answers = await asyncio.gather(*deeds)
    taken = sum(2 for one in answers if isinstance(one, tuple) and one[0])
    assert await world.balance("acme") == 60 - taken
    await audit(world)


async def test_the_same_event_at_once_is_stored_once(world: World) -> None:
    """I01: 20 copies of one event, each with another timestamp: one is stored, 19 are replays of it."""
    await _a_subscriber(world)
    event = {
        "transaction_id": "same",
        "external_customer_id": "acme",
        "code": "tokens",
        "properties": {"n": 7},
    }

    async def send(second: int) -> Answer:
        at = f"2026-01-01T00:00:{second:02d}Z"
        return await world.call("POST", "/api/v1/events", {"event": {**event, "timestamp": at}})

    answers = await asyncio.gather(*(send(second) for second in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.replayed for answer in answers) == 19
    assert len({answer.json["event"]["nozle_id"] for answer in answers}) == 1
    assert (await world.can("acme"))["used"] == 7
    await audit(world)


async def test_subscribing_at_once_makes_one_subscription(world: World) -> None:
    """Ten calls at once: one subscription, one grant of the plan's credits, one first invoice."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=500, pay_in_advance=True, credits=10)
    await world.a_customer()
    ids = await asyncio.gather(*(world.subscribe("acme", "pro") for _ in range(10)))
    assert len(set(ids)) == 1
    assert await world.balance("acme") == 10
    assert len(await world.invoices("acme")) == 1
    await audit(world)


async def test_subscribing_to_two_plans_at_once_has_one_winner(world: World) -> None:
    """Decision 16: one current subscription; who comes second to another plan gets a 409."""
    await world.turn("2026-01-01")
    await world.a_plan(code="pro")
    await world.a_plan(code="max")
    await world.a_customer()
    answers = await asyncio.gather(
        *(
            world.call("POST", "/api/v1/subscribe", {"customer_id": "acme", "plan_code": plan})
            for plan in ("pro", "max") * 5
        )
    )
    assert Counter(answer.status for answer in answers) == {200: 5, 409: 5}
    assert {answer.code for answer in answers if answer.status == 409} == {"subscription_exists"}
    await audit(world)


async def test_batches_with_common_ids_in_opposite_order_never_deadlock(world: World) -> None:
    """M09, I03: eight batches at once over the same ids, forwards and backwards: each event is stored by one of them."""
    await _a_subscriber(world)
    for code, how in (("top", "max_agg"), ("last", "latest_agg"), ("users", "unique_count_agg")):
        await world.a_metric(code=code, how=how)
    codes = ("tokens", "top", "last", "users")
    events = [
        {
            "transaction_id": f"e{n:03d}",
            "customer_id": "acme",
            "code": codes[n % 4],
            "properties": {"n": n % 17},
        }
        for n in range(200)
    ]
    orders = [events, events[::-1]] * 4
    answers = await asyncio.gather(
        *(world.call("POST", "/api/v1/events/batch", {"events": order}) for order in orders)
    )
    assert {answer.status for answer in answers} == {200}
    fates = Counter(row["status"] for answer in answers for row in answer.json["events"])
    assert fates == {"accepted": 200, "replayed": 1400}
    await audit(world)


async def test_events_racing_the_period_end_are_each_on_one_side(world: World) -> None:
    """I06, T08: an event of January sent while January is closed is either on its invoice or flagged late."""
    await _a_subscriber(world)
    await world.turn("2026-01-31T23:59:00Z")

    answered, under_way = 0, asyncio.Event()

    async def lane(first: int) -> list[str]:
        # Each event waits for the one before in its lane, so that they keep coming while the period closes.
        nonlocal answered
        fates = []
        for n in range(first, 240, 8):
            stored = await world.use("acme", 1, id=f"e{n}", timestamp="2026-01-31T23:59:30Z")
            fates.append(stored["billing_status"])
            answered += 1
            if answered == 60:
                under_way.set()
        return fates

    async def close() -> list[str]:
        await under_way.wait()
        await world.turn("2026-02-01")
        return []

    fates = Counter(fate for fates in await asyncio.gather(*map(lane, range(8)), close()) for fate in fates)
    assert fates["counted"] + fates["late"] == 240
    assert fates["counted"] >= 60
    assert await world.units("acme") == fates["counted"]
    stored = await world.fetch("select status, count(*) as n from events where org_id = $1 group by 1")
    assert {row["status"]: row["n"] for row in stored} == dict(fates)
    await audit(world)


async def test_the_clock_turned_by_many_at_once_bills_once(world: World) -> None:
    """Decision 23, K06: concurrent turns take turns: each period has one invoice, numbers have no gap."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=100, credits=1)
    for n in range(5):
        await world.a_customer(f"c{n}")
        await world.subscribe(f"c{n}", "pro")
    await asyncio.gather(*(world.turn(f"2026-0{month}-15") for month in (2, 4, 3, 4, 4)))
    for n in range(5):
        invoices = await world.invoices(f"c{n}")
        assert [one["period_end"] for one in invoices] == [f"2026-0{m}-01T00:00:00Z" for m in (2, 3, 4)]
        assert await world.balance(f"c{n}") == 1
    assert (await world.get("/api/v1/test-clock"))["now"] == "2026-04-15T00:00:00Z"
    await audit(world)


async def _a_subscriber(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(charges=[STANDARD], entitlements={"chat": {"limit": 1000}})
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def _a_chain(world: World) -> str:
    await world.turn("2026-01-01")
    for plan, amount in (("small", 1000), ("mid", 2000), ("big", 3000)):
        await world.a_plan(code=plan, amount_cents=amount, pay_in_advance=True, credits=amount)
    await world.a_customer()
    subscription = await world.subscribe("acme", "small")
    await world.turn("2026-01-16")
    return subscription


async def _one_runs(world: World) -> str:
    """Exactly one of the chain is active, nothing of it overlaps, and the invoices less the credits are what it cost."""
    rows = await world.fetch(
        """select s.status, s.started_at, s.terminated_at, p.code from subscriptions s
           join plans p on p.org_id = s.org_id and p.id = s.plan_id
           where s.org_id = $1 and s.status in ('active', 'terminated') order by s.started_at, s.created_at, s.id"""
    )
    for one, two in itertools.pairwise(rows):
        assert one["terminated_at"] == two["started_at"]
    assert [row["status"] for row in rows].count("active") <= 1
    await audit(world)
    return str(rows[-1]["code"])


async def test_the_same_upgrade_ten_times_at_once_is_one(world: World) -> None:
    await _a_chain(world)
    body = {"customer_id": "acme", "plan_code": "big"}
    answers = await asyncio.gather(*(world.call("POST", "/api/v1/billing/upgrade", body) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["direction"] == "upgrade" for answer in answers) == 1
    assert await _one_runs(world) == "big"
    assert len(await world.invoices("acme")) == 2
    assert await world.balance("acme") == 3000


async def test_upgrades_to_two_plans_at_once_leave_one_plan(world: World) -> None:
    """One after the other, in whichever order: the last word counts, and every day is paid once."""
    await _a_chain(world)
    answers = await asyncio.gather(
        *(
            world.call("POST", "/api/v1/billing/upgrade", {"customer_id": "acme", "plan_code": plan})
            for plan in ("mid", "big") * 4
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert await _one_runs(world) == "big"


async def test_a_cancellation_and_an_upgrade_at_once(world: World) -> None:
    """Whichever comes first: either it is upgraded and then cancelled, or cancelled and there is nothing to upgrade."""
    subscription = await _a_chain(world)
    upgrade, cancelled = await asyncio.gather(
        world.call("POST", "/api/v1/billing/upgrade", {"customer_id": "acme", "plan_code": "big"}),
        world.call("DELETE", f"/api/v1/subscriptions/{subscription}?cancellation_policy=immediate"),
    )
    assert cancelled.status == 200
    assert upgrade.status in (200, 409)
    await _one_runs(world)
    assert (await world.get("/api/v1/billing/status", customer_id="acme"))["status"] == "canceled"


async def test_a_period_end_and_an_upgrade_at_once(world: World) -> None:
    """The upgrade falls before the end or after it, never across: each boundary is invoiced once."""
    await _a_chain(world)
    await world.turn("2026-01-31T23:59:59Z")
    upgrade, _ = await asyncio.gather(
        world.call("POST", "/api/v1/billing/upgrade", {"customer_id": "acme", "plan_code": "big"}),
        world.turn("2026-02-01"),
    )
    assert upgrade.status == 200
    assert await _one_runs(world) == "big"
    await world.turn("2026-03-01")
    assert (await world.last_invoice("acme"))["total_amount_cents"] == 3000
    await audit(world)
