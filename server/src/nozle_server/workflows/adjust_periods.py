"""Correct closed periods for the events that came for them afterwards.

A late event marks its period (`late_periods`). With the next invoice of its subscription, or an invoice of its own when
there will be no next one, the usage of that period is rated again with every event that is known by then: tiers,
packages and minimums are walked anew, and what differs from all that was billed for the period before becomes adjustment
lines that name it. Where that comes to less than was billed, it is given back by a credit note on the period's invoice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.core import json
from nozle_server.core.allocation import allocate
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period, local_date, start_of_day
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import late_store
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.credit_notes.model import Reason
from nozle_server.invoicing.credit_notes.operations import (
    CreditNoteDraft,
    create_credit_note,
    estimate_credit_note,
)
from nozle_server.invoicing.late_store import LatePeriod
from nozle_server.invoicing.model import Invoice, InvoiceLine, LineKind
from nozle_server.invoicing.usage_lines import rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription

ADJUST_PERIODS = "adjust_periods"

LineKey = tuple[LineKind, UUID | None, UUID | None, bytes, bool]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a closed period comes to now less what was billed for it: lines that correct it, in their order.

    `invoice_id` is the invoice that was made for the period.
    """

    org_id: UUID
    subscription_id: UUID
    invoice_id: UUID
    period: Period
    lines: tuple[InvoiceLine, ...]

    @property
    def net_cents(self) -> int:
        return sum(line.amount_cents for line in self.lines)


async def note_late_events(
    tx: Tx,
    org_id: UUID,
    events: Sequence[tuple[EventRecord, Subscription, Period]],
    now: datetime,
) -> None:
    """Mark the periods that these stored events came too late for, in the transaction that stores the events."""
    marks: dict[tuple[UUID, UUID, datetime], list[EventRecord]] = defaultdict(list)
    periods: dict[tuple[UUID, UUID, datetime], tuple[Subscription, Period]] = {}
    for event, subscription, period in events:
        if event.metric_id is not None and subscription.bills(period):
            key = (subscription.id, event.metric_id, period.start)
            marks[key].append(event)
            periods[key] = (subscription, period)
    for key in sorted(marks):
        subscription, period = periods[key]
        late = LatePeriod(subscription.id, key[1], period.start, period.end, len(marks[key]))
        await late_store.mark(tx, org_id, late, now)
        if subscription.status is not Status.ACTIVE:
            # There is no next invoice to wait for; a day, so that late events of one day share an invoice.
            tomorrow = local_date(now, subscription.timezone) + timedelta(days=1)
            await due.schedule(
                tx,
                org_id=org_id,
                kind=ADJUST_PERIODS,
                subject_id=subscription.id,
                due_at=start_of_day(tomorrow, subscription.timezone),
                now=now,
            )


async def list_adjustments(
    tx: Tx, seams: Seams, subscription: Subscription, *, now: datetime, take: bool = False
) -> list[Adjustment]:
    """What is to be corrected of a subscription's closed periods, as it stands now; the earliest period first.

    `take` says that the caller bills it in this transaction: the marks are held, so that an event which is not seen here
    marks its period anew, and removed.
    """
    periods: dict[tuple[datetime, datetime], set[UUID]] = defaultdict(set)
    for late in await late_store.list_late(tx, subscription.org_id, subscription.id, lock=take):
        periods[late.period_start, late.period_end].add(late.metric_id)
    found = []
    for (start, end), metric_ids in sorted(periods.items()):
        period = Period(start, end)
        invoice_id = await late_store.invoice_of_period(tx, subscription.org_id, subscription.id, start)
        if invoice_id is None:
            continue  # still a draft, or failed: it will be billed with that invoice
        lines = await _corrections(tx, seams, subscription, period, metric_ids, invoice_id, now)
        if take:
            await late_store.unmark(tx, subscription.org_id, subscription.id, start)
        if lines:
            found.append(Adjustment(subscription.org_id, subscription.id, invoice_id, period, tuple(lines)))
    return found


async def give_back(tx: Tx, seams: Seams, adjustment: Adjustment, *, now: datetime) -> None:
    """Late usage made a period cheaper: a credit note on its invoice, and the corrections beside it for the next time."""
    invoice = await invoicing_store.find(tx, adjustment.org_id, adjustment.invoice_id)
    assert invoice is not None, "invoices are never deleted"
    items = credited_items(adjustment, invoice.lines)
    if items:
        estimate = await estimate_credit_note(
            tx, org_id=adjustment.org_id, invoice_id=invoice.id, items=items
        )
        draft = CreditNoteDraft(
            reason=Reason.OTHER,
            items=items,
            credit_amount_cents=estimate.amounts.total_cents,
            description="Late usage made the period cheaper",
        )
        await create_credit_note(
            tx, seams, org_id=adjustment.org_id, invoice_id=invoice.id, draft=draft, now=now
        )
    await invoicing_store.insert_lines(
        tx, [replace(line, payment_status="succeeded") for line in adjustment.lines]
    )


def credited_items(adjustment: Adjustment, lines: Sequence[InvoiceLine]) -> list[tuple[UUID, Decimal]]:
    """Which lines of the period's invoice a net reduction is taken back from: those that became cheaper, in proportion,
    none by more than it says."""
    billed = {
        key_of(line): line
        for line in lines
        if line.subscription_id == adjustment.subscription_id and line.adjusts_invoice_id is None
    }
    cheaper = [
        (billed[key_of(line)], -line.amount_cents)
        for line in adjustment.lines
        if line.amount_cents < 0 and key_of(line) in billed
    ]
    if not cheaper:
        return []
    shares = allocate(-adjustment.net_cents, [Decimal(cents) for _, cents in cheaper])
    return [
        (line.id, Decimal(min(share, line.amount_cents)))
        for (line, _), share in zip(cheaper, shares, strict=True)
        if min(share, line.amount_cents) > 0
    ]


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction of an invoice's period: `pending` for the next invoice, on an invoice already (`invoiced`), or given
    back by a credit note (`credited`)."""

    subscription_id: UUID
    period: Period
    status: str
    invoice_id: UUID | None
    lines: tuple[InvoiceLine, ...]


async def corrections_of(tx: Tx, seams: Seams, invoice: Invoice, *, now: datetime) -> list[Correction]:
    """What late usage changes of an invoice's periods: what was corrected already, and what is coming."""
    made: dict[tuple[UUID, datetime, datetime, UUID | None], list[InvoiceLine]] = defaultdict(list)
    for line in await late_store.lines_adjusting(tx, invoice.org_id, invoice.id):
        assert line.subscription_id, "a correction is of a subscription's period"
        assert line.period_start, "a correction is of a period"
        assert line.period_end, "a correction is of a period"
        made[line.subscription_id, line.period_start, line.period_end, line.invoice_id].append(line)
    found = [
        Correction(
            subscription_id,
            Period(start, end),
            "credited" if invoice_id is None else "invoiced",
            invoice_id,
            tuple(lines),
        )
        for (subscription_id, start, end, invoice_id), lines in made.items()
    ]
    for part in invoice.subscriptions:
        subscription = await subscriptions_store.get(tx, invoice.org_id, part.subscription_id)
        for one in await list_adjustments(tx, seams, subscription, now=now):
            if one.invoice_id == invoice.id:
                found.append(Correction(subscription.id, one.period, "pending", None, one.lines))
    return found


async def _corrections(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    period: Period,
    metric_ids: set[UUID],
    invoice_id: UUID,
    now: datetime,
) -> list[InvoiceLine]:
    billed = await invoicing_store.lines_of_period(
        tx, subscription.org_id, subscription.id, period.start, period.end
    )
    version_id = next((line.plan_version_id for line in billed if line.plan_version_id), None)
    version = await plan_store.get_plan_version(
        tx, subscription.org_id, version_id or subscription.plan_version_id
    )
    charges = [one for one in version.charges if one.metric_id in metric_ids and not one.pay_in_advance]
    rated = await rate_usage(
        tx, seams, subscription, version, period, now, charges=charges, include_late=True
    )
    priced = {charge.id for charge in charges}
    before = [line for line in billed if line.charge_id in priced and not line.pay_in_advance]
    lines = differences(rated, before)
    commitment = await _commitment(tx, subscription, period, lines)
    corrected = {key_of(line): new_id() for line in lines}
    # A minimum stands beside the correction of its line, or beside the line itself where that stays as it is.
    line_of = {key_of(line): line.id for line in before} | corrected
    parent_of = {line.id: line_of[key_of(line)] for line in rated if key_of(line) in line_of}
    return [
        replace(
            line,
            id=corrected.get(key_of(line)) or new_id(),
            true_up_of=parent_of.get(line.true_up_of, line.true_up_of) if line.true_up_of else None,
            created_at=now,
            adjusts_invoice_id=invoice_id,
            invoice_id=None,
            description=f"{line.description}, correction",
        )
        for line in [*lines, *commitment]
    ]


def differences(rated: Sequence[InvoiceLine], billed: Sequence[InvoiceLine]) -> list[InvoiceLine]:
    """What each line comes to now less all that was billed for it; nothing for those that stay as they are."""
    now_by_key = {key_of(line): line for line in rated}
    before: dict[LineKey, list[InvoiceLine]] = defaultdict(list)
    for one in billed:
        before[key_of(one)].append(one)
    changed = []
    with localcontext(EXACT):
        for key in [*now_by_key, *(key for key in before if key not in now_by_key)]:
            line = now_by_key.get(key)
            old = before.get(key, [])
            template = line or old[0]
            units = (line.units if line else Decimal(0)) - sum((one.units for one in old), Decimal(0))
            exact = line.exact_amount_cents if line else Decimal(0)
            billed_exact = sum((one.exact_amount_cents for one in old), Decimal(0))
            billed_cents = sum(one.amount_cents for one in old)
            events = (line.events_count if line else 0) - sum(one.events_count for one in old)
            cents = (line.amount_cents if line else 0) - billed_cents
            if not (units or events or cents or exact != billed_exact):
                continue
            step = {
                "kind": "correction",
                "now_exact_cents": exact,
                "billed_exact_cents": billed_exact,
                "billed_cents": billed_cents,
                "amount_cents": exact - billed_exact,
            }
            changed.append(
                replace(
                    template,
                    units=units,
                    events_count=events,
                    exact_amount_cents=exact - billed_exact,
                    amount_cents=cents,
                    steps=(*(line.steps if line else ()), step),
                    coupons_exact_amount_cents=Decimal(0),
                    taxes_rate=Decimal(0),
                    taxes_amount_cents=0,
                    applied_taxes=(),
                    payment_status="pending",
                )
            )
    return changed


def key_of(line: InvoiceLine) -> LineKey:
    """What makes two lines of a period the same thing, billed and billed again."""
    return (
        line.kind,
        line.charge_id,
        line.charge_filter_id,
        json.canonical(dict(line.grouped_by)),
        line.true_up_of is not None,
    )


async def _commitment(
    tx: Tx, subscription: Subscription, period: Period, corrections: Sequence[InvoiceLine]
) -> list[InvoiceLine]:
    """What the corrections change in the minimum commitment of the fee's period that they lie in."""
    about = await late_store.commitments_around(
        tx, subscription.org_id, subscription.id, period.start, period.end
    )
    if not about:
        return []
    first = about[0]
    committed = Decimal(_committed(first.steps))
    assert first.period_start is not None, "a commitment has a period"
    assert first.period_end is not None, "a commitment has a period"
    lines = await invoicing_store.lines_within(
        tx, subscription.org_id, subscription.id, first.period_start, first.period_end, but_not=None
    )
    billed = sum(line.amount_cents for line in lines if line.kind is not LineKind.COMMITMENT)
    billed += sum(line.amount_cents for line in corrections)
    trued_up = sum(line.amount_cents for line in about)
    with localcontext(EXACT):
        owed = max(0, to_cents(committed - billed))
    if owed == trued_up:
        return []
    step = {
        "kind": "correction",
        "committed_cents": committed,
        "billed_cents": billed,
        "trued_up_cents": trued_up,
        "amount_cents": owed - trued_up,
    }
    return [
        replace(
            first,
            exact_amount_cents=Decimal(owed - trued_up),
            amount_cents=owed - trued_up,
            steps=(step,),
            coupons_exact_amount_cents=Decimal(0),
            taxes_rate=Decimal(0),
            taxes_amount_cents=0,
            applied_taxes=(),
            payment_status="pending",
        )
    ]


def _committed(steps: Sequence[Mapping[str, object]]) -> str:
    for step in steps:
        if "committed_cents" in step:
            return str(step["committed_cents"])
    raise AssertionError("a commitment's line says what was committed")
