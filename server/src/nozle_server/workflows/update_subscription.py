"""Change a subscription otherwise than by its plan or its end: another beginning, other terms of the same plan."""

from dataclasses import replace
from datetime import datetime

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import lifecycle, store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce, announce_rights
from nozle_server.workflows.change_plan import SUBSCRIPTION_UPDATED
from nozle_server.workflows.start_subscription import begun, check_ending, schedule_start


async def move_start(
    tx: Tx, seams: Seams, *, subscription: Subscription, at: datetime, now: datetime
) -> Subscription:
    """Let a subscription that has not begun begin at another time; at once, when that has come. One that has begun, or that
    is to follow another, keeps its beginning."""
    if subscription.status is not Status.PENDING or subscription.previous_subscription_id is not None:
        return subscription
    check_ending(subscription.ending_at, at, now)
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    changed = lifecycle.moved(subscription, version, at, now)
    await store.update(tx, changed)
    if changed.status is Status.PENDING:
        await schedule_start(tx, changed, now=now)
        await announce_rights(tx, seams, changed)
    else:
        await begun(tx, seams, changed, version, now=now)
    return changed


async def use_version(
    tx: Tx, seams: Seams, *, subscription: Subscription, version: PlanVersion, now: datetime
) -> Subscription:
    """Bill a subscription by another version of the same plan from its next invoice on."""
    if version.id == subscription.plan_version_id:
        return subscription
    changed = replace(subscription, plan_version_id=version.id)
    if changed.status is Status.PENDING:
        changed = lifecycle.replanned(subscription, version, now)
    await store.update(tx, changed)
    await announce(tx, seams, SUBSCRIPTION_UPDATED, changed)
    return changed
