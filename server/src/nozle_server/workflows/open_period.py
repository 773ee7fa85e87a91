"""What the beginning of a subscription's billing period brings."""

from datetime import datetime

from nozle_server.catalog.model import PlanVersion
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows.grant_plan_credits import grant_at_beginning, grant_for_period

PERIOD_END = "period_end"
SUBSCRIPTION_STARTED = "subscription.started"


async def open_period(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    *,
    now: datetime,
    begins: bool = False,
) -> None:
    """What the beginning of the current period brings: the plan's credits, those of a subscription that `begins` or those of
    a period of its fee that does, and a date for its end."""
    if begins:
        await grant_at_beginning(tx, seams, subscription, version, now=now)
    else:
        await grant_for_period(tx, seams, subscription, version, now=now)
    await due.schedule(
        tx,
        org_id=subscription.org_id,
        kind=PERIOD_END,
        subject_id=subscription.id,
        due_at=subscription.current_period_end,
        now=now,
    )
