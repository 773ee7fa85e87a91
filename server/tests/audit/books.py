"""A merchant with something of everything that the auditor reads, all of it right."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from nozle_server.core.ids import new_id
from nozle_server.credits import book_store, giving, holding, store
from nozle_server.credits.history_store import EntryFilter, list_entries
from nozle_server.credits.holding import Holding, Settling
from nozle_server.credits.model import Draw
from nozle_server.credits.spending import Spending
from world import World, instant

CORE = "/core/api/v1"


async def keep_books(world: World) -> None:
    """Two months of a customer: credits, a wallet, usage of every kind, progressive and ordinary invoices, payments, a coupon,
    a tax, credit notes, fees in advance."""
    await world.turn("2026-01-01")
    await _sell(world)
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.grant("acme", "40", expires_at="2026-01-20T00:00:00Z")
    await world.grant("acme", "60")
    assert (await world.deduct("acme", "0.1", idempotency_key="deduct 1"))[0]
    assert not (await world.deduct("acme", 500, idempotency_key="deduct 2"))[0]
    await world.a_wallet(granted_credits="3")
    bought = await world.a_wallet(code="bought", paid_credits="2")
    await _use(world)
    await world.turn("2026-02-03")
    invoices = await _invoices(world)
    await _pay(world, next(one for one in invoices if one["invoice_type"] == "credit"))
    period = next(one for one in reversed(invoices) if one["invoice_type"] == "subscription")
    await _pay(world, period, 900)
    fee = next(one for one in period["fees"] if one["amount_cents"] >= 400)
    for cents in (200, 100):
        await _take_back(world, period, fee, cents)
    await world.use("acme", 70)
    void = {"wallet_id": bought["lago_id"], "voided_credits": "0.5"}
    await world.post(f"{CORE}/wallet_transactions", {"wallet_transaction": void})
    await _hold(world)
    await world.turn("2026-03-03")


async def _hold(world: World) -> None:
    """Another customer: an open hold, one settled above what there was, one released; what was owed is paid in part; a
    refund, corrections, a transfer, a top-up given to an entity."""
    await world.a_customer("globex")
    await world.an_entity("agent", "globex")
    for amount, source in ((20, "manual"), (8, "top_up")):
        await world.grant("globex", amount, source=source)
    assert (await world.deduct("globex", 4))[0]
    now = instant("2026-02-20")
    async with world.database.transaction() as tx:
        wanted = [(name, "credits") for name in ("globex", "acme")]
        accounts = [
            account for _, account in await book_store.find_account_ids(tx, world.org_id, wanted) if account
        ]
        budget = new_id()
        await tx.execute(
            """insert into credit_budgets (org_id, id, account_id, interval, limit_amount, created_at, updated_at)
               values ($1, $2, $3, 'month', 1000, $4, $4)""",
            world.org_id,
            budget,
            accounts[0],
            now,
        )
        books = {
            book.account.id: book for book in await book_store.lock(tx, world.org_id, accounts, ["agent"])
        }
        globex, acme = (books[account] for account in accounts)
        entity = globex.level("agent")
        assert entity is not None
        assert giving.allocate(globex, entity.id, Decimal(2), now)
        assert giving.correct(globex, Decimal("-0.5"), now, description=None)
        assert giving.correct(globex, Decimal("1.5"), now, description=None)
        assert giving.transfer(acme, globex, Decimal(3), now)
        ends = now + timedelta(days=300)
        for amount in (1, 2, 5):
            assert holding.hold(globex, Holding(Spending(Decimal(amount)), ends), now).hold
        small, middle, _ = globex.holds.values()
        holding.release(globex, small.id, now)
        holding.settle(globex, Settling(middle.id, Decimal(100), Decimal(6)), now)
        await book_store.save(tx, world.services.bus, list(books.values()))
    await world.grant("globex", 4)
    async with world.database.transaction() as tx:
        [book] = await book_store.lock(tx, world.org_id, accounts[:1])
        entries = await list_entries(tx, world.org_id, book.account.id, EntryFilter(), before=None, limit=50)
        spent = next(one.entry for one in reversed(entries) if one.entry.amount == -4)
        grant_id = await tx.fetchval(
            "select grant_id from ledger_allocations where org_id = $1 and entry_id = $2",
            world.org_id,
            spent.id,
        )
        _, grant = await store.find_grant(tx, world.org_id, grant_id) or (None, None)
        assert grant is not None
        book.know_spent([grant])
        giving.refund(book, spent, [Draw(grant.id, Decimal(1))], now, None)
        await book_store.save(tx, world.services.bus, [book])


async def _sell(world: World) -> None:
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post(f"{CORE}/taxes", {"tax": tax})
    for code, how, more in (
        ("tokens", "sum_agg", {}),
        ("calls", "count_agg", {}),
        ("peak", "max_agg", {}),
        ("level", "latest_agg", {}),
        ("users", "unique_count_agg", {}),
        ("seats", "sum_agg", {"recurring": True}),
    ):
        await world.a_metric(code=code, how=how, **more)
    price: dict[str, Any] = {"charge_model": "standard", "properties": {"amount": "0.1"}}
    charges = [
        {**price, "billable_metric_code": "tokens"},
        {**price, "billable_metric_code": "calls", "pay_in_advance": True},
        *({**price, "billable_metric_code": code} for code in ("peak", "level", "users", "seats")),
    ]
    await world.a_plan(
        amount_cents=1000, charges=charges, credits=10, usage_thresholds=[{"amount_cents": 1500}]
    )
    await world.a_cost_model(cost_type="per_unit", amount_cents="0.01")
    coupon = {
        "code": "welcome",
        "name": "Welcome",
        "coupon_type": "fixed_amount",
        "amount_cents": 300,
        "amount_currency": "USD",
        "frequency": "recurring",
        "frequency_duration": 2,
        "expiration": "no_expiration",
    }
    await world.post(f"{CORE}/coupons", {"coupon": coupon})


async def _use(world: World) -> None:
    given = {"external_customer_id": "acme", "coupon_code": "welcome"}
    await world.post(f"{CORE}/applied_coupons", {"applied_coupon": given})
    for code in ("tokens", "calls", "peak", "level", "users", "seats"):
        for n in (20, 30, 10):
            await world.use("acme", n, code=code, id=f"{code} {n}")
    await world.use("nobody", 1, id="nobody's")
    await world.at("2026-01-10").use("acme", 200, id="much")


async def _invoices(world: World) -> list[dict[str, Any]]:
    found = await world.fetch("select id from invoices where org_id = $1 order by id")
    return [(await world.get(f"{CORE}/invoices/{one['id']}"))["invoice"] for one in found]


async def _pay(world: World, invoice: dict[str, Any], cents: int | None = None) -> None:
    wanted = {"invoice_id": invoice["lago_id"], "amount_cents": cents or invoice["total_due_amount_cents"]}
    await world.post(f"{CORE}/payments", {"payment": wanted})


async def _take_back(world: World, invoice: dict[str, Any], fee: dict[str, Any], cents: int) -> None:
    items = [{"fee_id": fee["lago_id"], "amount_cents": cents}]
    wanted = {"invoice_id": invoice["lago_id"], "items": items}
    estimated = await world.post(f"{CORE}/credit_notes/estimate", {"credit_note": wanted})
    credit = estimated["estimated_credit_note"]["max_creditable_amount_cents"]
    await world.post(
        f"{CORE}/credit_notes", {"credit_note": {**wanted, "credit_amount_cents": credit, "reason": "other"}}
    )
