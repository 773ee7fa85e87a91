"""Use cases that make invoices."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.model import Charge, PlanVersion
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period, local_date, start_of_day
from nozle_server.core.rounding import EXACT
from nozle_server.core.values import replace
from nozle_server.coupons.apply import Discount, DiscountableLine, plan_discounts
from nozle_server.coupons.model import AppliedCoupon
from nozle_server.coupons.operations import applicable_coupons, record_uses
from nozle_server.infra import due
from nozle_server.infra.batch import write_out
from nozle_server.infra.change_bus import Change
from nozle_server.infra.counters import next_number
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import advance_store, store
from nozle_server.invoicing import lines as invoice_lines
from nozle_server.invoicing.amounts import (
    payable_cents,
    progressive_shares,
    usage_cents,
    with_taxes,
    with_taxes_of_lines,
    with_totals,
)
from nozle_server.invoicing.credit_notes.operations import apply_credit_notes
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.model import (
    BillingReason,
    CreditKind,
    Invoice,
    InvoiceCredit,
    InvoiceLine,
    InvoiceStatus,
    InvoiceSubscription,
    InvoiceType,
)
from nozle_server.invoicing.terms import Terms, lock_terms
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription
from nozle_server.taxes.apply import choose
from nozle_server.taxes.model import Tax
from nozle_server.taxes.queries import customer_or_default_taxes, find_taxes
from nozle_server.wallets.model import WalletLine
from nozle_server.wallets.operations.invoices import apply_to_invoice
from nozle_server.wallets.queries import get_wallet

INVOICE_FINALIZED = "invoice.finalized"
INVOICE_DRAFTED = "invoice.drafted"
FINALIZE_INVOICE = "finalize_invoice"
INVOICE_FAILED = "invoice.failed"
DRAFT_NUMBER = "DRAFT"
MAX_ERROR_LENGTH = 1_000


async def rate_usage(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    period: Period,
    now: datetime,
    *,
    charges: Sequence[Charge] | None = None,
    following: Period | None = None,
    include_late: bool = False,
) -> list[InvoiceLine]:
    """The charge lines of one subscription for one period, from the events as they are stored now.

    `following` is the period that begins, for quantities that are paid in advance. `include_late` rates a closed period
    anew. Where another plan takes over at the period's end, what that one bills is left to it.
    """
    lines: list[InvoiceLine] = []
    successor = await _successor(tx, subscription, period)
    cut_short = period.end < subscription.calendar(version.usage_interval).period_at(period.start).end
    ended = cut_short and period.end in (subscription.terminated_at, subscription.ending_at)
    earlier: Sequence[UUID] | None = None
    for charge in version.charges if charges is None else charges:
        metric = await metric_store.get_metric_by_id(tx, subscription.org_id, charge.metric_id)
        if successor and cut_short and invoice_lines.is_left_to_successor(charge, metric, successor):
            continue
        if metric.recurring and earlier is None:
            chains = await subscriptions_store.chains(tx, subscription.org_id, [subscription.id])
            earlier = chains.get(subscription.id, ())
        replaced = successor is not None
        window = invoice_lines.usage_window(
            subscription, period, earlier or (), replaced=replaced, ended=ended and not replaced
        )
        query = invoice_lines.usage_query(charge, metric, [window], include_late=include_late)
        rows = await seams.usage_store.usage(tx, subscription.org_id, query)
        lines += invoice_lines.charge_lines(
            subscription, version, charge, metric, period, rows, now, following=following, replaced=replaced
        )
    return lines


async def _successor(tx: Tx, subscription: Subscription, period: Period) -> PlanVersion | None:
    """The plan that takes the place of a subscription's at the end of a period."""
    if subscription.terminated_at != period.end:
        return None
    following = await subscriptions_store.find_successor(tx, subscription.org_id, subscription.id)
    if following is None or following.started_at != period.end:
        return None
    return await plan_store.get_plan_version(tx, subscription.org_id, following.plan_version_id)


async def issue_invoice(
    tx: Tx,
    seams: Seams,
    draft: InvoiceDraft,
    *,
    now: datetime,
    rewrite: Invoice | None = None,
    final: bool = False,
) -> Invoice | None:
    """Make an invoice of these lines: with coupons and taxes; final with a number, credits and wallets, or a draft while
    the customer's grace period lasts. None where it comes to zero and such invoices are not wanted.

    `rewrite` is the draft, held by the caller, that it takes the place of; `final` ends that draft's grace. Dated by the
    day of `now` in the customer's zone. A unique key keeps a second invoice of one period out.
    """
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    waits = draft.may_wait and terms.invoice_grace_period > 0 and not final
    invoice = _new_invoice(draft, terms, now, rewrite)
    fees = sum(line.amount_cents for line in invoice.lines)
    if fees == 0 and not terms.finalize_zero_invoices and not waits:
        closed = with_totals(replace(invoice, status=InvoiceStatus.CLOSED))
        await (store.insert(tx, closed) if rewrite is None else store.replace_draft(tx, closed))
        return None
    invoice, discounts = await _reduce_and_tax(tx, invoice, draft, now)
    invoice = with_totals(invoice)
    if waits:
        invoice = _wait(invoice, terms, now, rewrite)
    else:
        if draft.credits:
            invoice = await _use_credit_notes(tx, invoice, now)
            invoice = await _pay_from_wallets(tx, seams, invoice, now)
        invoice = await _finalize(tx, invoice, terms, now)
    if rewrite is None:
        await store.insert(tx, invoice)
    else:
        await store.replace_draft(tx, invoice)
    if discounts and not waits:
        await write_out(tx)
        await record_uses(tx, invoice.org_id, invoice.id, discounts, now)
    if waits:
        assert invoice.finalize_at is not None, "a draft knows when it ends"
        await due.schedule(
            tx,
            org_id=invoice.org_id,
            kind=FINALIZE_INVOICE,
            subject_id=invoice.id,
            due_at=invoice.finalize_at,
            now=now,
        )
    await _announce(tx, seams, invoice, INVOICE_DRAFTED if waits else INVOICE_FINALIZED)
    return invoice


async def issue_advance_charges(
    tx: Tx, seams: Seams, lines: Sequence[InvoiceLine], *, now: datetime
) -> Invoice:
    """Put paid fees of one customer and currency, which the caller holds and which are on no invoice, on one that says so.
    Nothing is computed anew: their taxes are what was paid. The caller records the payment."""
    first = lines[0]
    periods: dict[UUID, InvoiceSubscription] = {}
    for line in lines:
        assert line.subscription_id, "a fee in advance is of a subscription"
        assert line.period_start, "a fee in advance has a period"
        assert line.period_end, "a fee in advance has a period"
        known = periods.get(line.subscription_id)
        start = min(known.period_start, line.period_start) if known else line.period_start
        end = max(known.period_end, line.period_end) if known else line.period_end
        periods[line.subscription_id] = InvoiceSubscription(
            line.subscription_id, BillingReason.IN_ADVANCE_CHARGE, start, end, start, end
        )
    draft = InvoiceDraft(
        org_id=first.org_id,
        customer_id=first.customer_id,
        currency=first.currency,
        lines=tuple(lines),
        invoice_type=InvoiceType.ADVANCE_CHARGES,
        subscriptions=tuple(periods.values()),
    )
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    made = _new_invoice(draft, terms, now, None)
    lines = made.lines
    invoice = await _finalize(tx, with_totals(with_taxes_of_lines(made)), terms, now)
    await store.insert(tx, replace(invoice, lines=()))
    await write_out(tx)
    await advance_store.put_on_invoice(tx, lines)
    invoice = replace(invoice, lines=lines)
    await _announce(tx, seams, invoice, INVOICE_FINALIZED)
    return invoice


async def _announce(tx: Tx, seams: Seams, invoice: Invoice, kind: str) -> None:
    payload = {
        "number": invoice.number,
        "total_amount_cents": invoice.total_amount_cents,
        "currency": invoice.currency,
    }
    await seams.change_bus.publish(tx, Change(invoice.org_id, kind, str(invoice.id), payload))


async def _use_credit_notes(tx: Tx, invoice: Invoice, now: datetime) -> Invoice:
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


async def _pay_from_wallets(tx: Tx, seams: Seams, invoice: Invoice, now: datetime) -> Invoice:
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


async def store_failed(tx: Tx, seams: Seams, draft: InvoiceDraft, *, error: str, now: datetime) -> Invoice:
    """Keep the place of an invoice that could not be made, and why."""
    terms = await lock_terms(tx, draft.org_id, draft.customer_id)
    details = ({"error_code": "invoice_not_made", "details": error[:MAX_ERROR_LENGTH]},)
    invoice = replace(
        _new_invoice(draft, terms, now, None), status=InvoiceStatus.FAILED, error_details=details
    )
    await store.insert(tx, invoice)
    await seams.change_bus.publish(tx, Change(invoice.org_id, INVOICE_FAILED, str(invoice.id)))
    return invoice


async def fail_draft(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, error: str, now: datetime
) -> None:
    """A draft could not be made final: it is kept as failed, with the reason, and can be retried."""
    await store.set_failed(tx, org_id, invoice_id, error[:MAX_ERROR_LENGTH], now)
    await seams.change_bus.publish(tx, Change(org_id, INVOICE_FAILED, str(invoice_id)))


def _new_invoice(draft: InvoiceDraft, terms: Terms, now: datetime, rewrite: Invoice | None) -> Invoice:
    invoice_id = rewrite.id if rewrite else new_id()
    lines = tuple(
        replace(line, invoice_id=invoice_id, position=position) for position, line in enumerate(draft.lines)
    )
    return Invoice(
        org_id=draft.org_id,
        id=invoice_id,
        sequential_id=None,
        number=DRAFT_NUMBER,
        customer_id=draft.customer_id,
        invoice_type=draft.invoice_type,
        status=InvoiceStatus.DRAFT,
        payment_status="pending",
        currency=draft.currency,
        timezone=terms.timezone,
        fees_amount_cents=sum(line.amount_cents for line in lines),
        progressive_billing_credit_amount_cents=0,
        coupons_amount_cents=0,
        sub_total_excluding_taxes_amount_cents=0,
        taxes_amount_cents=0,
        taxes_rate=Decimal(0),
        sub_total_including_taxes_amount_cents=0,
        credit_notes_amount_cents=0,
        prepaid_credit_amount_cents=0,
        total_amount_cents=0,
        total_paid_amount_cents=0,
        net_payment_term=terms.net_payment_term if draft.net_payment_term is None else draft.net_payment_term,
        issuing_date=None,
        payment_due_date=None,
        finalize_at=None,
        created_at=rewrite.created_at if rewrite else now,
        updated_at=now,
        finalized_at=None,
        metadata=rewrite.metadata if rewrite else (),
        lines=lines,
        subscriptions=draft.subscriptions,
    )


async def _reduce_and_tax(
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


def _shares_of_lines(invoice: Invoice, discounts: Sequence[Discount]) -> list[Decimal]:
    with localcontext(EXACT):
        return [
            sum((one.per_line[place] for one in discounts), Decimal(0)) for place in range(len(invoice.lines))
        ]


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


async def _taxes_of_lines(tx: Tx, draft: InvoiceDraft) -> list[tuple[Tax, ...]]:
    """The taxes each line pays: its own, else the customer's, else the organization's."""
    if not draft.taxes:
        return [()] * len(draft.lines)
    codes = {code for of_line in draft.tax_codes.values() for code in of_line}
    known = await find_taxes(tx, draft.org_id, sorted(codes)) if codes else {}
    otherwise = await customer_or_default_taxes(tx, draft.org_id, draft.customer_id)
    return [
        choose(draft.tax_codes.get(line.id, ()), (), known=known, otherwise=otherwise) for line in draft.lines
    ]


def _wait(invoice: Invoice, terms: Terms, now: datetime, rewrite: Invoice | None) -> Invoice:
    """A draft, and when its grace ends: at the start of the day that it will be dated with."""
    if rewrite is not None and rewrite.finalize_at is not None:
        return replace(
            invoice,
            finalize_at=rewrite.finalize_at,
            issuing_date=rewrite.issuing_date,
            payment_due_date=rewrite.payment_due_date,
        )
    issued_on = local_date(now, terms.timezone) + timedelta(days=terms.invoice_grace_period)
    return replace(
        invoice,
        finalize_at=start_of_day(issued_on, terms.timezone),
        issuing_date=issued_on,
        payment_due_date=issued_on + timedelta(days=invoice.net_payment_term),
    )


async def _finalize(tx: Tx, invoice: Invoice, terms: Terms, now: datetime) -> Invoice:
    number = await next_number(tx, invoice.org_id, "invoices")
    payment_status = "pending" if invoice.total_amount_cents > 0 else "succeeded"
    issued_on = local_date(now, terms.timezone)
    return replace(
        invoice,
        sequential_id=number,
        number=f"{terms.document_number_prefix}-{number:03d}",
        status=InvoiceStatus.FINALIZED,
        payment_status=payment_status,
        issuing_date=issued_on,
        payment_due_date=issued_on + timedelta(days=invoice.net_payment_term),
        finalized_at=now,
        lines=tuple(
            line if line.payment_status == payment_status else replace(line, payment_status=payment_status)
            for line in invoice.lines
        ),
    )
