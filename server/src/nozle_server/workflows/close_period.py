"""A billing period ends, in two steps that commit on their own: it is closed and the next one opened; it is invoiced.

Closing is short, because events wait for it. Invoicing reads all the period's usage, and nobody waits: what is in the
period cannot change any more, since later events find it closed. An invoice that fails is put aside, and the customer
goes on with a new period and its credits.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.infra import due
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.lines import fee_line
from nozle_server.invoicing.model import BillingReason, InvoiceLine, InvoiceSubscription
from nozle_server.invoicing.operations import issue_invoice, rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.workflows.subscribe import open_period

SUBSCRIPTION_TERMINATED = "subscription.terminated"
INVOICE_PERIOD = "invoice_period"

_TICK = timedelta(microseconds=1)


async def close_period(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """Close the current period, which ends at or before `now`, and open the next with its credits, or end the
    subscription. Harmless when it has been closed already.

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
    await due.schedule(
        tx, org_id=org_id, kind=INVOICE_PERIOD, subject_id=subscription.id, due_at=end, now=now
    )
    if subscription.ending_at is not None and subscription.ending_at <= end:
        await subscriptions_store.terminate(tx, org_id, subscription.id, end)
        await seams.change_bus.publish(tx, Change(org_id, SUBSCRIPTION_TERMINATED, str(subscription.id)))
        return
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    following = subscription.period_at(end, version.usage_interval)
    opened = replace(
        subscription,
        current_period_start=following.start,
        current_period_end=following.end,
        billed_through=end,
    )
    await subscriptions_store.open_period(
        tx, org_id, subscription.id, start=following.start, end=following.end, billed_through=end
    )
    await open_period(tx, seams, opened, version, now=now)


async def invoice_period(
    tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, ended_at: datetime
) -> None:
    """Make the invoice of the period that ended at `ended_at`: its usage, and the fixed fee of that period or, paid in
    advance, of the one that follows. A unique key keeps a second one out."""
    subscription = await subscriptions_store.get(tx, org_id, subscription_id)
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    _, plan_name = await plan_store.plan_names(tx, org_id, subscription.plan_id)
    period = subscription.period_at(ended_at - _TICK, version.usage_interval)
    is_last = subscription.terminated_at is not None and subscription.terminated_at <= ended_at
    following = None if is_last else subscription.period_at(ended_at, version.usage_interval)
    lines: list[InvoiceLine] = []
    fee_period = following if version.pay_in_advance else period
    if fee_period is not None:
        lines.append(fee_line(subscription, version, plan_name, fee_period, ended_at))
    lines += await rate_usage(tx, seams, subscription, version, period, ended_at)
    draft = InvoiceDraft(
        org_id=org_id,
        customer_id=subscription.customer_id,
        currency=version.currency,
        lines=tuple(lines),
        subscriptions=(
            InvoiceSubscription(
                subscription_id=subscription.id,
                reason=BillingReason.TERMINATING if is_last else BillingReason.PERIODIC,
                period_start=period.start,
                period_end=period.end,
                charges_start=period.start,
                charges_end=period.end,
            ),
        ),
    )
    await issue_invoice(tx, seams, draft, now=ended_at)
