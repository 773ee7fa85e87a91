"""The credits that a plan includes come to its subscriber: when the subscription begins, and with every period.

Each period is a grant of its own, which expires with it. A plan that takes another's place grants what its target exceeds
what was granted for the same time already; nothing is ever taken back, and what was granted expires at its own time also
when the subscription ends. (Contract 4.2.)

What is left of a period's grants at its end is carried into the next period where the plan says so: in the transaction
that grants the next ones, and the only one in which it is seen to be gone. It expires with that period, and is not carried
again. Where another plan begins with the period, both must carry over of the same system for the same time, and the smaller
limit holds. What is held at that moment is not left: when it is released after, it has expired.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.credit_model import PlanGrant, Rollover
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Interval
from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits, roll_over
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.plan_credit_references import (
    granted_already,
    is_of,
    reference_of,
    rolled_over,
)
from nozle_server.workflows.plan_credit_store import list_ending, list_granted

PLAN_CREDITS = "plan_credits"
"""Due when a month or year begins in which a plan of another interval grants."""


async def grant_at_beginning(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What a subscription brings when it begins: its plan's credits for the periods that run, less what the plans before
    it granted for them."""
    at = max(now, subscription.started_at)
    chain: Sequence[UUID] = ()
    if version.all_credit_grants and subscription.previous_subscription_id is not None:
        chain = (await store.chains(tx, subscription.org_id, [subscription.id]))[subscription.id]
    for grant in version.all_credit_grants:
        if chain and grant.rollover is not None and subscription.started_at == at:
            await _carry_from_before(tx, seams, subscription, version, grant, chain, at=at, now=now)
        before = await _granted_before(tx, subscription, version, grant, chain, at) if chain else Decimal(0)
        await _grant(tx, seams, subscription, version, grant, at=at, less=before, now=now)
    for interval in _intervals_apart(version):
        await _schedule_next(tx, subscription, interval, at=at, now=now)


async def grant_for_period(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What the beginning of the current period brings, where one of the plan's interval begins with it."""
    await _grant_where_begins(
        tx, seams, subscription, version, version.interval, at=subscription.current_period_start, now=now
    )


async def grant_when_due(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """What a month or a year brings that begins within the plan's own periods. Harmless when the subscription has ended."""
    subscription = await store.lock(tx, org_id, subscription_id)
    if subscription is None or subscription.status is not Status.ACTIVE:
        return
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    for interval in _intervals_apart(version):
        await _grant_where_begins(tx, seams, subscription, version, interval, at=now, now=now)
        await _schedule_next(tx, subscription, interval, at=now, now=now)


async def grant_overdue(tx: Tx, seams: Seams, subscription: Subscription, *, until: datetime) -> None:
    """Do now what a late worker has not: every month and year that began up to and including `until`. The caller holds the
    subscription."""
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    if not _intervals_apart(version):
        return
    while times := await due.take_until(tx, subscription.org_id, PLAN_CREDITS, subscription.id, until):
        for at in times:
            await grant_when_due(
                tx, seams, org_id=subscription.org_id, subscription_id=subscription.id, now=at
            )


def _intervals_apart(version: PlanVersion) -> list[Interval]:
    """The intervals in which a plan grants that are not its own, the shorter ones first."""
    intervals = {one.interval(version.interval) for one in version.all_credit_grants}
    return [one for one in Interval if one in intervals and one is not version.interval]


async def _schedule_next(
    tx: Tx, subscription: Subscription, interval: Interval, *, at: datetime, now: datetime
) -> None:
    await due.schedule(
        tx,
        org_id=subscription.org_id,
        kind=PLAN_CREDITS,
        subject_id=subscription.id,
        due_at=subscription.calendar(interval).period_at(at).end,
        now=now,
    )


async def _grant_where_begins(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    interval: Interval,
    *,
    at: datetime,
    now: datetime,
) -> None:
    grants = [one for one in version.all_credit_grants if one.interval(version.interval) is interval]
    if not grants or subscription.calendar(interval).period_at(at).start != at:
        return
    for grant in grants:
        if grant.rollover is not None:
            chains = await store.chains(tx, subscription.org_id, [subscription.id])
            chain = (*chains.get(subscription.id, ()), subscription.id)
            await _carry_over(tx, seams, subscription, version, grant, grant.rollover, chain, at=at, now=now)
        await _grant(tx, seams, subscription, version, grant, at=at, now=now)


async def _carry_from_before(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    grant: PlanGrant,
    chain: Sequence[UUID],
    *,
    at: datetime,
    now: datetime,
) -> None:
    """Carry over what the plan before left, where its period ended when this subscription began."""
    last = await store.get(tx, subscription.org_id, chain[-1])
    old = await plan_store.get_plan_version(tx, subscription.org_id, last.plan_version_id)
    interval = grant.interval(version.interval)
    for one in old.all_credit_grants:
        same = (one.credit_system, one.scope, one.interval(old.interval)) == (
            grant.credit_system,
            grant.scope,
            interval,
        )
        if same and one.rollover is not None and grant.rollover is not None:
            rollover = grant.rollover.within(one.rollover)
            await _carry_over(tx, seams, subscription, version, grant, rollover, chain, at=at, now=now)


async def _carry_over(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    grant: PlanGrant,
    rollover: Rollover,
    chain: Sequence[UUID],
    *,
    at: datetime,
    now: datetime,
) -> None:
    """Carry what is left of the grants that end at `at` into the period that begins then, up to the limit together."""
    interval = grant.interval(version.interval)
    assert interval is not None, "what never ends is not carried over"
    period = subscription.calendar(interval).period_at(at)
    limit = rollover.limit
    for ending in await list_ending(
        tx, subscription.org_id, subscription.customer_id, grant.credit_system, chain, at
    ):
        if not is_of(ending.reference, interval) or limit == 0:
            continue
        carried = await roll_over(
            tx,
            seams.change_bus,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            credit_system=grant.credit_system,
            reference_of_old=ending.reference,
            reference=rolled_over(ending.reference),
            limit=limit,
            expires_at=period.end,
            now=now,
        )
        if carried is not None and limit is not None:
            limit = EXACT.subtract(limit, carried.amount)


async def _granted_before(
    tx: Tx,
    subscription: Subscription,
    version: PlanVersion,
    grant: PlanGrant,
    chain: Sequence[UUID],
    at: datetime,
) -> Decimal:
    """What the plans before granted of the same system for the time that runs."""
    interval = grant.interval(version.interval)
    since = None if interval is None else subscription.calendar(interval).period_at(at).start
    found = await list_granted(
        tx, subscription.org_id, subscription.customer_id, grant.credit_system, chain, since
    )
    return granted_already(
        found,
        interval,
        {
            one.interval(version.interval)
            for one in version.all_credit_grants
            if one.credit_system == grant.credit_system and one.scope is grant.scope
        },
    )


async def _grant(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    version: PlanVersion,
    grant: PlanGrant,
    *,
    at: datetime,
    now: datetime,
    less: Decimal = Decimal(0),
) -> None:
    """Give what is granted for the period around `at`, less what was given already."""
    interval = grant.interval(version.interval)
    period = None if interval is None else subscription.calendar(interval).period_at(at)
    amount = EXACT.subtract(grant.amount, less)
    if amount <= 0:
        return
    await grant_credits(
        tx,
        seams.change_bus,
        org_id=subscription.org_id,
        customer_id=subscription.customer_id,
        amount=amount,
        source=GrantSource.PLAN,
        now=now,
        expires_at=None if period is None else period.end,
        priority=grant.priority,
        # One grant a subscription and period, however often this runs.
        reference=reference_of(
            subscription.id, interval, at if period is None else max(period.start, subscription.started_at)
        ),
        description="Credits included in the plan",
        credit_system=grant.credit_system,
    )
