"""Change a subscription's plan: an upgrade takes effect at once, a downgrade when the billing period ends.

An upgrade ends the old subscription and starts another under the same external id, with the same anchor, in one invoice:
what the old one used, the fee of the new one for the rest of the period, and a credit for what the old one's fee paid in
advance is not used for. A downgrade waits as a pending subscription, which `close_period` starts.

As Lago: https://getlago.com/docs/guide/subscriptions/upgrade-downgrade
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.errors import Conflict, RuleBroken
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.model import BillingReason, Invoice
from nozle_server.invoicing.terms import grace_days
from nozle_server.subscriptions import lifecycle, store
from nozle_server.subscriptions.lifecycle import Direction
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce
from nozle_server.workflows.bill import Billed, bill
from nozle_server.workflows.catch_up import catch_up
from nozle_server.workflows.close_period import SUBSCRIPTION_TERMINATED
from nozle_server.workflows.credit_unused import credit_unused
from nozle_server.workflows.hand_over import hand_over_events
from nozle_server.workflows.open_period import open_period
from nozle_server.workflows.start_subscription import announce_start, schedule_trial_end

SUBSCRIPTION_UPDATED = "subscription.updated"


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a change did. `subscription` is the one that counts now, `pending` what follows it, if anything.

    `direction` None: nothing was changed. Amounts are in minor units with taxes: what was credited for the old plan, what
    the invoice charges.
    """

    before: Subscription
    subscription: Subscription
    pending: Subscription | None
    direction: Direction | None
    effective_at: datetime
    currency: str
    invoice: Invoice | None = None
    credit_cents: int = 0

    @property
    def debit_cents(self) -> int:
        return self.invoice.sub_total_including_taxes_amount_cents if self.invoice else 0


async def change_plan(
    tx: Tx,
    seams: Seams,
    *,
    subscription: Subscription,
    version: PlanVersion,
    now: datetime,
    name: str | None = None,
) -> PlanChange:
    """Put a subscription, whose customer's row the caller holds, on a version of another plan.

    The plan it has already: nothing happens, but that a change that was to come is taken back. A subscription that has not
    begun simply begins with the other plan. RuleBroken for another currency, Conflict `subscription_not_active` for one that
    has ended.
    """
    org_id = subscription.org_id
    subscription = await _newest(tx, seams, subscription, now)
    now = not_before(subscription, now)
    if subscription.status not in (Status.ACTIVE, Status.PENDING):
        raise Conflict("subscription not active", code="subscription_not_active")
    current = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    if current.currency != version.currency:
        raise RuleBroken(
            "the plans have different currencies",
            code="currencies_does_not_match",
            details={"currency": ["currencies_does_not_match"]},
        )
    if subscription.status is Status.PENDING:
        return await _replan(tx, seams, subscription, version, name, now)
    withdrawn = await withdraw(tx, seams, subscription, now=now)
    if version.plan_id == subscription.plan_id and version.overrides is None:
        return PlanChange(
            before=withdrawn or subscription,
            subscription=subscription,
            pending=None,
            direction=None,
            effective_at=now,
            currency=version.currency,
        )
    if lifecycle.direction(current, version) is Direction.UPGRADE:
        return await _upgrade(tx, seams, subscription, version, name, now)
    return await _downgrade(tx, seams, subscription, current, version, name, now)


def not_before(subscription: Subscription, now: datetime) -> datetime:
    """`now`, which a caller read before it held the subscription; not earlier than what was done to it meanwhile."""
    if subscription.status is Status.PENDING:
        return now
    return max(now, subscription.current_period_start)


async def withdraw(tx: Tx, seams: Seams, subscription: Subscription, *, now: datetime) -> Subscription | None:
    """Take back the change that was to follow a subscription; what it was, None when there was none."""
    pending = await store.find_successor(tx, subscription.org_id, subscription.id)
    if pending is None or pending.status is not Status.PENDING:
        return None
    await store.update(tx, replace(pending, status=Status.CANCELED, canceled_at=now))
    await _announce_update(tx, seams, subscription)
    return pending


async def _newest(tx: Tx, seams: Seams, subscription: Subscription, now: datetime) -> Subscription:
    """The subscription, caught up with, or what took its place meanwhile, caught up with as well."""
    org_id = subscription.org_id
    while True:
        held = await catch_up(tx, seams, org_id=org_id, subscription_id=subscription.id, now=now)
        if held.status is not Status.TERMINATED:
            return held
        successor = await store.find_successor(tx, org_id, held.id)
        if successor is None:
            return held
        subscription = successor


async def _replan(
    tx: Tx,
    seams: Seams,
    pending: Subscription,
    version: PlanVersion,
    name: str | None,
    now: datetime,
) -> PlanChange:
    """A subscription that has not begun: nothing has been billed, so it is simply another one."""
    before = await plan_store.get_plan_version(tx, pending.org_id, pending.plan_version_id)
    same = version.plan_id == pending.plan_id and version.overrides is None
    changed = pending if same else lifecycle.replanned(pending, version, now)
    if not same:
        changed = replace(changed, name=name or pending.name)
        await store.update(tx, changed)
        await _announce_update(tx, seams, changed)
    return PlanChange(
        before=pending,
        subscription=changed,
        pending=None,
        direction=None if same else lifecycle.direction(before, version),
        effective_at=changed.started_at,
        currency=version.currency,
    )


async def _upgrade(
    tx: Tx,
    seams: Seams,
    old: Subscription,
    version: PlanVersion,
    name: str | None,
    now: datetime,
) -> PlanChange:
    org_id = old.org_id
    new = lifecycle.following(old, version, at=now, name=name, ending_at=old.ending_at, now=now)
    final = await grace_days(tx, org_id, old.customer_id) == 0
    await store.terminate(tx, org_id, old.id, now, final=final)
    await store.insert(tx, new)
    await hand_over_events(tx, seams, old=old, to=new, at=now)
    await open_period(tx, seams, new, version, now=now, begins=True)
    await schedule_trial_end(tx, new, now=now)
    ended = await store.get(tx, org_id, old.id)
    credit = await credit_unused(tx, seams, ended, now=now)
    invoice = await bill(tx, seams, org_id=org_id, billed=_billed(ended, new), at=now)
    await announce(tx, seams, SUBSCRIPTION_TERMINATED, old)
    await announce_start(tx, seams, new)
    return PlanChange(
        before=old,
        subscription=new,
        pending=None,
        direction=Direction.UPGRADE,
        effective_at=now,
        currency=version.currency,
        invoice=invoice,
        credit_cents=credit.total_amount_cents if credit else 0,
    )


def _billed(ended: Subscription, new: Subscription) -> Sequence[Billed]:
    """Both on one invoice; a plan that was replaced in the instant it began has nothing to bill."""
    billed = [Billed(new, BillingReason.STARTING)]
    if ended.started_at < new.started_at:
        billed.insert(0, Billed(ended, BillingReason.TERMINATING, replaced=True))
    return billed


async def _downgrade(
    tx: Tx,
    seams: Seams,
    old: Subscription,
    current: PlanVersion,
    version: PlanVersion,
    name: str | None,
    now: datetime,
) -> PlanChange:
    effective_at = lifecycle.fee_period(old, current, now).end
    if old.ending_at is not None and old.ending_at <= effective_at:
        raise Conflict(
            "the subscription ends before the change would take effect", code="subscription_is_ending"
        )
    new = lifecycle.following(old, version, at=effective_at, name=name, ending_at=old.ending_at, now=now)
    await store.insert(tx, new)
    await _announce_update(tx, seams, old)
    return PlanChange(
        before=old,
        subscription=old,
        pending=new,
        direction=Direction.DOWNGRADE,
        effective_at=effective_at,
        currency=version.currency,
    )


async def _announce_update(tx: Tx, seams: Seams, subscription: Subscription) -> None:
    await announce(tx, seams, SUBSCRIPTION_UPDATED, subscription)
