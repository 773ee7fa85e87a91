"""Do first what a subscription's calendar says should have happened by now.

A worker may be late. Whoever changes a subscription before it came by finds periods that are over but not closed, and a
beginning that has not begun; a change on top of them would bill the wrong plan for them.
"""

from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.close_period import INVOICE_PERIOD, close_period, invoice_period
from nozle_server.workflows.grant_plan_credits import grant_overdue
from nozle_server.workflows.start_subscription import begin, end_trial

_TICK = timedelta(microseconds=1)


async def catch_up(
    tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime
) -> Subscription:
    """Begin, close and invoice what is due at or before `now`; the subscription as it is then, held. The customer's row is
    held by the caller."""
    while True:
        subscription = await store.lock(tx, org_id, subscription_id)
        assert subscription is not None, "subscriptions are never deleted"
        if subscription.status is Status.ACTIVE:
            # Closed by the worker, who comes back for the invoice: what changes now must find it made.
            closed = subscription.current_period_start
            if await due.take(tx, org_id, INVOICE_PERIOD, closed, [subscription_id]):
                await invoice_period(
                    tx, seams, org_id=org_id, subscription_id=subscription_id, ended_at=closed
                )
            in_period = min(now, subscription.current_period_end - _TICK)
            await grant_overdue(tx, seams, subscription, until=in_period)
        if (
            subscription.status is Status.PENDING
            and subscription.started_at <= now
            and subscription.previous_subscription_id is None
        ):
            await begin(
                tx, seams, org_id=org_id, subscription_id=subscription_id, now=subscription.started_at
            )
        elif subscription.status is Status.ACTIVE and subscription.current_period_end <= now:
            end = subscription.current_period_end
            await end_trial(tx, seams, org_id=org_id, subscription_id=subscription_id, now=end)
            await close_period(tx, seams, org_id=org_id, subscription_id=subscription_id, now=end)
            if await due.take(tx, org_id, INVOICE_PERIOD, end, [subscription_id]):
                await invoice_period(tx, seams, org_id=org_id, subscription_id=subscription_id, ended_at=end)
        else:
            break
    await end_trial(tx, seams, org_id=org_id, subscription_id=subscription_id, now=now)
    found = await store.lock(tx, org_id, subscription_id)
    assert found is not None, "subscriptions are never deleted"
    return found
