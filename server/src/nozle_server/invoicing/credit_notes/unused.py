"""What a subscription paid in advance and does not use, because it ends early, is given back.

By days, as Lago: the day of the end is used, unless another plan takes the subscription's place on it; days of a trial
were never paid. The share of coupons and taxes comes back with the fee.
https://getlago.com/docs/guide/subscriptions/terminate-subscription, https://getlago.com/docs/guide/subscriptions/upgrade-downgrade
"""

from datetime import datetime
from decimal import Decimal, localcontext

from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Period
from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.credit_notes import store
from nozle_server.invoicing.credit_notes.amounts import (
    ItemAmount,
    Taken,
    note_amounts,
    offsettable_cents,
    refundable_cents,
)
from nozle_server.invoicing.credit_notes.model import CreditNote, Reason
from nozle_server.invoicing.credit_notes.operations import CreditNoteDraft, issue_note, lock_invoice
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceStatus
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.proration import fee_days

CREDIT, REFUND, OFFSET, SKIP = "credit", "refund", "offset", "skip"


async def credit_unused_fee(
    tx: Tx,
    seams: Seams,
    *,
    subscription: Subscription,
    version: PlanVersion,
    terminated_at: datetime,
    how: str | None,
    now: datetime,
    replaced: bool = False,
) -> CreditNote | None:
    """Give back the fee of the days from `terminated_at` on; None where nothing was paid in advance for them.

    `how` is credit (also None), refund (what was paid of it and not used; the rest is credited), offset (what is open of
    the invoice; the rest is credited) or skip. `replaced`: another plan takes this one's place on that day. While the
    invoice is a draft there is nothing to correct yet: None, and the caller calls again when it is final.
    """
    if how == SKIP:
        return None
    line = await store.last_fee_in_advance(tx, subscription.org_id, subscription.id)
    if line is None or line.invoice_id is None:
        return None
    unused = unused_amount(subscription, version, line, terminated_at, replaced=replaced)
    if unused <= 0:
        return None
    invoice = await lock_invoice(tx, subscription.org_id, line.invoice_id)
    if invoice.status is not InvoiceStatus.FINALIZED:
        return None
    taken = store.taken_by(await store.of_invoice(tx, invoice.org_id, invoice.id))
    # What was taken back of the fee before counts, as Lago: so asking twice credits once.
    with localcontext(EXACT):
        left = unused - taken.by_line.get(line.id, 0)
    item = ItemAmount(line, left)
    if item.amount_cents <= 0:
        return None
    amounts = note_amounts(invoice, [item], taken)
    if amounts.total_cents <= 0:
        return None
    refund = offset = 0
    if how == REFUND:
        paid = _paid_and_unused(invoice, item, amounts.total_cents)
        refund = max(0, min(paid, amounts.total_cents, refundable_cents(invoice, taken)))
    elif how == OFFSET:
        offset = min(amounts.total_cents, offsettable_cents(invoice, taken))
    draft = CreditNoteDraft(
        reason=Reason.ORDER_CHANGE if replaced else Reason.ORDER_CANCELLATION,
        items=((line.id, item.exact_amount_cents),),
        credit_amount_cents=amounts.total_cents - refund - offset,
        refund_amount_cents=refund,
        offset_amount_cents=offset,
    )
    return await issue_note(tx, seams, invoice, draft, now=now)


def unused_amount(
    subscription: Subscription,
    version: PlanVersion,
    line: InvoiceLine,
    terminated_at: datetime,
    *,
    replaced: bool = False,
) -> Decimal:
    """The exact part of a fee paid in advance, in minor units, for the days that are not used."""
    assert line.period_start is not None, "a fee is for a period"
    assert line.period_end is not None, "a fee is for a period"
    if terminated_at >= line.period_end:
        return Decimal(0)
    whole = fee_days(subscription, version.interval, Period(line.period_start, line.period_end))
    used = 0
    if terminated_at > line.period_start:
        period = Period(line.period_start, terminated_at)
        used = fee_days(subscription, version.interval, period, replaced=replaced).days
    with localcontext(EXACT):
        unused = Decimal(version.amount_cents) * (whole.days - used)
        return min(divide(unused, Decimal(whole.whole_days)), Decimal(line.amount_cents))


def _paid_and_unused(invoice: Invoice, item: ItemAmount, total_cents: int) -> int:
    """What was paid of the fee beyond what is used of it, taxes included: payments count for all fees in proportion."""
    including = invoice.sub_total_including_taxes_amount_cents
    if not including:
        return 0
    whole = note_amounts(
        invoice, [ItemAmount(item.line, Decimal(item.line.amount_cents))], Taken()
    ).total_cents
    with localcontext(EXACT):
        paid = divide(Decimal(whole * invoice.total_paid_amount_cents), Decimal(including))
        return to_cents(paid - (whole - total_cents))
