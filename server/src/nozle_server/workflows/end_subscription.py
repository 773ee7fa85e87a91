"""End a subscription: when its period ends, on a date, or at once; and take that back while it still can be.

Access lasts until the end. What is paid in advance and not used is credited when a subscription ends within its period
(`on_termination_credit_note`), and what it used is billed (`on_termination_invoice`).

As Lago: https://getlago.com/docs/guide/subscriptions/terminate-subscription
"""

from dataclasses import replace
from datetime import datetime

from nozle_server.catalog import plan_store
from nozle_server.core.errors import Conflict
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.model import BillingReason
from nozle_server.invoicing.terms import grace_days
from nozle_server.subscriptions import lifecycle, store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce
from nozle_server.workflows.bill import Billed, bill
from nozle_server.workflows.change_plan import SUBSCRIPTION_UPDATED, not_before, withdraw
from nozle_server.workflows.close_period import SUBSCRIPTION_TERMINATED
from nozle_server.workflows.credit_unused import credit_unused
from nozle_server.workflows.hand_over import hand_over_events
from nozle_server.workflows.open_period import PERIOD_END

TERMINATION_ALERT = "subscription.termination_alert"


async def end_at_period_end(
    tx: Tx, seams: Seams, *, subscription: Subscription, reason: str | None, now: datetime
) -> Subscription:
    """Let a running subscription end with the billing period that runs. One that is to end already keeps its date.

    A change of plan that was to follow is taken back. The caller holds the subscription and has caught up with it.
    """
    if subscription.ending_at is not None:
        return subscription
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    await withdraw(tx, seams, subscription, now=now)
    ending_at = lifecycle.fee_period(subscription, version, now).end
    changed = replace(
        subscription,
        canceled_at=now,
        cancel_at_period_end=True,
        cancellation_reason=reason,
    )
    changed = await set_ending(tx, seams, subscription=changed, ending_at=ending_at, now=now)
    await announce(tx, seams, TERMINATION_ALERT, changed, {"ending_at": ending_at})
    return changed


async def set_ending(
    tx: Tx, seams: Seams, *, subscription: Subscription, ending_at: datetime | None, now: datetime
) -> Subscription:
    """Give a subscription that the caller holds another end, or none, which also takes a cancellation back."""
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    changed = lifecycle.ending(subscription, version, ending_at)
    if ending_at is None:
        changed = replace(changed, canceled_at=None, cancel_at_period_end=False, cancellation_reason=None)
    await store.update(tx, changed)
    await _end_what_follows(tx, seams, changed, ending_at, now=now)
    if changed.status is Status.ACTIVE:
        await due.schedule(
            tx,
            org_id=changed.org_id,
            kind=PERIOD_END,
            subject_id=changed.id,
            due_at=changed.current_period_end,
            now=now,
        )
    await announce(tx, seams, SUBSCRIPTION_UPDATED, changed)
    return changed


async def _end_what_follows(
    tx: Tx, seams: Seams, subscription: Subscription, ending_at: datetime | None, *, now: datetime
) -> None:
    """A change of plan that is to follow ends then too; one that would begin no earlier is taken back."""
    pending = await store.find_successor(tx, subscription.org_id, subscription.id)
    if pending is None or pending.status is not Status.PENDING:
        return
    if ending_at is not None and ending_at <= pending.started_at:
        await withdraw(tx, seams, subscription, now=now)
        return
    version = await plan_store.get_plan_version(tx, pending.org_id, pending.plan_version_id)
    await store.update(tx, lifecycle.ending(pending, version, ending_at))


async def end_now(
    tx: Tx,
    seams: Seams,
    *,
    subscription: Subscription,
    now: datetime,
    reason: str | None = None,
    credit_note: str | None = None,
    invoice: str | None = None,
) -> Subscription:
    """End a subscription at once; one that has not begun is called off. `credit_note` (credit, refund, offset, skip) and
    `invoice` (generate, skip) come before what the subscription says itself.

    The caller holds the customer and the subscription, and has caught up with it.
    """
    org_id = subscription.org_id
    if subscription.status is Status.PENDING:
        called_off = replace(
            subscription, status=Status.CANCELED, canceled_at=now, cancellation_reason=reason
        )
        await store.update(tx, called_off)
        await announce(tx, seams, SUBSCRIPTION_TERMINATED, subscription)
        return called_off
    if subscription.status is not Status.ACTIVE:
        raise Conflict("subscription not active", code="subscription_not_active")
    now = not_before(subscription, now)
    await withdraw(tx, seams, subscription, now=now)
    chosen = replace(
        subscription,
        canceled_at=subscription.canceled_at or now,
        cancellation_reason=reason or subscription.cancellation_reason,
        on_termination_credit_note=credit_note or subscription.on_termination_credit_note,
        on_termination_invoice=invoice or subscription.on_termination_invoice,
    )
    await store.update(tx, chosen)
    final = await grace_days(tx, org_id, chosen.customer_id) == 0 or chosen.on_termination_invoice == "skip"
    await store.terminate(tx, org_id, chosen.id, now, final=final)
    ended = await store.get(tx, org_id, chosen.id)
    await hand_over_events(tx, seams, old=chosen, to=None, at=now)
    await credit_unused(tx, seams, ended, now=now)
    if ended.started_at < now and ended.on_termination_invoice != "skip":
        await bill(tx, seams, org_id=org_id, billed=[Billed(ended, BillingReason.TERMINATING)], at=now)
    await announce(tx, seams, SUBSCRIPTION_TERMINATED, ended)
    return ended
