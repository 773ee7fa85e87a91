"""Bill subscriptions: what they owe at an instant, as one invoice, and drafts made anew while their grace lasts.

What an invoice holds follows from why a subscription is on it (`BillingReason`) and when:

- STARTING: the fee and fixed charges that are paid in advance, of the period that begins;
- PERIODIC: the usage of the period that ended; and where a period of the fee ended too, its fee and fixed charges in arrears,
  what its minimum commitment misses, and the next period's in advance;
- TERMINATING: the same up to the end, and nothing in advance;
- TRIAL_ENDED: the fee paid in advance, from the end of the trial on.

Everything is worked out from what is stored and the instant, so a draft can be made anew and comes out the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.catalog import add_on_store, plan_store
from nozle_server.catalog.model import FixedCharge, PlanVersion
from nozle_server.core.periods import Interval, Period
from nozle_server.core.values import replace
from nozle_server.infra.batch import write_out
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import progressive_store
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.drafts import InvoiceDraft, ProgressiveCredit
from nozle_server.invoicing.fees import commitment_line, fee_line, fixed_charge_line
from nozle_server.invoicing.line_taxes import tax_codes_of
from nozle_server.invoicing.model import (
    BillingReason,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    InvoiceSubscription,
    LineKind,
)
from nozle_server.invoicing.operations import issue_invoice, store_failed
from nozle_server.invoicing.terms import lock_terms
from nozle_server.invoicing.usage_lines import rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.subscriptions.proration import is_in_trial
from nozle_server.workflows.adjust_periods import Adjustment, give_back, list_adjustments
from nozle_server.workflows.advance_charges import keep_apart, regroup_paid_fees
from nozle_server.workflows.bill_progress import credit_of, take_off

_TICK = timedelta(microseconds=1)
_ENDING = (BillingReason.PERIODIC, BillingReason.TERMINATING)
_BEGINNING = (BillingReason.STARTING, BillingReason.PERIODIC)


@dataclass(frozen=True, slots=True)
class Billed:
    """A subscription to be billed and why. `replaced`: another plan takes its place at that instant."""

    subscription: Subscription
    reason: BillingReason
    replaced: bool = False


def ended_period(subscription: Subscription, interval: Interval, at: datetime) -> Period:
    """The period of an interval that ends at this instant, cut at the start of the subscription and here."""
    period = subscription.calendar(interval).period_at(at - _TICK)
    return Period(max(period.start, subscription.started_at), min(period.end, at))


async def bill(
    tx: Tx,
    seams: Seams,
    *,
    org_id: UUID,
    billed: Sequence[Billed],
    at: datetime,
    now: datetime | None = None,
    rewrite: Invoice | None = None,
    final: bool = False,
) -> Invoice | None:
    """One invoice of what these subscriptions of one customer, in one currency, owe at `at`; None when there is nothing
    to invoice. With `rewrite`, a draft of them that the caller holds is made anew at `now`; `final` ends its grace."""
    # The customer is held from here on: whether there is grace stays as it is read, and comes before all else that is held.
    terms = await lock_terms(tx, org_id, billed[0].subscription.customer_id)
    is_final = final or terms.invoice_grace_period == 0
    if is_final and rewrite is None:
        await _close_usage(tx, billed, at)
    parts = [await _Part.of(tx, seams, one, at, rewrite) for one in billed]
    corrections: list[Adjustment] = []
    if is_final:
        parts, corrections = await _with_corrections(tx, seams, parts, now or at)
    draft = _draft(org_id, [part for part in parts if part.lines or part.ends_something])
    if draft is None:
        return None
    draft = replace(draft, lines=tuple(line for line in draft.lines if not belongs_on_no_invoice(line)))
    credits = [await _progressive_credit(tx, seams, part, now or at, final=is_final) for part in parts]
    draft = replace(draft, progressive_credits=tuple(one for of_part in credits for one in of_part))
    invoice = await issue_invoice(tx, seams, draft, now=now or at, rewrite=rewrite, final=final)
    if rewrite is None:
        for part in parts:
            await keep_apart(
                tx, seams, part.version, [line for line in part.lines if belongs_on_no_invoice(line)]
            )
    ended = [part.billed.subscription for part in parts if part.may_have_paid_fees]
    if ended and (rewrite is None or rewrite.status is InvoiceStatus.FAILED):
        await regroup_paid_fees(tx, seams, subscriptions=ended, at=at, now=now or at)
    if corrections:
        await write_out(tx)
    for correction in corrections:
        await give_back(tx, seams, correction, now=now or at)
    return invoice


async def _close_usage(tx: Tx, billed: Sequence[Billed], at: datetime) -> None:
    """Close usage that was left open for a draft, where the grace was taken away since: what comes from here on would be on
    no invoice otherwise."""
    for one in sorted(billed, key=lambda each: each.subscription.id):
        if one.reason in _ENDING and one.subscription.billed_through < at:
            await subscriptions_store.lock(tx, one.subscription.org_id, one.subscription.id)
            await subscriptions_store.bill_through(tx, one.subscription.org_id, one.subscription.id, at)


async def _progressive_credit(
    tx: Tx, seams: Seams, part: "_Part", now: datetime, *, final: bool
) -> tuple[ProgressiveCredit, ...]:
    """What progressive invoices charged of a part's usage; when the invoice becomes final, more is given back."""
    version, usage = part.version, part.about
    if part.billed.reason not in _ENDING or usage.charges_start is None:
        return ()
    if not version.usage_thresholds and version.overrides is None:
        return ()  # only a version of its own can have taken the place of one with thresholds within the period
    earlier = await progressive_store.invoices_of_period(
        tx, version.org_id, usage.subscription_id, usage.charges_start
    )
    if not earlier:
        return ()
    lines = [line for line in part.lines if not belongs_on_no_invoice(line)]
    if not final:
        return credit_of(earlier, lines)
    await write_out(tx)
    return await take_off(tx, seams, earlier, lines, now=now)


async def bill_corrections(
    tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime
) -> Invoice | None:
    """Late usage of a subscription that has ended, by an invoice of its own. Harmless when there is none any more."""
    subscription = await subscriptions_store.get(tx, org_id, subscription_id)
    if subscription.status is Status.ACTIVE:
        return None  # its next invoice will have it
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    about = InvoiceSubscription(
        subscription.id,
        BillingReason.LATE_USAGE,
        subscription.current_period_start,
        subscription.current_period_end,
    )
    empty = _Part(Billed(subscription, BillingReason.LATE_USAGE), version, about, ())
    parts, corrections = await _with_corrections(tx, seams, [empty], now)
    invoice = None
    draft = _draft(org_id, [part for part in parts if part.lines])
    if draft is not None:
        invoice = await issue_invoice(tx, seams, draft, now=now, final=True)
    for correction in corrections:
        await give_back(tx, seams, correction, now=now)
    return invoice


async def _with_corrections(
    tx: Tx, seams: Seams, parts: Sequence["_Part"], now: datetime
) -> tuple[list["_Part"], list[Adjustment]]:
    """The parts with what late usage adds to earlier periods, and apart from them what it takes off."""
    added = []
    taken_off: list[Adjustment] = []
    for part in parts:
        lines = part.lines
        if part.billed.reason in (*_ENDING, BillingReason.LATE_USAGE):
            for one in await list_adjustments(tx, seams, part.billed.subscription, now=now, take=True):
                if one.net_cents < 0:
                    taken_off.append(one)
                else:
                    lines += one.lines
        added.append(replace(part, lines=lines))
    return added, taken_off


async def refresh_draft(
    tx: Tx, seams: Seams, invoice: Invoice, *, now: datetime, final: bool
) -> Invoice | None:
    """Make a draft anew from what is stored now, or the invoice that it becomes. The caller holds it.

    Subscriptions are held first: what is counted from here on belongs to no period of theirs that this makes final.
    """
    assert invoice.status in (InvoiceStatus.DRAFT, InvoiceStatus.FAILED), "others are never made anew"
    billed = []
    at = invoice.created_at
    for part in sorted(invoice.subscriptions, key=lambda one: one.subscription_id):
        subscription = await subscriptions_store.lock(tx, invoice.org_id, part.subscription_id)
        assert subscription is not None, "subscriptions are never deleted"
        if final and part.charges_end is not None:
            await subscriptions_store.bill_through(tx, invoice.org_id, subscription.id, part.charges_end)
        successor = await subscriptions_store.find_successor(tx, invoice.org_id, subscription.id)
        replaced = successor is not None and successor.started_at == subscription.terminated_at
        billed.append(Billed(subscription, part.reason, replaced))
    return await bill(
        tx, seams, org_id=invoice.org_id, billed=billed, at=at, now=now, rewrite=invoice, final=final
    )


async def bill_failed(
    tx: Tx, seams: Seams, *, org_id: UUID, billed: Sequence[Billed], at: datetime, error: str
) -> Invoice:
    """What stands in the place of an invoice that could not be made, with the reason; it can be retried."""
    parts = []
    for one in billed:
        version = await plan_store.get_plan_version(tx, org_id, one.subscription.plan_version_id)
        parts.append(_Part(one, version, _Billing(tx, seams, one, version, "", at, None).about(), ()))
    draft = _draft(org_id, parts)
    assert draft is not None, "an invoice that failed was about something"
    return await store_failed(tx, seams, draft, error=error, now=at)


@dataclass(frozen=True, slots=True)
class _Part:
    """One subscription's share of an invoice."""

    billed: Billed
    version: PlanVersion
    about: InvoiceSubscription
    lines: tuple[InvoiceLine, ...]

    @property
    def ends_something(self) -> bool:
        """Whether a period ends here, for which there is an invoice even when nothing was used."""
        return self.billed.reason in _ENDING and self.about.charges_start is not None

    @property
    def may_have_paid_fees(self) -> bool:
        """Whether this plan, or one before it, regroups fees that were paid in advance."""
        return self.billed.reason in _ENDING and (
            self.billed.subscription.previous_subscription_id is not None
            or any(charge.regroup_paid_fees for charge in self.version.charges)
        )

    @staticmethod
    async def of(tx: Tx, seams: Seams, billed: Billed, at: datetime, rewrite: Invoice | None) -> "_Part":
        subscription = billed.subscription
        version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
        _, plan_name = await plan_store.plan_names(tx, subscription.org_id, subscription.plan_id)
        billing = _Billing(tx, seams, billed, version, plan_name, at, rewrite)
        lines = tuple(await billing.lines())
        return _Part(billed, version, billing.about(), lines)


@dataclass(frozen=True, slots=True)
class _Billing:
    """Works out one subscription's lines at one instant."""

    tx: Tx
    seams: Seams
    billed: Billed
    version: PlanVersion
    plan_name: str
    at: datetime
    rewrite: Invoice | None

    async def lines(self) -> list[InvoiceLine]:
        lines = [*self._fee(), *await self._fixed_charges()]
        if (usage := self.usage_period()) is not None:
            lines += await rate_usage(
                self.tx,
                self.seams,
                self.subscription,
                self.version,
                usage,
                self.at,
                following=self._following(self.version.usage_interval),
            )
        return [*lines, *await self._commitment(lines)]

    def about(self) -> InvoiceSubscription:
        usage = self.usage_period()
        fee = self.fee_period() or usage
        if fee is None:
            fee = Period(self.subscription.started_at, self.subscription.current_period_end)
        return InvoiceSubscription(
            subscription_id=self.subscription.id,
            reason=self.billed.reason,
            period_start=fee.start,
            period_end=fee.end,
            charges_start=usage.start if usage else None,
            charges_end=usage.end if usage else None,
        )

    @property
    def subscription(self) -> Subscription:
        return self.billed.subscription

    @property
    def ends(self) -> bool:
        return self.billed.reason is BillingReason.TERMINATING

    def usage_period(self) -> Period | None:
        """The period of usage that ends here."""
        return self._ended(self.version.usage_interval, always=True)

    def fee_period(self) -> Period | None:
        """The period that the fixed fee on this invoice is for."""
        if self.billed.reason is BillingReason.TRIAL_ENDED:
            following = self._running(self.version.interval)
            assert self.subscription.trial_ends_at is not None, "a trial that ended"
            return Period(self.subscription.trial_ends_at, following.end)
        if self.version.pay_in_advance:
            return self._following(self.version.interval)
        return self._ended(self.version.interval)

    def _ended(self, interval: Interval, *, always: bool = False) -> Period | None:
        """The period of an interval that ends at this instant, cut at the start and end of the subscription."""
        if self.billed.reason not in _ENDING:
            return None
        period = self.subscription.calendar(interval).period_at(self.at - _TICK)
        if self.ends and period.end == self.at and self.subscription.current_period_start >= self.at:
            return None  # it ended in the instant a period began: the one before was closed, and is billed as ever
        if not (always or self.ends or period.end == self.at):
            return None
        return ended_period(self.subscription, interval, self.at)

    def _following(self, interval: Interval) -> Period | None:
        """The period of an interval that begins at this instant. What ends early is credited when it does."""
        if self.billed.reason not in _BEGINNING:
            return None
        period = self._running(interval)
        begins = period.start == self.at or self.billed.reason is BillingReason.STARTING
        return period if begins else None

    def _running(self, interval: Interval) -> Period:
        period = self.subscription.calendar(interval).period_at(self.at)
        return Period(max(period.start, self.subscription.started_at), period.end)

    def _fee(self) -> list[InvoiceLine]:
        period = self.fee_period()
        in_advance = self.version.pay_in_advance
        if period is None or (in_advance and is_in_trial(self.subscription, self.at)):
            return []
        replaced = self.billed.replaced and not in_advance
        return [fee_line(self.subscription, self.version, self.plan_name, period, self.at, replaced=replaced)]

    async def _fixed_charges(self) -> list[InvoiceLine]:
        lines = []
        for charge in self.version.fixed_charges:
            interval = self.version.fixed_charge_interval
            period = self._following(interval) if charge.pay_in_advance else self._ended(interval)
            if period is not None:
                lines.append(await self._fixed_charge(charge, period))
        return lines

    async def _fixed_charge(self, charge: FixedCharge, period: Period) -> InvoiceLine:
        add_on = await add_on_store.get_add_on_by_id(self.tx, self.version.org_id, charge.add_on_id)
        return fixed_charge_line(
            self.subscription,
            self.version,
            charge,
            add_on.invoice_display_name or add_on.name,
            period,
            self.at,
            replaced=self.billed.replaced,
        )

    async def _commitment(self, lines: Sequence[InvoiceLine]) -> list[InvoiceLine]:
        """What the fee's period that ends here misses of its minimum, of what was billed for it so far and now."""
        commitment = self.version.minimum_commitment
        period = self._ended(self.version.interval)
        if commitment is None or period is None:
            return []
        earlier = await invoicing_store.lines_within(
            self.tx,
            self.version.org_id,
            self.subscription.id,
            period.start,
            self.subscription.calendar(self.version.interval).period_at(period.start).end,
            but_not=self.rewrite.id if self.rewrite else None,
        )
        billed = sum(
            line.amount_cents
            for line in (*earlier, *lines)
            if line.period_start is not None
            and period.start <= line.period_start < period.end
            and line.kind is not LineKind.COMMITMENT
        )
        line = commitment_line(
            self.subscription,
            self.version,
            commitment,
            self.plan_name,
            period,
            billed,
            self.at,
            replaced=self.billed.replaced,
        )
        return [] if line is None else [line]


def belongs_on_no_invoice(line: InvoiceLine) -> bool:
    """Usage paid in advance that is not invoiced: a fee by itself."""
    return line.kind is LineKind.CHARGE and line.pay_in_advance


def _draft(org_id: UUID, parts: Sequence[_Part]) -> InvoiceDraft | None:
    if not parts:
        return None
    first = parts[0]
    assert all(part.version.currency == first.version.currency for part in parts), "one currency an invoice"
    return InvoiceDraft(
        org_id=org_id,
        customer_id=first.billed.subscription.customer_id,
        currency=first.version.currency,
        lines=tuple(line for part in parts for line in part.lines),
        subscriptions=tuple(part.about for part in parts),
        tax_codes={line.id: tax_codes_of(part.version, line) for part in parts for line in part.lines},
        may_wait=True,
    )
