"""What the beginning of a subscription's billing period brings."""

from datetime import datetime
from decimal import Decimal

from nozle_server.catalog.model import PlanVersion
from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions.model import Subscription

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
    granted: Decimal = Decimal(0),
) -> None:
    """What the beginning of the current period brings: a date for its end, and the plan's credits where a period of its fee
    begins too, or the subscription itself (`begins`). `granted` are credits that the plan before gave for this period: only
    what this one gives more is added."""
    start = subscription.current_period_start
    fee_period = subscription.cut(subscription.calendar(version.interval).period_at(start))
    credits = EXACT.subtract(version.credits, granted)
    if credits > 0 and (begins or fee_period.start == start):
        await grant_credits(
            tx,
            seams.change_bus,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            amount=credits,
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
