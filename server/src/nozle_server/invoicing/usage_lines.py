"""From the events of a period to the invoice lines of its usage."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.model import Charge, PlanVersion
from nozle_server.core.periods import Period
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import lines as invoice_lines
from nozle_server.invoicing.model import (
    InvoiceLine,
)
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription


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
