"""Wallets over months of billing, told in dates."""

import random
from decimal import Decimal
from typing import Any

import pytest

from world import World, audit

from .test_wallets import TRANSACTIONS, WALLETS, look, movements

pytestmark = pytest.mark.database

CHARGE = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}


async def amounts(world: World) -> list[tuple[int, int, int]]:
    """(with taxes, paid by wallets, left to pay) of each subscription invoice, oldest first."""
    rows = await world.fetch(
        """select sub_total_including_taxes_amount_cents as a, prepaid_credit_amount_cents as b, total_amount_cents as c
           from invoices where org_id = $1 and invoice_type = 'subscription' order by created_at, id"""
    )
    return [(int(row["a"]), int(row["b"]), int(row["c"])) for row in rows]


async def test_a_wallet_pays_its_invoices_until_it_is_empty(world: World) -> None:
    """After tax; 15.00 pay two invoices of 5.50, 4.00 of the third, and nothing of the fourth."""
    await world.turn("2026-01-01")
    tax = {"code": "vat", "name": "VAT", "rate": "10", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    await world.a_plan(amount_cents=500)
    await world.a_customer()
    wallet = await world.a_wallet(rate_amount="0.5", granted_credits="30")
    await world.subscribe("acme", "pro")
    await world.turn("2026-05-01")
    assert await amounts(world) == [(550, 550, 0), (550, 550, 0), (550, 400, 150), (550, 0, 550)]
    assert await movements(world, wallet, transaction_type="outbound") == [
        ("invoiced", "settled", "4.0"),
        ("invoiced", "settled", "5.5"),
        ("invoiced", "settled", "5.5"),
    ]
    found = await look(world, wallet)
    assert (found["balance_cents"], found["consumed_credits"]) == (0, "30.0")
    assert found["last_consumed_credit_at"] == "2026-04-01T00:00:00Z"
    await audit(world)


async def test_an_invoice_takes_a_wallet_to_its_threshold(world: World) -> None:
    """The rule fills it again in the same turn, so the next invoice finds the money."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=600)
    await world.a_customer()
    rules = [{"trigger": "threshold", "threshold_credits": "5", "granted_credits": "10"}]
    wallet = await world.a_wallet(granted_credits="10", recurring_transaction_rules=rules)
    await world.subscribe("acme", "pro")
    await world.turn("2026-04-01")
    assert await amounts(world) == [(600, 600, 0)] * 3
    assert (await look(world, wallet))["balance_cents"] == 1200  # 10 - 6 + 10 - 6 - 6 + 10
    await audit(world)


async def test_a_wallet_limited_to_usage_leaves_the_fee(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[CHARGE])
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="50", applies_to={"fee_types": ["charge"]})
    await world.subscribe("acme", "pro")
    await world.use("acme", 300)
    await world.turn("2026-02-01")
    assert await amounts(world) == [(1300, 300, 1000)]
    assert (await look(world, wallet))["balance_cents"] == 4700
    await audit(world)


async def test_an_expired_wallet_does_not_pay_the_invoice_of_that_instant(world: World) -> None:
    """Half-open, as everything: at the instant of its expiration a wallet is over."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=100)
    await world.a_customer()
    await world.a_wallet(granted_credits="50", expiration_at="2026-02-01")
    await world.subscribe("acme", "pro")
    await world.turn("2026-02-01")
    assert await amounts(world) == [(100, 0, 100)]
    await audit(world)


@pytest.mark.parametrize(
    ("currency", "fee", "credits", "left"), [("JPY", 100, "60.4", 40), ("KWD", 100, "0.0604", 40)]
)
async def test_any_currency_is_paid_to_its_minor_unit(
    world: World, currency: str, fee: int, credits: str, left: int
) -> None:
    """What is less than a yen, or a thousandth of a dinar, stays in the wallet."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=fee, amount_currency=currency)
    await world.a_customer()
    wallet = await world.a_wallet(currency=currency, granted_credits=credits)
    await world.subscribe("acme", "pro")
    await world.turn("2026-02-01")
    assert await amounts(world) == [(fee, fee - left, left)]
    assert Decimal((await look(world, wallet))["credits_balance"]) == Decimal(credits) % Decimal(
        "1" if currency == "JPY" else "0.001"
    )
    await audit(world)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_movements_agrees_with_plain_sums(world: World, seed: int) -> None:
    """A random walk of grants, purchases, voids and ends beside a model of plain decimals."""
    dice = random.Random(seed)
    await world.turn("2026-01-01")
    await world.a_customer()
    rate = Decimal(dice.choice(["1", "0.00333", "2.5"]))
    wallet = await world.a_wallet(rate_amount=str(rate))
    balance = consumed = Decimal(0)
    for _ in range(25):
        credits = Decimal(dice.randint(1, 999_99999)).scaleb(-5) + 3
        kind = dice.choice(["granted_credits", "paid_credits", "voided_credits", "voided_credits"])
        body: dict[str, Any] = {"wallet_id": wallet["lago_id"], kind: str(credits)}
        answer = await world.call("POST", TRANSACTIONS, {"wallet_transaction": body})
        if kind == "voided_credits" and credits * rate > balance:
            assert answer.json["error_details"] == {"voided_credits": ["insufficient_credits"]}
        else:
            assert answer.status == 200
            moved = credits * rate if kind != "paid_credits" else Decimal(0)
            balance += moved if kind == "granted_credits" else -moved
            consumed += moved if kind == "voided_credits" else 0
        found = await look(world, wallet)
        assert found["balance_cents"] == int(balance * 100)
        assert Decimal(found["credits_balance"]) == balance / rate
        assert Decimal(found["consumed_credits"]) == consumed / rate
    await audit(world)
    await world.call("DELETE", f"{WALLETS}/{wallet['lago_id']}")
    assert (await look(world, wallet))["balance_cents"] == 0
    await audit(world)
