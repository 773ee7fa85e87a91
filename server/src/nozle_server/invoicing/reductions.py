"""What an invoice is reduced by, and its taxes, in their order: progressive credits and coupons before taxes; credit notes
and wallets, when it is made final, after them.

The caller holds the customer: what one invoice takes of coupons, credit notes and wallets, no other takes too.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, localcontext

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.core.values import replace
from nozle_server.coupons.apply import Discount, DiscountableLine, plan_discounts
from nozle_server.coupons.model import AppliedCoupon
from nozle_server.coupons.operations import applicable_coupons
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.amounts import (
    payable_cents,
    progressive_shares,
    usage_cents,
    with_taxes,
    with_totals,
)
from nozle_server.invoicing.credit_notes.operations import apply_credit_notes
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.line_taxes import TaxCodes, find_line_taxes
from nozle_server.invoicing.model import (
    CreditKind,
    Invoice,
    InvoiceCredit,
)
from nozle_server.taxes.model import Tax
from nozle_server.wallets.model import WalletLine
from nozle_server.wallets.operations.invoices import apply_to_invoice
from nozle_server.wallets.queries import get_wallet


async def reduce_and_tax(
    tx: Tx, invoice: Invoice, draft: InvoiceDraft, now: datetime
) -> tuple[Invoice, tuple[Discount, ...]]:
    """The invoice with its progressive credits, coupons and taxes, and what its coupons took."""
    progressive = _progressive_credits(draft, now)
    reduced = sum(one.amount_cents for one in progressive)
    shares = progressive_shares(invoice.lines, reduced)
    applied = (
        await applicable_coupons(tx, draft.org_id, draft.customer_id, draft.currency, now)
        if draft.coupons
        else ()
    )
    discounts = plan_discounts(
        [
            DiscountableLine(line.kind, line.plan_id, line.metric_id, line.amount_cents - share)
            for line, share in zip(invoice.lines, shares, strict=True)
        ],
        applied,
        currency=draft.currency,
    )
    invoice = replace(
        invoice,
        progressive_billing_credit_amount_cents=reduced,
        coupons_amount_cents=sum(one.amount_cents for one in discounts),
        credits=(*progressive, *_coupon_credits(discounts, applied, now)),
    )
    taxes = await _taxes_of_lines(tx, draft)
    return with_taxes(
        invoice, progressive=shares, coupons=_shares_of_lines(invoice, discounts), taxes=taxes
    ), discounts


def _progressive_credits(draft: InvoiceDraft, now: datetime) -> tuple[InvoiceCredit, ...]:
    """What progressive invoices charged of this usage before, as far as the usage goes."""
    left = usage_cents(draft.lines)
    credits = []
    for one in draft.progressive_credits:
        amount = min(one.amount_cents, left)
        if amount > 0:
            left -= amount
            credits.append(
                InvoiceCredit(
                    id=new_id(),
                    kind=CreditKind.PROGRESSIVE,
                    source_id=one.invoice_id,
                    label=one.number,
                    code=None,
                    amount_cents=amount,
                    created_at=now,
                )
            )
    return tuple(credits)


def _coupon_credits(
    discounts: Sequence[Discount], applied: Sequence[AppliedCoupon], now: datetime
) -> tuple[InvoiceCredit, ...]:
    coupons = {one.id: one.coupon for one in applied}
    return tuple(
        InvoiceCredit(
            id=new_id(),
            kind=CreditKind.COUPON,
            source_id=one.applied_coupon_id,
            label=coupons[one.applied_coupon_id].name,
            code=coupons[one.applied_coupon_id].code,
            amount_cents=one.amount_cents,
            created_at=now,
        )
        for one in discounts
    )


def _shares_of_lines(invoice: Invoice, discounts: Sequence[Discount]) -> list[Decimal]:
    with localcontext(EXACT):
        return [
            sum((one.per_line[place] for one in discounts), Decimal(0)) for place in range(len(invoice.lines))
        ]


async def _taxes_of_lines(tx: Tx, draft: InvoiceDraft) -> list[tuple[Tax, ...]]:
    if not draft.taxes:
        return [()] * len(draft.lines)
    codes = [draft.tax_codes.get(line.id, TaxCodes()) for line in draft.lines]
    return await find_line_taxes(tx, draft.org_id, draft.customer_id, codes)


async def use_credit_notes(tx: Tx, invoice: Invoice, now: datetime) -> Invoice:
    """The invoice less what the customer has as credit from earlier ones."""
    uses = await apply_credit_notes(
        tx,
        org_id=invoice.org_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        currency=invoice.currency,
        amount_cents=invoice.total_amount_cents,
        now=now,
    )
    credits = tuple(
        InvoiceCredit(
            id=new_id(),
            kind=CreditKind.CREDIT_NOTE,
            source_id=use.credit_note_id,
            label=use.number,
            code=None,
            amount_cents=use.amount_cents,
            created_at=now,
        )
        for use in uses
    )
    return with_totals(
        replace(
            invoice,
            credit_notes_amount_cents=sum(use.amount_cents for use in uses),
            credits=(*invoice.credits, *credits),
        )
    )


async def pay_from_wallets(tx: Tx, seams: Seams, invoice: Invoice, now: datetime) -> Invoice:
    """The invoice less what the customer's wallets pay of it, tax included."""
    uses = await apply_to_invoice(
        tx,
        seams.change_bus,
        org_id=invoice.org_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        currency=invoice.currency,
        lines=[
            WalletLine(line.kind, line.metric_id, cents)
            for line, cents in zip(invoice.lines, payable_cents(invoice), strict=True)
        ],
        amount_cents=invoice.total_amount_cents,
        now=now,
    )
    credits = []
    for use in uses:
        wallet = await get_wallet(tx, invoice.org_id, use.wallet_id)
        credits.append(
            InvoiceCredit(
                id=new_id(),
                kind=CreditKind.WALLET,
                source_id=use.wallet_transaction_id,
                label=wallet.name or "Prepaid credits",
                code=wallet.code,
                amount_cents=use.amount_cents,
                created_at=now,
            )
        )
    return with_totals(
        replace(
            invoice,
            prepaid_credit_amount_cents=sum(use.amount_cents for use in uses),
            credits=(*invoice.credits, *credits),
        )
    )
