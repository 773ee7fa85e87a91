"""Many who change the same invoice, coupon, wallet, note or subscription at once: one winner each, and books that add up."""

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from world import Answer, World, audit

pytestmark = pytest.mark.database

CORE = "/core/api/v1"
STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}


async def send(world: World, method: str, path: str, body: object = None, **headers: str) -> Answer:
    return await world.call(method, CORE + path, body, headers=headers)


async def a_shop(world: World, **customer: object) -> None:
    """An add-on of 10.00, and acme, who buys it."""
    await world.turn("2026-01-01")
    add_on = {"code": "setup", "name": "Setup", "amount_cents": 1000, "amount_currency": "USD"}
    await world.post(CORE + "/add_ons", {"add_on": add_on})
    await world.a_customer(currency="USD", **customer)


def one_off(units: int = 1) -> dict[str, object]:
    fees = [{"add_on_code": "setup", "units": units}]
    return {"invoice": {"external_customer_id": "acme", "currency": "USD", "fees": fees}}


async def an_invoice(world: World, units: int = 1) -> Any:
    return (await world.post(CORE + "/invoices", one_off(units)))["invoice"]


async def a_coupon(world: World, cents: int, **terms: object) -> None:
    wanted = {"code": "c", "name": "c", "coupon_type": "fixed_amount", "amount_cents": cents, **terms}
    wanted |= {"amount_currency": "USD", "expiration": "no_expiration"}
    await world.post(CORE + "/coupons", {"coupon": {"frequency": "once", **wanted}})
    given = {"external_customer_id": "acme", "coupon_code": "c"}
    await world.post(CORE + "/applied_coupons", {"applied_coupon": given})


async def test_invoices_at_once_share_one_wallet(world: World) -> None:
    """Of eight invoices of 10.00 at once, a wallet of 45.00 pays four and a half."""
    await a_shop(world)
    await world.a_wallet(granted_credits="45")
    made = await asyncio.gather(*(an_invoice(world) for _ in range(8)))
    paid = Counter(one["prepaid_credit_amount_cents"] for one in made)
    assert paid == {1000: 4, 500: 1, 0: 3}
    assert sorted(one["number"] for one in made) == [f"INV-{n:03d}" for n in range(1, 9)]
    await audit(world)


async def test_a_coupon_for_once_is_used_once_by_invoices_at_once(world: World) -> None:
    """What is left of it, and nothing more: 25.00 on periods of 10.00 that end at one instant, each on its own."""
    await a_shop(world)
    await world.a_plan(amount_cents=1000, pay_in_advance=True)
    await a_coupon(world, 2500)
    await asyncio.gather(*(world.assign("acme", "pro", f"s{n}") for n in range(5)))
    used = Counter(one["coupons_amount_cents"] for one in (await world.get(CORE + "/invoices"))["invoices"])
    assert used == {1000: 2, 500: 1, 0: 2}
    await audit(world)


async def test_invoices_at_once_share_one_credit_note(world: World) -> None:
    await a_shop(world)
    bought = await an_invoice(world, units=3)
    items = [{"fee_id": bought["fees"][0]["lago_id"], "amount_cents": 2500}]
    note = {"invoice_id": bought["lago_id"], "credit_amount_cents": 2500, "items": items}
    await world.post(CORE + "/credit_notes", {"credit_note": note})
    made = await asyncio.gather(*(an_invoice(world) for _ in range(5)))
    assert Counter(one["credit_notes_amount_cents"] for one in made) == {1000: 2, 500: 1, 0: 2}
    await audit(world)


async def test_a_fee_is_taken_back_once(world: World) -> None:
    """Ten notes at once over the whole of one fee."""
    await a_shop(world)
    invoice = await an_invoice(world)
    items = [{"fee_id": invoice["fees"][0]["lago_id"], "amount_cents": 1000}]
    note = {"credit_note": {"invoice_id": invoice["lago_id"], "credit_amount_cents": 1000, "items": items}}
    answers = await asyncio.gather(*(send(world, "POST", "/credit_notes", note) for _ in range(10)))
    assert Counter(answer.status for answer in answers) == {200: 1, 422: 9}
    await audit(world)


async def test_an_invoice_is_paid_once(world: World) -> None:
    """Ten payments of the whole at once; and ten under one Idempotency-Key, which are one."""
    await a_shop(world)
    first, second = await an_invoice(world), await an_invoice(world)

    def payment(invoice: Any, cents: int) -> dict[str, object]:
        return {"payment": {"invoice_id": invoice["lago_id"], "amount_cents": cents}}

    answers = await asyncio.gather(
        *(send(world, "POST", "/payments", payment(first, 1000)) for _ in range(10))
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 422: 9}
    keyed = {"Idempotency-Key": "wire"}
    answers = await asyncio.gather(
        *(send(world, "POST", "/payments", payment(second, 300), **keyed) for _ in range(10))
    )
    assert len({answer.body for answer in answers}) == 1
    assert sum(answer.replayed for answer in answers) == 9
    shown = (await world.get(f"{CORE}/invoices/{second['lago_id']}"))["invoice"]
    assert shown["total_paid_amount_cents"] == 300
    await audit(world)


async def test_an_invoice_is_voided_or_paid_and_its_wallet_gets_its_money_back_once(world: World) -> None:
    await a_shop(world)
    await world.a_wallet(granted_credits="4")
    invoice = await an_invoice(world)
    path = f"/invoices/{invoice['lago_id']}"
    payment = {"payment": {"invoice_id": invoice["lago_id"], "amount_cents": 600}}
    voids = [send(world, "POST", f"{path}/void", {}) for _ in range(4)]
    pays = [send(world, "POST", "/payments", payment) for _ in range(4)]
    answers = await asyncio.gather(*voids, *pays)
    assert [answer.status for answer in answers].count(200) == 1
    [wallet] = (await world.get(CORE + "/wallets", external_customer_id="acme"))["wallets"]
    shown = (await world.get(CORE + path))["invoice"]
    assert (shown["status"], wallet["balance_cents"]) in (("voided", 400), ("finalized", 0))
    await audit(world)


async def test_a_draft_becomes_one_invoice_however_often_and_by_whom_it_is_finalized(world: World) -> None:
    """By hand eight times, refreshed four times, while events come, and by the end of its grace."""
    await a_shop(world, billing_configuration={"invoice_grace_period": 3})
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[STANDARD])
    await a_coupon(world, 400)
    await world.assign("acme", "pro", "s1")
    await world.turn("2026-02-01")
    [draft] = (await world.get(CORE + "/invoices", status="draft"))["invoices"]
    path = f"/invoices/{draft['lago_id']}"
    event = {"external_subscription_id": "s1", "timestamp": "2026-01-20T00:00:00Z"}
    answers = await asyncio.gather(
        *(send(world, "PUT", f"{path}/finalize") for _ in range(8)),
        *(send(world, "PUT", f"{path}/refresh") for _ in range(4)),
        *(world.call("POST", CORE + "/events", {"event": {
            "transaction_id": f"e{n}", "code": "tokens", "properties": {"n": 100}, **event}}) for n in range(8)),
        world.call("POST", "/api/v1/test-clock", {"now": "2026-02-04T00:00:00Z"}),
    )  # fmt: skip
    assert [answer.status for answer in answers[:8]].count(200) <= 1
    assert {answer.status for answer in answers} <= {200, 404}
    [invoice] = (await world.get(CORE + "/invoices"))["invoices"]
    counted = await world.fetch("select count(*) as n from events where org_id = $1 and status = 'counted'")
    late = await world.fetch("select count(*) as n from events where org_id = $1 and status = 'late'")
    assert (invoice["status"], invoice["coupons_amount_cents"]) == ("finalized", 400)
    assert invoice["fees_amount_cents"] == 1000 + 100 * counted[0]["n"]
    assert counted[0]["n"] + late[0]["n"] == 8
    await audit(world)


async def test_everything_at_the_end_of_a_period(world: World) -> None:
    """At one instant: the period ends, a dearer plan is wanted, the subscription is to end, events come, the plan moves to
    another version, previews are asked for. Whatever comes first, the periods tile and each is billed once."""
    await a_shop(world)
    await world.a_metric()
    for plan, amount in (("small", 1000), ("big", 3000)):
        await world.a_plan(code=plan, amount_cents=amount, pay_in_advance=True, charges=[STANDARD])
    await world.assign("acme", "small", "s1")
    await world.call("PUT", CORE + "/plans/small", {"plan": {"amount_cents": 1200}})
    await world.turn("2026-01-31T23:59:59Z")
    change = {"customer_id": "acme", "plan_code": "big"}
    preview = {"customer": {"external_id": "acme"}, "subscriptions": {"external_ids": ["s1"]}}
    assigned = {"subscription": {"external_customer_id": "acme", "plan_code": "big", "external_id": "s1"}}
    answers = await asyncio.gather(
        world.call("POST", "/api/v1/test-clock", {"now": "2026-02-01T00:00:00Z"}),
        world.call("POST", "/api/v1/billing/upgrade", change),
        send(world, "POST", "/subscriptions", assigned),
        send(world, "POST", "/plans/small/version-migrations", {"from_version": 1}),
        send(world, "DELETE", "/subscriptions/s1"),
        *(send(world, "POST", "/invoices/preview", preview) for _ in range(4)),
        *(world.call("POST", CORE + "/events", {"event": {"transaction_id": f"e{n}", "code": "tokens",
            "properties": {"n": 1}, "external_subscription_id": "s1"}}) for n in range(6)),
    )  # fmt: skip
    assert {answer.status for answer in answers} <= {200, 404, 405, 409, 422}
    await world.turn("2026-04-01")
    chain = await world.fetch(
        "select started_at, terminated_at, status from subscriptions where org_id = $1 order by started_at, created_at"
    )
    assert [one["status"] for one in chain].count("active") <= 1
    twice = await world.fetch(
        """select subscription_id from invoice_lines where org_id = $1
           group by subscription_id, charge_id, kind, period_start having count(*) > 1"""
    )
    assert not twice
    await audit(world)


async def test_a_customer_deleted_while_it_is_billed(world: World) -> None:
    """Its last invoice is there once; the wallet is empty of what it paid, and nothing is billed afterwards."""
    await a_shop(world)
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[STANDARD])
    await world.a_wallet(granted_credits="30")
    await world.assign("acme", "pro", "s1")
    await world.turn("2026-01-31T23:59:59Z")
    await asyncio.gather(
        world.turn("2026-02-01"),
        *(send(world, "DELETE", "/customers/acme") for _ in range(3)),
        *(send(world, "POST", "/invoices", one_off()) for _ in range(3)),
    )
    await world.turn("2026-05-01")
    rows = await world.fetch(
        "select count(*) as n, sum(prepaid_credit_amount_cents) as paid from invoices where org_id = $1"
    )
    taken = await world.fetch(
        "select sum(amount) as amount from ledger_entries where org_id = $1 and amount < 0 and type <> 'void'"
    )
    assert rows[0]["n"] in (1, 2, 3, 4, 5)
    assert Decimal(rows[0]["paid"]) <= 3000
    assert taken[0]["amount"] is not None
    live = await world.fetch("select id from subscriptions where org_id = $1 and status = 'active'")
    assert not live
    await audit(world)


async def test_a_preview_that_waits_for_a_change_of_plan_shows_the_new_plan(world: World) -> None:
    """What a request looked up before its customer was free may be over by then."""
    await a_shop(world)
    await world.a_plan(code="small", amount_cents=1000)
    await world.a_plan(code="big", amount_cents=3000)
    await world.assign("acme", "small", "s1")
    change = {"customer_id": "acme", "plan_code": "big"}
    preview = {"customer": {"external_id": "acme"}, "subscriptions": {"external_ids": ["s1"]}}
    async with world.database.transaction() as tx:
        await tx.execute("select 1 from customers where org_id = $1 for update", world.org_id)
        changed = asyncio.create_task(world.call("POST", "/api/v1/billing/upgrade", change))
        await _waiting(world, 1)
        shown = asyncio.create_task(send(world, "POST", "/invoices/preview", preview))
        await _waiting(world, 2)
    assert (await changed).status == 200
    lines = (await shown).json["invoice"]["fees"]
    assert [one["amount_cents"] for one in lines] == [3000]


async def _waiting(world: World, count: int) -> None:
    """Until so many transactions wait for a lock."""
    while True:
        async with world.database.as_owner() as connection:
            waiting = await connection.fetchval(
                """select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'"""
            )
        if waiting >= count:
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("in_advance", [True, False])
async def test_what_ends_in_the_instant_its_period_begins_is_not_billed_twice(
    world: World, in_advance: bool
) -> None:
    """The period before was closed and invoiced; a cancellation or an upgrade at that very instant ends nothing more."""
    await a_shop(world)
    await world.a_metric()
    for plan, amount in (("small", 1000), ("big", 3000)):
        terms = {
            "pay_in_advance": in_advance,
            "charges": [STANDARD],
            "minimum_commitment": {"amount_cents": 2000},
        }
        await world.a_plan(code=plan, amount_cents=amount, **terms)
    for name in ("s1", "s2"):
        await world.assign("acme", "small", name)
        await world.use("acme", 600, external_subscription_id=name, timestamp="2026-01-01T00:00:00Z")
    await world.turn("2026-02-01")
    await world.call("DELETE", CORE + "/subscriptions/s1")
    await world.assign("acme", "big", "s2")
    await world.turn("2026-02-02")
    lines = await world.fetch(
        """select subscription_id, kind, count(*) as n from invoice_lines
           where org_id = $1 and period_start = '2026-01-01' group by 1, 2"""
    )
    assert sorted((one["kind"], one["n"]) for one in lines) == [
        *[("charge", 1)] * 2,
        *[("commitment", 1)] * 2,
        *[("subscription", 1)] * 2,
    ]
    await audit(world)
