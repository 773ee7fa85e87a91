"""The credits that a plan includes come to its subscriber: when the subscription begins, with every period, and to an entity
that appears within one.

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
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.credit_model import GrantScope, PlanGrant
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Interval
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.plan_credit_steps import Moment, carry_over, give, recipients

PLAN_CREDITS = "plan_credits"
"""Due when a month or year begins in which a plan of another interval grants."""


async def grant_at_beginning(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What a subscription brings when it begins: its plan's credits for the periods that run, less what the plans before
    it granted for them."""
    moment = Moment(subscription, version, max(now, subscription.started_at), now)
    chain = await _chain(tx, subscription) if version.all_credit_grants else ()
    for grant in version.all_credit_grants:
        to = await recipients(tx, subscription, grant)
        if chain and subscription.started_at == moment.at:
            await _carry_from_before(tx, seams, moment, grant, to, chain)
        await give(tx, seams, moment, grant, to, chain=chain)
    for interval in _intervals_apart(version):
        await _schedule_next(tx, moment, interval)


async def grant_for_period(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What the beginning of the current period brings, where one of the plan's interval begins with it."""
    moment = Moment(subscription, version, subscription.current_period_start, now)
    await _grant_where_begins(tx, seams, moment, version.interval)


async def grant_when_due(tx: Tx, seams: Seams, *, org_id: UUID, subscription_id: UUID, now: datetime) -> None:
    """What a month or a year brings that begins within the plan's own periods. Harmless when the subscription has ended."""
    subscription = await store.lock(tx, org_id, subscription_id)
    if subscription is None or subscription.status is not Status.ACTIVE:
        return
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    moment = Moment(subscription, version, now, now)
    for interval in _intervals_apart(version):
        await _grant_where_begins(tx, seams, moment, interval)
        await _schedule_next(tx, moment, interval)


async def grant_overdue(tx: Tx, seams: Seams, subscription: Subscription, *, until: datetime) -> None:
    """Do now what a late worker has not: every month and year that began up to and including `until`. The caller holds the
    subscription."""
    org_id, subscription_id = subscription.org_id, subscription.id
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    if not _intervals_apart(version):
        return
    while times := await due.take_until(tx, org_id, PLAN_CREDITS, subscription_id, until):
        for at in times:
            await grant_when_due(tx, seams, org_id=org_id, subscription_id=subscription_id, now=at)


async def grant_to_entities(
    tx: Tx, seams: Seams, *, org_id: UUID, customer_id: UUID, entity_ids: Sequence[UUID], now: datetime
) -> None:
    """Give entities that have become active what the customer's plans grant to each for the periods that run. One that had
    it already gets nothing more. The caller holds the customer's row."""
    for one in await store.list_of_customer(tx, org_id, customer_id):
        if one.status is not Status.ACTIVE:
            continue
        version = await plan_store.get_plan_version(tx, org_id, one.plan_version_id)
        grants = [grant for grant in version.all_credit_grants if grant.scope is GrantScope.ENTITY]
        if not grants:
            continue
        # Whoever opens a period holds the subscription: it sees these entities, or these see the period.
        subscription = await store.hold(tx, org_id, one.id)
        if subscription.status is not Status.ACTIVE:
            continue
        at = max(now, subscription.current_period_start)
        chain = await _chain(tx, subscription)
        for grant in grants:
            await give(tx, seams, Moment(subscription, version, at, at), grant, entity_ids, chain=chain)


def _intervals_apart(version: PlanVersion) -> list[Interval]:
    """The intervals in which a plan grants that are not its own, the shorter ones first."""
    intervals = {one.interval(version.interval) for one in version.all_credit_grants}
    return [one for one in Interval if one in intervals and one is not version.interval]


async def _chain(tx: Tx, subscription: Subscription) -> tuple[UUID, ...]:
    """The subscriptions that this one took over from, the first one first."""
    if subscription.previous_subscription_id is None:
        return ()
    return (await store.chains(tx, subscription.org_id, [subscription.id]))[subscription.id]


async def _schedule_next(tx: Tx, moment: Moment, interval: Interval) -> None:
    await due.schedule(
        tx,
        org_id=moment.subscription.org_id,
        kind=PLAN_CREDITS,
        subject_id=moment.subscription.id,
        due_at=moment.period(interval).end,
        now=moment.now,
    )


async def _grant_where_begins(tx: Tx, seams: Seams, moment: Moment, interval: Interval) -> None:
    grants = [one for one in moment.version.all_credit_grants if moment.interval(one) is interval]
    if not grants or moment.period(interval).start != moment.at:
        return
    for grant in grants:
        to = await recipients(tx, moment.subscription, grant)
        if grant.rollover is not None:
            chain = (*await _chain(tx, moment.subscription), moment.subscription.id)
            await carry_over(tx, seams, moment, grant, grant.rollover, to, chain=chain)
        await give(tx, seams, moment, grant, to)


async def _carry_from_before(
    tx: Tx,
    seams: Seams,
    moment: Moment,
    grant: PlanGrant,
    to: Sequence[UUID | None],
    chain: Sequence[UUID],
) -> None:
    """Carry over what the plan before left, where its period ended when this subscription began."""
    if grant.rollover is None:
        return
    last = await store.get(tx, moment.subscription.org_id, chain[-1])
    old = await plan_store.get_plan_version(tx, last.org_id, last.plan_version_id)
    kind = (grant.credit_system, grant.scope, moment.interval(grant))
    for one in old.all_credit_grants:
        if one.rollover is not None and (one.credit_system, one.scope, one.interval(old.interval)) == kind:
            rollover = grant.rollover.within(one.rollover)
            await carry_over(tx, seams, moment, grant, rollover, to, chain=chain)
