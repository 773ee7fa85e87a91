"""The database refuses what must not be on an invoice, whatever code asks for it."""

import asyncpg
import pytest

from world import World

pytestmark = pytest.mark.database

REFUSED = (asyncpg.RestrictViolationError, asyncpg.CheckViolationError, asyncpg.UniqueViolationError)


@pytest.fixture
async def billed(world: World) -> World:
    """acme with one final invoice of a fee, a tax and a coupon, and one draft."""
    await world.turn("2026-01-01")
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    coupon = {
        "code": "ten",
        "name": "Ten",
        "coupon_type": "percentage",
        "percentage_rate": "10",
        "frequency": "forever",
        "expiration": "no_expiration",
    }
    await world.post("/core/api/v1/coupons", {"coupon": coupon})
    await world.a_plan(amount_cents=5000)
    await world.a_customer()
    applied = {"external_customer_id": "acme", "coupon_code": "ten"}
    await world.post("/core/api/v1/applied_coupons", {"applied_coupon": applied})
    await world.subscribe("acme", "pro")
    await world.turn("2026-02-01")
    await world.settings(invoice_grace_period=5)
    await world.turn("2026-03-01")
    assert [one["status"] for one in await world.invoices("acme")] == ["open", "draft"]
    return world


@pytest.mark.parametrize(
    "statement",
    [
        # A final invoice says for ever what it says.
        "update invoices set coupons_amount_cents = 0 where org_id = $1 and status = 'finalized'",
        "update invoices set taxes_amount_cents = taxes_amount_cents + 1 where org_id = $1 and status = 'finalized'",
        "update invoices set customer_id = gen_random_uuid() where org_id = $1 and status = 'finalized'",
        "update invoices set status = 'draft', sequential_id = null where org_id = $1 and status = 'finalized'",
        "delete from invoices where org_id = $1",
        """update invoice_lines set taxes_amount_cents = 0 where org_id = $1 and invoice_id in
            (select id from invoices where org_id = $1 and status = 'finalized')""",
        """delete from invoice_lines where org_id = $1 and invoice_id in
            (select id from invoices where org_id = $1 and status = 'finalized')""",
        # Amounts fit together, on drafts too.
        "update invoices set total_amount_cents = total_amount_cents - 1 where org_id = $1 and status = 'draft'",
        """update invoices set fees_amount_cents = fees_amount_cents + 1,
            sub_total_excluding_taxes_amount_cents = sub_total_excluding_taxes_amount_cents + 1,
            sub_total_including_taxes_amount_cents = sub_total_including_taxes_amount_cents + 1,
            total_amount_cents = total_amount_cents + 1 where org_id = $1 and status = 'draft'""",
        """insert into invoice_credits (org_id, id, invoice_id, kind, source_id, label, amount_cents, created_at)
            select org_id, gen_random_uuid(), id, 'wallet', gen_random_uuid(), 'x', 1, now() from invoices
            where org_id = $1 and status = 'finalized'""",
        """update invoices set total_paid_amount_cents = total_amount_cents + 1
            where org_id = $1 and status = 'finalized'""",
        # Numbers belong to final invoices, each to one.
        "update invoices set sequential_id = 2 where org_id = $1 and status = 'draft'",
        "update invoices set sequential_id = 1, status = 'finalized' where org_id = $1 and status = 'draft'",
        # A period is invoiced once.
        """insert into invoice_subscriptions (org_id, invoice_id, subscription_id, reason, period_start, period_end,
                charges_start, charges_end)
            select s.org_id, (select id from invoices where org_id = $1 and status = 'draft'), s.subscription_id,
                s.reason, s.period_start, s.period_end, s.charges_start, s.charges_end
            from invoice_subscriptions s join invoices i on i.org_id = s.org_id and i.id = s.invoice_id
            where s.org_id = $1 and i.status = 'finalized'""",
    ],
)
async def test_the_database_refuses(billed: World, statement: str) -> None:
    before = await billed.invoices("acme")
    with pytest.raises(REFUSED):
        async with billed.database.transaction() as tx:
            await tx.execute(statement, billed.org_id)
    assert await billed.invoices("acme") == before
