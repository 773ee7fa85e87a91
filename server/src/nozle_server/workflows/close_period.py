"""A billing period ends, in two steps that commit on their own: it is closed and the next one opened; it is invoiced.

Closing is short, because events wait for it. Invoicing reads all the period's usage, and nobody waits: what is in the
period cannot change any more, since later events find it closed. An invoice that fails is put aside, and the customer
goes on with a new period and its credits. Where the customer has a grace period the usage stays open until the draft is
finalized.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.credit_notes.operations import lock_invoice
from nozle_server.invoicing.model import BillingReason, InvoiceStatus
from nozle_server.invoicing.terms import grace_days
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce, announce_usage, customer_of
from nozle_server.workflows.bill import Billed, bill, bill_failed, refresh_draft
from nozle_server.workflows.credit_unused import credit_of_final, credit_unused
from nozle_server.workflows.hand_over import hand_over_events
from nozle_server.workflows.open_period import open_period
from nozle_server.workflows.start_subscription import announce_start, schedule_trial_end

SUBSCRIPTION_TERMINATED = "subscription.terminated"
INVOICE_PERIOD = "invoice_period"


async def close_period(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """Close the current period, which ends at or before `now`, and open the next with its credits, or end the
    subscription, which another plan may follow. Harmless when it has been closed already.

    The subscription's row is held, so that an event is either in the period or finds it closed.
    """
    subscription = await subscriptions_store.lock(tx, org_id, subscription_id)
    if (
        subscription is None
        or subscription.status is not Status.ACTIVE
        or subscription.current_period_end > now
    ):
        return
    end = subscription.current_period_end
    final = await grace_days(tx, org_id, subscription.customer_id) == 0
    await due.schedule(
        tx, org_id=org_id, kind=INVOICE_PERIOD, subject_id=subscription.id, due_at=end, now=now
    )
    successor = await subscriptions_store.find_successor(tx, org_id, subscription.id)
    follows = successor is not None and successor.status is Status.PENDING and successor.started_at <= end
    if follows or (subscription.ending_at is not None and subscription.ending_at <= end):
        await subscriptions_store.terminate(tx, org_id, subscription.id, end, final=final)
        await announce(tx, seams, SUBSCRIPTION_TERMINATED, subscription)
        taking = successor if follows else None
        await hand_over_events(tx, seams, old=subscription, to=taking, at=end)
        if successor is not None and follows:
            await _succeed(tx, seams, successor, now=now)
        elif successor is not None and successor.status is Status.PENDING:
            await subscriptions_store.update(tx, replace(successor, status=Status.CANCELED, canceled_at=end))
        return
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    following = subscription.period_at(end, version.usage_interval)
    opened = replace(subscription, current_period_start=following.start, current_period_end=following.end)
    await subscriptions_store.open_period(
        tx,
        org_id,
        subscription.id,
        start=following.start,
        end=following.end,
        billed_through=end if final else subscription.billed_through,
    )
    await open_period(tx, seams, opened, version, now=now)
    await announce_usage(tx, seams, org_id, [await customer_of(tx, org_id, subscription.customer_id)])


async def _succeed(tx: Tx, seams: Seams, successor: Subscription, *, now: datetime) -> None:
    """The plan that was waiting for the end of the period takes over; its invoice is the old one's too."""
    await subscriptions_store.activate(tx, successor.org_id, successor.id)
    version = await plan_store.get_plan_version(tx, successor.org_id, successor.plan_version_id)
    started = replace(successor, status=Status.ACTIVE)
    await open_period(tx, seams, started, version, now=now, begins=True)
    await schedule_trial_end(tx, started, now=now)
    await announce_start(tx, seams, started)


async def invoice_period(
    tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, ended_at: datetime
) -> None:
    """Make the invoice of the period that ended at `ended_at`, together with the customer's other subscriptions whose
    periods ended at that instant. A unique key keeps a second one out."""
    if billed := await _billed_together(tx, seams, org_id, subscription_id, ended_at):
        await bill(tx, seams, org_id=org_id, billed=billed, at=ended_at)


async def invoice_failed(
    tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, ended_at: datetime, error: str
) -> None:
    """Keep the place of an invoice that could not be made: it is seen among the others, and can be retried."""
    subscription = await subscriptions_store.get(tx, org_id, subscription_id)
    if billed := await _billed(tx, org_id, subscription, ended_at):
        await bill_failed(tx, seams, org_id=org_id, billed=billed, at=ended_at, error=error)


async def _billed_together(
    tx: Tx, seams: Seams, org_id: UUID, subscription_id: UUID, ended_at: datetime
) -> list[Billed]:
    subscription = await subscriptions_store.get(tx, org_id, subscription_id)
    others = await due.take(
        tx,
        org_id,
        INVOICE_PERIOD,
        ended_at,
        await subscriptions_store.ids_billed_with(tx, org_id, subscription.id),
    )
    together = [subscription]
    for other in others:
        together.append(await subscriptions_store.get(tx, org_id, other))
    billed: list[Billed] = []
    for one in sorted(together, key=lambda each: (each.started_at, each.id)):
        if one.terminated_at is not None and one.terminated_at <= ended_at:
            await credit_unused(tx, seams, one, now=ended_at)
        billed += await _billed(tx, org_id, one, ended_at)
    return billed


async def _billed(tx: Tx, org_id: UUID, subscription: Subscription, ended_at: datetime) -> Sequence[Billed]:
    """The subscription's period, and the plan that took its place at its end."""
    if (
        subscription.terminated_at is None
        or subscription.terminated_at > ended_at
        or subscription.current_period_start >= ended_at
    ):
        return [Billed(subscription, BillingReason.PERIODIC)]
    ended = Billed(subscription, BillingReason.TERMINATING)
    successor = await subscriptions_store.find_successor(tx, org_id, subscription.id)
    if successor is None or successor.started_at != ended_at or successor.status is Status.PENDING:
        return [] if subscription.on_termination_invoice == "skip" else [ended]
    return [replace(ended, replaced=True), Billed(successor, BillingReason.STARTING)]


async def finalize_draft(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """The grace of a draft has passed: it becomes final, with all the usage that came meanwhile. Harmless when it has."""
    found = await invoicing_store.find(tx, org_id, invoice_id)
    if found is None or found.status is not InvoiceStatus.DRAFT:
        return
    invoice = await lock_invoice(tx, org_id, invoice_id)
    if invoice.status is InvoiceStatus.DRAFT:
        final = await refresh_draft(tx, seams, invoice, now=now, final=True)
        if final is not None:
            await credit_of_final(tx, seams, final, now=now)
