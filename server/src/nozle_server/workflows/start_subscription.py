"""Start a subscription: now, later or in the past; and what falls due for it: its beginning and the end of its trial."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.periods import BillingTime
from nozle_server.customers.model import Customer
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.model import BillingReason, Invoice
from nozle_server.subscriptions import lifecycle, store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce, announce_rights
from nozle_server.workflows.bill import Billed, bill
from nozle_server.workflows.open_period import SUBSCRIPTION_STARTED, open_period

SUBSCRIPTION_START = "subscription_start"
TRIAL_END = "trial_end"
TRIAL_ENDED = "subscription.trial_ended"


async def start_subscription(
    tx: Tx,
    seams: Seams,
    *,
    customer: Customer,
    version: PlanVersion,
    timezone: str,
    billing_time: BillingTime,
    now: datetime,
    external_id: str | None = None,
    name: str | None = None,
    subscription_at: datetime | None = None,
    ending_at: datetime | None = None,
) -> Subscription:
    """Put a customer, whose row the caller holds, on a version of a plan from `subscription_at` (default: now) on.

    In the future it is pending until then. In the past it has run since then; the periods that were over before now are
    not billed, and neither is the fee paid in advance for the period that runs, unless it began today.
    """
    start = subscription_at or now
    check_currency(customer, version)
    check_ending(ending_at, start, now)
    subscription = lifecycle.beginning(
        org_id=customer.org_id,
        customer_id=customer.id,
        version=version,
        external_id=external_id,
        name=name,
        timezone=timezone,
        billing_time=billing_time,
        subscription_at=start,
        ending_at=ending_at,
        now=now,
    )
    await store.insert(tx, subscription)
    if subscription.status is Status.PENDING:
        await schedule_start(tx, subscription, now=now)
        await announce_rights(tx, seams, subscription)
    else:
        await begun(tx, seams, subscription, version, now=now)
    return subscription


def check_currency(customer: Customer, version: PlanVersion) -> None:
    if customer.currency is not None and customer.currency != version.currency:
        raise RuleBroken(
            "the customer is billed in another currency",
            code="currencies_does_not_match",
            details={"currency": ["currencies_does_not_match"]},
        )


def check_ending(ending_at: datetime | None, started_at: datetime, now: datetime) -> None:
    if ending_at is not None and ending_at <= max(started_at, now):
        raise InvalidInput(
            "ending_at must lie after the start and after now", details={"ending_at": ["invalid_date"]}
        )


async def schedule_start(tx: Tx, subscription: Subscription, *, now: datetime) -> None:
    await due.schedule(
        tx,
        org_id=subscription.org_id,
        kind=SUBSCRIPTION_START,
        subject_id=subscription.id,
        due_at=subscription.started_at,
        now=now,
    )


async def begin(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """A subscription's beginning has come. Harmless when it has begun, was called off, or was moved to a later day."""
    subscription = await store.lock(tx, org_id, subscription_id)
    if subscription is None or subscription.status is not Status.PENDING or subscription.started_at > now:
        return
    if subscription.previous_subscription_id is not None:
        return  # it takes over when the period of the plan before it is closed
    started = replace(subscription, status=Status.ACTIVE)
    await store.update(tx, started)
    version = await plan_store.get_plan_version(tx, org_id, started.plan_version_id)
    await begun(tx, seams, started, version, now=now)


async def begun(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> Invoice | None:
    """What the beginning of a subscription brings: its plan's credits, its first invoice, the dates it waits for."""
    await open_period(tx, seams, subscription, version, now=now, begins=True)
    await schedule_trial_end(tx, subscription, now=now)
    invoice = None
    if lifecycle.is_billed_at_start(subscription, now):
        billed = [Billed(subscription, BillingReason.STARTING)]
        invoice = await bill(tx, seams, org_id=subscription.org_id, billed=billed, at=now)
    await announce_start(tx, seams, subscription)
    return invoice


async def announce_start(tx: Tx, seams: Seams, subscription: Subscription) -> None:
    payload = {"customer_id": subscription.customer_id}
    await announce(tx, seams, SUBSCRIPTION_STARTED, subscription, payload)


async def schedule_trial_end(tx: Tx, subscription: Subscription, *, now: datetime) -> None:
    if subscription.trial_ends_at is None or subscription.trial_ended_at is not None:
        return
    await due.schedule(
        tx,
        org_id=subscription.org_id,
        kind=TRIAL_END,
        subject_id=subscription.id,
        due_at=subscription.trial_ends_at,
        now=now,
    )


async def end_trial(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """The trial has ended: from here on the fee is paid, at once where it is paid in advance. Harmless when it has, or when
    the subscription ended first."""
    subscription = await store.lock(tx, org_id, subscription_id)
    if (
        subscription is None
        or subscription.status is not Status.ACTIVE
        or subscription.trial_ended_at is not None
        or subscription.trial_ends_at is None
        or subscription.trial_ends_at > now
    ):
        return
    ended_at = subscription.trial_ends_at
    ended = replace(subscription, trial_ended_at=ended_at)
    await store.update(tx, ended)
    version = await plan_store.get_plan_version(tx, org_id, ended.plan_version_id)
    # Where a period begins at that very instant, the invoice of that boundary has the fee.
    begins = lifecycle.fee_period(ended, version, ended_at).start == ended_at
    if version.pay_in_advance and not begins:
        billed = [Billed(ended, BillingReason.TRIAL_ENDED)]
        await bill(tx, seams, org_id=org_id, billed=billed, at=ended_at)
    await announce(tx, seams, TRIAL_ENDED, ended)
