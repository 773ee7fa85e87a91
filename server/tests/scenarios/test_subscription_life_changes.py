"""Stories of changes of plan: upgrades at once, downgrades at the period's end, previews, and taking things back."""

from decimal import Decimal
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

TOKENS = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.10"}}


async def a_market(world: World) -> None:
    """Starter 29.00 and pro 99.00 a month in advance, twin as starter; payg and big in arrears; year 120.00 a year."""
    await world.a_metric()
    await world.a_plan(code="starter", amount_cents=2900, pay_in_advance=True, charges=[TOKENS])
    await world.a_plan(code="twin", amount_cents=2900, pay_in_advance=True, charges=[TOKENS])
    await world.a_plan(code="pro", amount_cents=9900, pay_in_advance=True, charges=[TOKENS])
    await world.a_plan(code="payg", amount_cents=3100, charges=[TOKENS])
    await world.a_plan(code="big", amount_cents=6200, charges=[TOKENS])
    await world.a_plan(code="year", amount_cents=240000, interval="yearly", pay_in_advance=True)
    await world.a_customer()


async def credited(world: World) -> list[int]:
    rows = await world.fetch(
        "select total_amount_cents from credit_notes where org_id = $1 order by created_at, sequential_id"
    )
    return [int(row["total_amount_cents"]) for row in rows]


async def totals(world: World, customer: str = "acme") -> list[int]:
    return [one["total_amount_cents"] for one in await world.invoices(customer)]


async def rows(world: World) -> list[Any]:
    """What the database holds of the organization, counted."""
    tables = (
        "subscriptions", "invoices", "invoice_lines", "invoice_subscriptions", "due_items", "outbox", "credit_notes",
        "credit_grants", "ledger_entries", "organization_counters", "invoice_credits",
    )  # fmt: skip
    return [
        await world.fetch(f"select t.*::text from {one} t where org_id = $1 order by 1") for one in tables
    ]


async def chain(world: World, external_id: str) -> list[Any]:
    return list(
        await world.fetch(
            """select s.status, s.started_at, s.terminated_at, p.code from subscriptions s
               join plans p on p.org_id = s.org_id and p.id = s.plan_id
               where s.org_id = $1 and s.external_id = $2 and s.status <> 'canceled' order by s.started_at, s.created_at""",
            external_id,
        )
    )


async def test_an_upgrade_in_mid_month(world: World) -> None:
    """16 of 31 days are left: credited of the old plan, charged of the new, on one invoice that the credit pays."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "starter")
    changed = await world.at("2026-01-16").change_plan("acme", "pro")
    assert changed["proration"] == {
        "credit_cents": 1497,
        "debit_cents": 5110,
        "net_cents": 3613,
        "currency": "USD",
    }
    assert (changed["previous_plan_code"], changed["plan"], changed["status"]) == ("starter", "pro", "active")
    assert changed["id"] == subscription
    assert changed["effective_at"] == "2026-01-16T00:00:00Z"
    assert changed["current_period_end"] == "2026-02-01T00:00:00Z"
    assert changed["invoice_id"] == (await world.last_invoice("acme"))["id"]
    assert await totals(world) == [2900, 3613]
    await world.turn("2026-02-01")
    assert await totals(world) == [2900, 3613, 9900]
    await audit(world)


async def test_an_upgrade_in_arrears_bills_each_plan_for_its_days(world: World) -> None:
    """15 days of one, 16 of the other, and each plan's own usage."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.subscribe("acme", "payg")
    await world.use("acme", 10)
    await world.at("2026-01-16").change_plan("acme", "big")
    assert await world.lines("acme") == [("Payg, monthly fee", 1500), ("tokens", 100)]
    await world.use("acme", 30)
    await world.turn("2026-02-01")
    assert await world.lines("acme") == [("Big, monthly fee", 3200), ("tokens", 300)]
    await audit(world)


@pytest.mark.parametrize("old", ["starter", "payg"])
@pytest.mark.parametrize("new", ["pro", "big", "year", "twin"])
@pytest.mark.parametrize("at", ["2026-02-10T13:37:11.5Z", "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"])
async def test_the_preview_is_the_invoice_to_the_cent(world: World, old: str, new: str, at: str) -> None:
    """Contract 1.14: usage, taxes and credits included; nothing is left behind of a preview."""
    await world.turn("2026-01-31T08:00:00Z")
    await a_market(world)
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "19", "applied_to_organization": True}},
    )
    await world.subscribe("acme", old)
    await world.use("acme", 3)
    await world.turn(at)
    before = await rows(world)
    shown = await world.preview_change("acme", new)
    assert await rows(world) == before
    changed = await world.change_plan("acme", new, quote_id=shown["quote_id"])
    assert shown["credit_amount_cents"] == changed["proration"]["credit_cents"]
    assert shown["debit_amount_cents"] == changed["proration"]["debit_cents"]
    assert shown["net_amount_cents"] == shown["debit_amount_cents"] - shown["credit_amount_cents"]
    assert Decimal(shown["net"]) * 100 == shown["net_amount_cents"]
    assert shown["effective_at"] == changed["effective_at"]
    assert shown["transition_direction"] == changed["direction"]
    if changed["direction"] == "upgrade":
        assert shown["amount_due_now_cents"] == (await world.last_invoice("acme"))["total_amount_cents"]
        assert shown["timing"] == "immediate"
    else:
        assert (shown["amount_due_now_cents"], shown["timing"]) == (0, "end_of_period")
    await audit(world)


async def test_a_downgrade_shows_what_its_first_invoice_will_be(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    await world.subscribe("acme", "pro")
    shown = await world.at("2026-01-16").preview_change("acme", "starter")
    assert (shown["transition_direction"], shown["timing"]) == ("downgrade", "end_of_period")
    assert (shown["effective_at"], shown["amount_due_now_cents"]) == ("2026-02-01T00:00:00Z", 0)
    await world.change_plan("acme", "starter")
    await world.turn("2026-02-01")
    assert (await totals(world))[-1] == shown["amount_due_at_effective_cents"] == 2900


async def test_a_quote_holds_for_five_minutes(world: World) -> None:
    """On the organization's clock; what costs otherwise by then, or is not a quote, is refused and changes nothing."""
    await world.turn("2026-01-16")
    await a_market(world)
    await world.subscribe("acme", "starter")
    quote = (await world.preview_change("acme", "pro"))["quote_id"]
    body = {"customer_id": "acme", "plan_code": "pro", "quote_id": quote}
    other = await world.call("POST", "/api/v1/subscriptions/change", {**body, "plan_code": "twin"})
    assert (other.status, other.code) == (409, "quote_stale")
    assert (await world.call("POST", "/api/v1/billing/upgrade", {**body, "quote_id": "quo_1"})).status == 400
    await world.turn("2026-01-16T00:05:00Z")
    late = await world.call("POST", "/api/v1/subscriptions/change", body)
    assert (late.status, late.code) == (409, "quote_expired")
    quote = (await world.preview_change("acme", "pro"))["quote_id"]
    await world.use("acme", 1, timestamp="2026-01-16T00:04:59Z")
    stale = await world.call("POST", "/api/v1/billing/upgrade", {**body, "quote_id": quote})
    assert (stale.status, stale.code) == (409, "quote_stale")
    assert (await world.get("/api/v1/billing/status", customer_id="acme"))["plan"] == "starter"
    assert len(await world.invoices("acme")) == 1
    await audit(world)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-01-16T12:00:00Z", "2026-01-16T12:00:00Z"),
        ("2026-01-16T12:00:00Z", "2026-01-16T12:00:01Z"),
        ("2026-01-16T00:00:00Z", "2026-01-16T23:59:59Z"),
        ("2026-01-31T23:59:58Z", "2026-01-31T23:59:59Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-10T00:00:00Z", "2026-01-25T09:00:00Z"),
    ],
)
async def test_there_and_back_again_costs_nothing(world: World, first: str, second: str) -> None:
    """T07: within an instant, a second, a day, the last second: what is credited is what is charged."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.subscribe("acme", "starter")
    await world.at(first).change_plan("acme", "twin")
    changed = await world.at(second).change_plan("acme", "starter")
    assert changed["plan"] == "starter"
    charged = sum(one["total_amount_cents"] for one in await world.invoices("acme"))
    assert charged == 2900
    fees = sum(line["amount_cents"] for one in await world.invoices("acme") for line in one["lines"])
    assert fees - sum(await credited(world)) == 2900
    await world.turn("2026-02-01")
    assert (await totals(world))[-1] == 2900
    await audit(world)


async def test_up_down_and_up_again_is_one_upgrade(world: World) -> None:
    """T07: the downgrade waits, and choosing the plan again takes it back."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.subscribe("acme", "starter")
    await world.at("2026-01-16").change_plan("acme", "pro")
    down = await world.change_plan("acme", "starter")
    assert (down["plan"], down["pending_plan"], down["effective_at"]) == (
        "pro",
        "starter",
        "2026-02-01T00:00:00Z",
    )
    up = await world.change_plan("acme", "pro")
    assert (up["plan"], up["pending_plan"], up["direction"]) == ("pro", None, None)
    await world.turn("2026-02-01")
    assert await totals(world) == [2900, 3613, 9900]
    await audit(world)


async def test_a_downgrade_waits_for_the_end_of_the_period(world: World) -> None:
    """The old plan until then; then one invoice with what the old one used and the new one's fee."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "pro")
    await world.use("acme", 10)
    down = await world.at("2026-01-16").change_plan("acme", "starter")
    assert (down["status"], down["pending_plan"], down["invoice_id"]) == ("active", "starter", None)
    shown = (await world.get(f"/core/api/v1/subscriptions/{subscription}"))["subscription"]
    assert (shown["plan_code"], shown["next_plan_code"]) == ("pro", "starter")
    assert shown["downgrade_plan_date"] == "2026-02-01"
    await world.turn("2026-02-01")
    assert await world.lines("acme") == [("tokens", 100), ("Starter, monthly fee", 2900)]
    shown = (await world.get(f"/core/api/v1/subscriptions/{subscription}"))["subscription"]
    assert (shown["plan_code"], shown["previous_plan_code"]) == ("starter", "pro")
    assert shown["next_plan_code"] is shown["downgrade_plan_date"] is None
    await audit(world)


async def test_a_second_change_takes_the_place_of_the_one_that_waits(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "pro")
    await world.change_plan("acme", "starter")
    await world.change_plan("acme", "payg")
    changed = await world.change_plan("acme", "twin")
    assert changed["pending_plan"] == "twin"
    listed = await world.get("/api/v1/subscriptions", **{"status[]": ["pending", "canceled"]})
    assert sorted(one["status"] for one in listed["subscriptions"]) == ["canceled", "canceled", "pending"]
    await world.at("2026-01-20").change_plan("acme", "year")
    await world.turn("2026-02-02")
    assert [row["code"] for row in await chain(world, subscription)] == ["pro", "year"]
    await audit(world)


async def test_a_yearly_plan_steps_down_to_a_monthly_one_after_its_year(world: World) -> None:
    await world.turn("2024-02-29T12:00:00Z")
    await a_market(world)
    subscription = await world.subscribe("acme", "year")
    down = await world.at("2024-06-01").change_plan("acme", "starter")
    assert down["effective_at"] == "2025-02-28T00:00:00Z"
    await world.turn("2025-04-01")
    periods = await chain(world, subscription)
    assert [row["code"] for row in periods] == ["year", "starter"]
    assert periods[0]["terminated_at"] == periods[1]["started_at"]
    found = await world.fetch(
        """select s.period_start::date::text as day from invoice_subscriptions s join invoices i
           on i.org_id = s.org_id and i.id = s.invoice_id
           where s.org_id = $1 and s.reason in ('subscription_starting', 'subscription_periodic') order by 1"""
    )
    assert [row["day"] for row in found] == ["2024-02-29", "2025-02-28", "2025-03-29"]
    await audit(world)


async def test_a_change_of_interval_keeps_the_anchor(world: World) -> None:
    """Monthly to yearly in mid-month: the year counts from the anchor, and its rest is charged."""
    await world.turn("2026-01-31T10:00:00Z")
    await a_market(world)
    await world.subscribe("acme", "starter")
    changed = await world.at("2026-03-15").change_plan("acme", "year")
    assert changed["current_period_end"] == "2027-01-31T00:00:00Z"
    assert changed["proration"]["debit_cents"] == 211726  # 322 of 365 days of 2400.00
    await audit(world)


async def test_plan_credits_are_topped_up_to_the_new_plans(world: World) -> None:
    """Contract 4.2: max(target - granted, 0), whatever was spent of it; and the new plan's in full next period."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_plan(code="ten", amount_cents=100, credits=10)
    await world.a_plan(code="fifty", amount_cents=500, credits=50)
    await world.a_plan(code="few", amount_cents=600, credits=20)
    await world.subscribe("acme", "ten")
    await world.deduct("acme", 4)
    await world.at("2026-01-16").change_plan("acme", "fifty")
    assert await world.balance("acme") == 46
    await world.change_plan("acme", "few")
    assert await world.balance("acme") == 46
    await world.turn("2026-02-01")
    assert await world.balance("acme") == 20
    await audit(world)


async def test_an_upgrade_raises_a_limit_and_does_not_hand_it_out_anew(world: World) -> None:
    """can() counts the billing period's usage over both plans; the invoice prices each plan's own."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_feature()
    for plan, limit in (("starter", 10), ("pro", 25)):
        await world.post(
            f"/core/api/v1/plans/{plan}/entitlements", {"entitlements": {"chat": {"limit": limit}}}
        )
    await world.subscribe("acme", "starter")
    await world.use("acme", 10)
    assert await world.reason("acme") == (False, "limit_exceeded")
    await world.at("2026-01-16").change_plan("acme", "pro")
    answer = await world.can("acme")
    assert (answer["allowed"], answer["used"], answer["remaining"]) == (True, 10, 15)
    await world.use("acme", 15)
    assert await world.reason("acme") == (False, "limit_exceeded")
    await world.turn("2026-02-01")
    assert (await world.can("acme"))["used"] == 0
    await audit(world)


async def test_each_event_finds_the_plan_that_ran_at_its_instant(world: World) -> None:
    """T08: a chain has one external id; the instant of the change belongs to the new plan."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "payg")
    await world.at("2026-01-16T12:00:00Z").change_plan("acme", "big")
    before = await world.use(
        "acme", 1, timestamp="2026-01-16T11:59:59.999999Z", external_subscription_id=subscription
    )
    at = await world.use("acme", 1, timestamp="2026-01-16T12:00:00Z", external_subscription_id=subscription)
    assert (before["billing_status"], at["billing_status"]) == ("late", "counted")
    stored = await world.fetch(
        """select s.terminated_at is null as runs from events e join subscriptions s
           on s.org_id = e.org_id and s.id = e.subscription_id where e.org_id = $1 order by e.occurred_at"""
    )
    assert [row["runs"] for row in stored] == [False, True]
    await audit(world)


async def test_a_change_before_the_beginning_is_simply_another_beginning(world: World) -> None:
    await world.turn("2026-01-10")
    await a_market(world)
    await world.assign("acme", "pro", "team", subscription_at="2026-02-01T00:00:00Z")
    changed = await world.assign("acme", "starter", "team")
    assert (changed["status"], changed["plan_code"]) == ("pending", "starter")
    await world.turn("2026-02-01")
    assert await totals(world) == [2900]
    await audit(world)


async def test_core_changes_a_plan_by_assigning_it_under_the_same_id(world: World) -> None:
    """As Lago: an upgrade answers with the new subscription, a downgrade with the one that still runs."""
    await world.turn("2026-01-01")
    await a_market(world)
    first = await world.assign("acme", "starter", "team")
    same = await world.assign("acme", "starter", "team")
    assert same["lago_id"] == first["lago_id"]
    await world.turn("2026-01-16")
    up = await world.assign("acme", "pro", "team")
    assert (up["plan_code"], up["previous_plan_code"], up["status"]) == ("pro", "starter", "active")
    assert (up["subscription_at"], up["started_at"]) == ("2026-01-01T00:00:00Z", "2026-01-16T00:00:00Z")
    down = await world.assign("acme", "starter", "team")
    assert (down["lago_id"], down["next_plan_code"]) == (up["lago_id"], "starter")
    await audit(world)


async def test_another_currency_is_refused(world: World) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_plan(code="euro", amount_cents=100000, amount_currency="EUR")
    await world.subscribe("acme", "starter")
    for path in ("/api/v1/billing/upgrade", "/api/v1/subscriptions/preview"):
        answer = await world.call("POST", path, {"customer_id": "acme", "plan_code": "euro"})
        assert (answer.status, answer.code) == (422, "currencies_does_not_match")
    await audit(world)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"customer_id": "nobody", "plan_code": "pro"}, 404, "customer_not_found"),
        ({"customer_id": "acme", "plan_code": "nothing"}, 404, "plan_not_found"),
        ({"customer_id": "acme", "plan_code": "pro"}, 409, "subscription_not_active"),
        (
            {"customer_id": "acme", "plan_code": "pro", "subscription_id": "none"},
            404,
            "subscription_not_found",
        ),
        ({"target_plan_id": "pro"}, 400, None),
        ({"customer_id": "acme"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "plan_version": 9}, 404, None),
    ],
)
async def test_what_cannot_be_changed_is_refused(
    world: World, body: dict[str, Any], status: int, code: str | None
) -> None:
    await world.turn("2026-01-01")
    await a_market(world)
    for path in ("/billing/upgrade", "/subscriptions/change", "/subscriptions/preview"):
        answer = await world.call("POST", f"/api/v1{path}", body)
        assert (answer.status, code or answer.code) == (status, answer.code)


async def test_a_trial_goes_on_under_another_plan(world: World) -> None:
    """What is left of it: counted from the first start, by the new plan's length."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_plan(code="try", amount_cents=1000, pay_in_advance=True, trial_period=10)
    await world.a_plan(code="trypro", amount_cents=3100, pay_in_advance=True, trial_period=20)
    await world.subscribe("acme", "try")
    changed = await world.at("2026-01-06").change_plan("acme", "trypro")
    assert (changed["status"], changed["trial_ends_at"]) == ("trialing", "2026-01-21T00:00:00Z")
    await world.turn("2026-01-20T23:59:59Z")
    assert sum(await totals(world)) == 0
    await world.turn("2026-01-21")
    assert (await totals(world))[-1] == 1100
    await audit(world)


@pytest.mark.parametrize("how", ["sum_agg", "count_agg", "max_agg", "unique_count_agg", "latest_agg"])
async def test_usage_reported_ahead_is_billed_by_the_plan_that_runs_by_then(world: World, how: str) -> None:
    """An event dated some hours ahead, and a change of plan before that: it is the new plan's, once."""
    await world.turn("2026-01-01")
    await world.a_metric(how=how)
    charge = {**TOKENS, "properties": {"amount": "1"}}
    await world.a_plan(code="one", charges=[charge])
    await world.a_plan(code="two", charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "one")
    await world.turn("2026-01-16T12:00:00Z")
    await world.use("acme", 2, timestamp="2026-01-16T11:00:00Z")
    await world.use("acme", 3, timestamp="2026-01-16T18:00:00Z")
    await world.change_plan("acme", "two")
    units = {
        "sum_agg": (2, 3),
        "count_agg": (1, 1),
        "max_agg": (2, 3),
        "unique_count_agg": (1, 1),
        "latest_agg": (2, 3),
    }
    assert await world.units("acme") == units[how][0]
    await world.turn("2026-02-01")
    assert await world.units("acme") == units[how][1]
    await audit(world)


async def test_usage_reported_beyond_the_end_is_flagged(world: World) -> None:
    """Nothing follows a subscription that is ended at once: the event says that it has none."""
    await world.turn("2026-01-01")
    await a_market(world)
    subscription = await world.subscribe("acme", "payg")
    await world.use("acme", 3, id="ahead", timestamp="2026-01-01T20:00:00Z")
    await world.at("2026-01-01T12:00:00Z").cancel(subscription, cancellation_policy="immediate")
    event = await world.event("ahead")
    assert event is not None
    assert event["billing_status"] == "unmatched"
    await audit(world)


async def test_an_end_that_is_set_before_reported_usage_flags_it_when_it_comes(world: World) -> None:
    await world.turn("2026-01-31T12:00:00Z")
    await a_market(world)
    await world.assign("acme", "payg", "team")
    await world.use("acme", 3, id="ahead", timestamp="2026-02-01T06:00:00Z")
    await world.cancel("team")
    await world.turn("2026-02-01T12:00:00Z")
    event = await world.event("ahead")
    assert event is not None
    assert event["billing_status"] == "unmatched"
    assert await world.fetch("select 1 from due_items where org_id = $1 and parked_at is not null") == []
    await audit(world)


async def test_the_options_say_what_a_change_would_be(world: World) -> None:
    """Contract 4.7: every other plan in the same currency, in which direction and when."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.a_plan(code="euro", amount_cents=100, amount_currency="EUR")
    subscription = await world.subscribe("acme", "payg")
    await world.change_plan("acme", "starter")
    found = await world.get("/api/v1/subscriptions/options", customer_id="acme", subscription_id=subscription)
    assert (found["subscription"]["plan_code"], found["checkout"]) == ("payg", None)
    change = found["pending_change"]
    assert (change["plan_code"], change["effective_at"]) == ("starter", "2026-02-01T00:00:00Z")
    eligible = {one["code"]: (one["direction"], one["timing"]) for one in found["eligible_plans"]}
    down, up = ("downgrade", "end_of_period"), ("upgrade", "immediate")
    assert eligible == {"starter": down, "twin": down, "pro": up, "big": up, "year": up}
    for query, status in (
        ("customer_id=nobody", 404),
        ("", 400),
        ("customer_id=acme&subscription_id=none", 404),
    ):
        assert (await world.call("GET", f"/api/v1/subscriptions/options?{query}")).status == status


async def test_a_customers_session_changes_that_customers_plan_alone(world: World) -> None:
    """Decision 7: under `customer_session` a publishable key needs one, made for this customer and for writing."""
    await world.turn("2026-01-01")
    await a_market(world)
    await world.subscribe("acme", "starter")
    await world.settings(publishable_key_access="customer_session")
    body = {"customer_id": "acme", "plan_code": "pro"}
    answer = await world.call("POST", "/api/v1/billing/upgrade", body, key=world.publishable)
    assert answer.status == 403
    await world.a_customer("rival")
    for customer, scopes, status in (
        ("rival", ["subscriptions:write"], 403),
        ("acme", ["billing:read"], 403),
        ("acme", ["subscriptions:write"], 200),
    ):
        made = await world.post("/api/v1/customer-sessions", {"customer_id": customer, "scopes": scopes})
        headers = {"X-Nozle-Customer-Session": made.get("token") or made["customer_session"]["token"]}
        answer = await world.call(
            "POST", "/api/v1/billing/upgrade", body, key=world.publishable, headers=headers
        )
        assert answer.status == status, answer.body
