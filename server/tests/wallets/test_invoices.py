"""Wallets pay invoices: never more than is there, never more than is due, whoever comes at once."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from nozle_server.core.ids import new_id
from nozle_server.wallets.model import WalletLine, WalletUse
from nozle_server.wallets.operations.invoices import apply_to_invoice, give_back_to_wallet
from nozle_server.workflows.top_up_wallet import fail_invoice, settle_invoice, settle_top_up
from world import JsonObject, World, audit, instant

from .test_wallets import WALLETS, look, move, movements

pytestmark = pytest.mark.database

NOW = "2026-01-01"


async def some_invoices(world: World, count: int) -> list[UUID]:
    """Invoices to pay for: ones that sell credits, which no wallet pays by itself."""
    seller = await world.a_wallet(code="seller", paid_credits="1")
    for _ in range(count - 1):
        await move(world, seller, paid_credits="1")
    rows = await world.fetch("select id from invoices where org_id = $1 order by id")
    await world.call("DELETE", f"{WALLETS}/{seller['lago_id']}")
    return [row["id"] for row in rows]


async def pay(
    world: World, invoice_id: UUID, cents: int, lines: Sequence[WalletLine] | None = None, at: str = NOW
) -> tuple[WalletUse, ...]:
    [row] = await world.fetch("select id from customers where org_id = $1")
    now: datetime = instant(at)

    async def work(tx: Any) -> tuple[WalletUse, ...]:
        return await apply_to_invoice(
            tx,
            world.services.seams.change_bus,
            org_id=world.org_id,
            customer_id=row["id"],
            invoice_id=invoice_id,
            currency="USD",
            lines=lines or [WalletLine("charge", None, cents)],
            amount_cents=cents,
            now=now,
        )

    return await world.database.run(work)


async def give_back(world: World, invoice_id: UUID) -> tuple[WalletUse, ...]:
    async def work(tx: Any) -> tuple[WalletUse, ...]:
        return await give_back_to_wallet(
            tx, world.services.seams.change_bus, org_id=world.org_id, invoice_id=invoice_id, now=instant(NOW)
        )

    return await world.database.run(work)


async def test_wallets_pay_in_order_and_tell_which_invoice(world: World) -> None:
    await world.turn(NOW)
    await world.a_customer()
    invoice, _ = await some_invoices(world, 2)
    second = await world.a_wallet(code="b", granted_credits="5")
    first = await world.a_wallet(code="a", granted_credits="3", priority=1)
    used = await pay(world, invoice, 700)
    assert [(str(one.wallet_id), one.amount_cents) for one in used] == [
        (first["lago_id"], 300),
        (second["lago_id"], 400),
    ]
    found = await look(world, second)
    assert (found["balance_cents"], found["consumed_credits"], found["last_consumed_credit_at"]) == (
        100,
        "4.0",
        "2026-01-01T00:00:00Z",
    )
    listed = await world.get(
        f"{WALLETS}/{second['lago_id']}/wallet_transactions", transaction_type="outbound"
    )
    [spent] = listed["wallet_transactions"]
    assert (spent["transaction_status"], spent["lago_invoice_id"], spent["amount"]) == (
        "invoiced",
        str(invoice),
        "4.0",
    )
    await audit(world)


async def test_a_wallet_of_less_than_a_cent_pays_nothing(world: World) -> None:
    await world.turn(NOW)
    await world.a_customer()
    invoice, other = await some_invoices(world, 2)
    wallet = await world.a_wallet(rate_amount="0.005", granted_credits="3")
    assert [one.amount_cents for one in await pay(world, invoice, 700)] == [1]
    assert await pay(world, other, 700) == ()
    assert (await look(world, wallet))["credits_balance"] == "1.0"
    await audit(world)


async def test_an_invoice_uses_a_wallet_once(world: World) -> None:
    """By the database: a second application to one invoice is refused, and takes nothing."""
    await world.turn(NOW)
    await world.a_customer()
    [invoice] = await some_invoices(world, 1)
    wallet = await world.a_wallet(granted_credits="5")
    await pay(world, invoice, 100)
    with pytest.raises(asyncpg.UniqueViolationError):
        await pay(world, invoice, 100)
    assert (await look(world, wallet))["balance_cents"] == 400
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pay(world, new_id(), 100)
    await audit(world)


async def test_invoices_at_once_never_overdraw(world: World) -> None:
    """Ten invoices of 3.00 against two wallets of 10.00 and 5.00: 15.00 are paid, and not a cent more."""
    await world.turn(NOW)
    await world.a_customer()
    invoices = await some_invoices(world, 10)
    await world.a_wallet(code="a", granted_credits="10")
    await world.a_wallet(code="b", granted_credits="5")
    used = await asyncio.gather(*(pay(world, invoice, 300) for invoice in invoices))
    paid = sorted((sum(one.amount_cents for one in uses) for uses in used), reverse=True)
    assert paid == [300] * 5 + [0] * 5
    found = await world.get(WALLETS, external_customer_id="acme")
    assert sum(one["balance_cents"] for one in found["wallets"]) == 0
    await audit(world)


@pytest.mark.parametrize(
    ("limits", "cents"),
    [({"fee_types": ["subscription"]}, 200), ({"billable_metric_codes": ["tokens"]}, 300)],
)
async def test_limits_hold_on_invoices(world: World, limits: JsonObject, cents: int) -> None:
    await world.turn(NOW)
    await world.a_metric()
    await world.a_customer()
    [invoice] = await some_invoices(world, 1)
    wallet = await world.a_wallet(granted_credits="50", applies_to=limits)
    assert wallet["applies_to"] == {"fee_types": [], "billable_metric_codes": [], **limits}
    [metric] = await world.fetch("select id from billable_metrics where org_id = $1 and code = 'tokens'")
    lines = [
        WalletLine("subscription", None, 200),
        WalletLine("charge", metric["id"], 300),
        WalletLine("charge", new_id(), 400),
    ]
    assert [one.amount_cents for one in await pay(world, invoice, 900, lines)] == [cents]


async def test_a_voided_invoice_gives_back_once_as_free_credits(world: World) -> None:
    """As Lago: granted anew, and no longer consumed; a wallet that has ended gets nothing back."""
    await world.turn(NOW)
    await world.a_customer()
    [invoice] = await some_invoices(world, 1)
    wallet = await world.a_wallet(code="a", granted_credits="3")
    ended = await world.a_wallet(code="b", granted_credits="5")
    await pay(world, invoice, 600)
    await world.call("DELETE", f"{WALLETS}/{ended['lago_id']}")
    back = await give_back(world, invoice)
    assert [(str(one.wallet_id), one.amount_cents) for one in back] == [(wallet["lago_id"], 300)]
    assert await give_back(world, invoice) == ()
    found = await look(world, wallet)
    assert (found["balance_cents"], found["consumed_credits"]) == (300, "0.0")
    listed = await world.get(f"{WALLETS}/{wallet['lago_id']}/wallet_transactions", transaction_type="inbound")
    assert [
        (one["transaction_status"], one["lago_voided_invoice_id"]) for one in listed["wallet_transactions"]
    ] == [("granted", str(invoice)), ("granted", None)]
    await audit(world)


async def test_an_expired_wallet_pays_nothing_whether_it_was_ended_or_not(world: World) -> None:
    await world.turn(NOW)
    await world.a_customer()
    [invoice] = await some_invoices(world, 1)
    await world.a_wallet(granted_credits="3", expiration_at="2026-01-02")
    assert await pay(world, invoice, 100, at="2026-01-02") == ()


async def test_bought_credits_count_from_their_payment_on(world: World) -> None:
    """Settled once, however often the payment is told; spent after what was given; a failed purchase never counts."""
    await world.turn(NOW)
    await world.a_customer()
    wallet = await world.a_wallet(paid_credits="10")
    await move(world, wallet, granted_credits="5")
    await move(world, wallet, paid_credits="7")
    sold = [row["id"] for row in await world.fetch("select id from invoices where org_id = $1 order by id")]
    payment = {"invoice_id": str(sold[0]), "amount_cents": 1000}
    await world.post("/core/api/v1/payments", {"payment": payment})
    for deed, invoice in ((settle_invoice, sold[0]), (settle_invoice, sold[0]), (fail_invoice, sold[1])):

        async def work(tx: Any, deed: Any = deed, invoice: UUID = invoice) -> None:
            await deed(
                tx, world.services.seams, org_id=world.org_id, invoice_id=invoice, now=instant("2026-01-01")
            )

        await world.database.run(work)
    assert (await look(world, wallet))["balance_cents"] == 1500
    assert await movements(world, wallet) == [
        ("purchased", "failed", "7.0"),
        ("granted", "settled", "5.0"),
        ("purchased", "settled", "10.0"),
    ]
    [void] = await move(world, wallet, voided_credits="6")
    funded = await world.get(f"/core/api/v1/wallet_transactions/{void['lago_id']}/fundings")
    assert sorted(
        (one["wallet_transaction"]["transaction_status"], one["amount_cents"])
        for one in funded["wallet_transaction_fundings"]
    ) == [("granted", 500), ("purchased", 100)]
    await audit(world)


async def test_an_invoice_may_wait_for_the_payment(world: World) -> None:
    """`invoice_requires_successful_payment`: no invoice before the payment, and one when it came."""
    await world.turn(NOW)
    await world.a_customer()
    await world.a_wallet(paid_credits="10", invoice_requires_successful_payment=True)
    assert await world.fetch("select id from invoices where org_id = $1") == []
    [row] = await world.fetch("select id from wallet_transactions where org_id = $1")

    async def work(tx: Any) -> None:
        await settle_top_up(
            tx,
            world.services.seams,
            org_id=world.org_id,
            wallet_transaction_id=row["id"],
            now=instant("2026-01-01"),
        )

    await world.database.run(work)
    [invoice] = await world.fetch("select id, total_amount_cents from invoices where org_id = $1")
    assert invoice["total_amount_cents"] == 1000
    shown = await world.get(f"/core/api/v1/wallet_transactions/{row['id']}")
    assert shown["wallet_transaction"]["lago_invoice_id"] == str(invoice["id"])
    assert shown["wallet_transaction"]["status"] == "settled"


@pytest.mark.parametrize(
    "statement",
    [
        "update wallet_transactions set amount = amount + 1 where org_id = $1",
        "update wallet_transactions set status = 'failed', failed_at = now() where org_id = $1",
        "delete from wallet_transactions where org_id = $1",
    ],
)
async def test_history_cannot_be_changed(world: World, statement: str) -> None:
    """M15, of wallets."""
    await world.a_customer()
    await world.a_wallet(granted_credits="5")
    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
        await world.fetch(statement)
