"""A billing period ends: invoice it and open the next one, or end the subscription."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.core.periods import Period
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.lines import fee_line
from nozle_server.invoicing.model import BillingReason, InvoiceLine
from nozle_server.invoicing.operations import finalize_invoice, rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.workflows.subscribe import open_period

SUBSCRIPTION_TERMINATED = "subscription.terminated"


async def close_period(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """Close the current period, which ends at or before `now`, in one transaction: its invoice, the next period and
    its credits. Harmless when it has been closed already.

    The subscription's row is held first, so that an event is either on this invoice or finds the period closed.
    """
    subscription = await subscriptions_store.lock(tx, org_id, subscription_id)
    if (
        subscription is None
        or subscription.status is not Status.ACTIVE
        or subscription.current_period_end > now
    ):
        return
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    _, plan_name = await plan_store.plan_names(tx, org_id, subscription.plan_id)
    ended = Period(subscription.current_period_start, subscription.current_period_end)
    is_last = subscription.ending_at is not None and subscription.ending_at <= ended.end
    following = None if is_last else subscription.period_at(ended.end, version.interval)
    lines: list[InvoiceLine] = []
    fee_period = following if version.pay_in_advance else ended
    if fee_period is not None:
        lines.append(fee_line(subscription, version, plan_name, fee_period))
    lines += await rate_usage(tx, seams, subscription, version, ended)
    await finalize_invoice(
        tx,
        seams,
        subscription=subscription,
        version=version,
        reason=BillingReason.TERMINATING if is_last else BillingReason.PERIODIC,
        period=ended,
        lines=lines,
        now=now,
    )
    if following is None:
        await subscriptions_store.terminate(tx, org_id, subscription.id, ended.end)
        await seams.change_bus.publish(tx, Change(org_id, SUBSCRIPTION_TERMINATED, str(subscription.id)))
        return
    await subscriptions_store.open_period(
        tx, org_id, subscription.id, start=following.start, end=following.end, billed_through=ended.end
    )
    opened = replace(
        subscription,
        current_period_start=following.start,
        current_period_end=following.end,
        billed_through=ended.end,
    )
    await open_period(tx, seams, opened, version, now=now)
