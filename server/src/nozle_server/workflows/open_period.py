"""What the beginning of a subscription's billing period brings."""

from datetime import datetime

from nozle_server.catalog.model import PlanVersion
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations import grant_credits
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions.model import Subscription

PERIOD_END = "period_end"
SUBSCRIPTION_STARTED = "subscription.started"


async def open_period(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What the beginning of the current period brings: the plan's credits where a period of its fee begins too, and a date
    for its end."""
    start = subscription.current_period_start
    fee_period = subscription.cut(subscription.calendar(version.interval).period_at(start))
    if version.credits > 0 and fee_period.start == start:
        await grant_credits(
            tx,
            seams.change_bus,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            amount=version.credits,
            source=GrantSource.PLAN,
            now=now,
            expires_at=fee_period.end,
            # One grant a subscription and period, however often this runs.
            reference=f"plan:{subscription.id}:{start.isoformat()}",
            description="Credits included in the plan",
        )
    await due.schedule(
        tx,
        org_id=subscription.org_id,
        kind=PERIOD_END,
        subject_id=subscription.id,
        due_at=subscription.current_period_end,
        now=now,
    )
