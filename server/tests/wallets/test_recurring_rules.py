"""Recurring top-ups on the organization's clock."""

from typing import Any

import pytest

from world import World, audit

from .test_wallets import WALLETS, look, move, movements

pytestmark = pytest.mark.database


def an_interval(**more: object) -> list[dict[str, object]]:
    return [{"trigger": "interval", "interval": "monthly", "granted_credits": "5", **more}]


def a_threshold(**more: object) -> list[dict[str, object]]:
    return [{"trigger": "threshold", "threshold_credits": "10", "granted_credits": "20", **more}]


async def test_an_interval_rule_tops_up_on_each_anniversary(world: World) -> None:
    """At the customer's midnight, not on the day the wallet was made, until the rule's expiration."""
    await world.turn("2026-01-31T10:00:00Z")
    await world.a_customer(timezone="Europe/Berlin")
    rules = an_interval(expiration_at="2026-04-15T00:00:00Z", transaction_name="Monthly")
    wallet = await world.a_wallet(recurring_transaction_rules=rules)
    [rule] = wallet["recurring_transaction_rules"]
    assert (rule["trigger"], rule["interval"], rule["method"], rule["status"]) == (
        "interval",
        "monthly",
        "fixed",
        "active",
    )
    assert (rule["granted_credits"], rule["paid_credits"], rule["threshold_credits"]) == ("5.0", "0.0", "0.0")
    await world.turn("2026-02-27T22:59:59Z")
    assert await movements(world, wallet) == []
    await world.turn("2026-02-27T23:00:00Z")
    found = await world.get(f"{WALLETS}/{wallet['lago_id']}/wallet_transactions")
    [topped] = found["wallet_transactions"]
    assert (topped["source"], topped["name"], topped["created_at"]) == (
        "interval",
        "Monthly",
        "2026-02-27T23:00:00Z",
    )
    await world.turn("2026-12-31")
    assert (await look(world, wallet))["balance_cents"] == 1000  # 28 February and 31 March
    assert (await look(world, wallet))["recurring_transaction_rules"] == []
    await audit(world)


async def test_a_changed_interval_counts_from_then_on(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet(recurring_transaction_rules=an_interval())
    [rule] = wallet["recurring_transaction_rules"]
    change: dict[str, Any] = {"lago_id": rule["lago_id"], "interval": "weekly", "trigger": "interval"}
    path = f"{WALLETS}/{wallet['lago_id']}"
    changed = await world.call("PUT", path, {"wallet": {"recurring_transaction_rules": [change]}})
    [same] = changed.json["wallet"]["recurring_transaction_rules"]
    assert (same["lago_id"], same["interval"], same["granted_credits"]) == (rule["lago_id"], "weekly", "5.0")
    await world.turn("2026-02-01")
    assert (await look(world, wallet))["balance_cents"] == 2000  # the 8th, 15th, 22nd and 29th
    ended = await world.call("PUT", path, {"wallet": {"recurring_transaction_rules": []}})
    assert ended.json["wallet"]["recurring_transaction_rules"] == []
    await world.turn("2026-03-01")
    assert (await look(world, wallet))["balance_cents"] == 2000


async def test_a_rule_ends_with_its_wallet(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet(recurring_transaction_rules=an_interval())
    await world.call("DELETE", f"{WALLETS}/{wallet['lago_id']}")
    await world.turn("2026-06-01")
    assert await movements(world, wallet) == []


async def test_a_rule_without_credits_repeats_those_of_the_wallet(world: World) -> None:
    """As Lago: a fixed rule that names none takes the wallet's first ones."""
    await world.turn("2026-01-01")
    await world.a_customer()
    rules = [{"trigger": "interval", "interval": "monthly"}]
    wallet = await world.a_wallet(granted_credits="7", recurring_transaction_rules=rules)
    [rule] = wallet["recurring_transaction_rules"]
    assert rule["granted_credits"] == "7.0"


async def test_a_threshold_rule_tops_up_when_the_balance_falls_to_it(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="30", recurring_transaction_rules=a_threshold())
    await move(world, wallet, voided_credits="19")
    assert (await look(world, wallet))["credits_balance"] == "11.0"
    await move(world, wallet, voided_credits="1")
    assert (await look(world, wallet))["credits_balance"] == "30.0"
    assert (await movements(world, wallet))[0] == ("granted", "settled", "20.0")
    await audit(world)


async def test_a_purchase_that_is_not_paid_yet_is_not_made_twice(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    rules = a_threshold(granted_credits="0", paid_credits="50")
    wallet = await world.a_wallet(granted_credits="12", recurring_transaction_rules=rules)
    await move(world, wallet, voided_credits="2")
    await move(world, wallet, voided_credits="2")
    pending = await movements(world, wallet, status="pending")
    assert pending == [("purchased", "pending", "50.0")]


async def test_a_target_rule_buys_what_is_missing(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    rules = a_threshold(granted_credits=None, method="target", target_ongoing_balance="100")
    wallet = await world.a_wallet(granted_credits="15", recurring_transaction_rules=rules)
    await move(world, wallet, voided_credits="7")
    found = await world.get(f"{WALLETS}/{wallet['lago_id']}/wallet_transactions", status="pending")
    [bought] = found["wallet_transactions"]
    assert (bought["source"], bought["credit_amount"]) == ("threshold", "92.0")


async def test_usage_takes_a_wallet_to_its_threshold_when_the_clock_turns(world: World) -> None:
    """The ongoing balance decides, tax included: 17.00 less 6.00 of usage and its 20% of tax is below 10.00."""
    await world.turn("2026-01-01")
    await _a_subscriber(world)
    rules = a_threshold(transaction_name="Low")
    wallet = await world.a_wallet(granted_credits="17", recurring_transaction_rules=rules)
    await world.use("acme", 500)
    await world.turn("2026-01-02")
    assert await movements(world, wallet) == [("granted", "settled", "17.0")]
    await world.use("acme", 100)
    await world.turn("2026-01-03")
    found = await world.get(f"{WALLETS}/{wallet['lago_id']}/wallet_transactions")
    assert [(one["source"], one["name"], one["created_at"]) for one in found["wallet_transactions"]] == [
        ("threshold", "Low", "2026-01-02T00:00:00Z"),
        ("manual", None, "2026-01-01T00:00:00Z"),
    ]
    await audit(world)


async def test_the_ongoing_balance_is_what_usage_leaves(world: World) -> None:
    """Usage with its tax, shared out over wallets as an invoice would; below zero when it is more than they hold."""
    await world.turn("2026-01-01")
    await _a_subscriber(world)
    tokens = await world.a_wallet(
        code="a",
        priority=1,
        rate_amount="2",
        granted_credits="3",
        applies_to={"billable_metric_codes": ["tokens"]},
    )
    rest = await world.a_wallet(code="b", rate_amount="2", granted_credits="1")
    await world.use("acme", 400)
    found = await look(world, tokens)
    assert (found["ongoing_usage_balance_cents"], found["ongoing_balance_cents"]) == (480, 120)
    assert (found["credits_ongoing_usage_balance"], found["credits_ongoing_balance"]) == ("2.4", "0.6")
    assert (found["balance_cents"], found["credits_balance"]) == (600, "3.0")
    await world.use("acme", 500)
    assert (await look(world, tokens))["ongoing_balance_cents"] == 0
    found = await look(world, rest)
    assert (found["ongoing_usage_balance_cents"], found["ongoing_balance_cents"]) == (480, -280)
    assert found["credits_ongoing_balance"] == "-1.4"


async def _a_subscriber(world: World) -> None:
    """acme pays a cent a token and 20% of tax."""
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
