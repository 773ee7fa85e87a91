"""One grant of a plan, at one moment of a subscription: give what is due of it, carry over what is left of it.

What a plan grants to each entity is granted, topped up and carried over for each entity by itself, the limit included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.credit_model import GrantScope, PlanGrant, Rollover
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Interval, Period
from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations.grants import grant_credits, roll_over
from nozle_server.entities.model import EntityStatus
from nozle_server.entities.queries import list_entities
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows.plan_credit_references import (
    granted_already,
    is_of,
    reference_of,
    rolled_over,
)
from nozle_server.workflows.plan_credit_store import list_ending, list_granted

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Moment:
    """A subscription on a version of a plan at the instant `at`, for which it grants; `now` is when that is written."""

    subscription: Subscription
    version: PlanVersion
    at: datetime
    now: datetime

    def interval(self, grant: PlanGrant) -> Interval | None:
        return grant.interval(self.version.interval)

    def period(self, interval: Interval) -> Period:
        """The period of an interval that runs at the moment, whole."""
        return self.subscription.calendar(interval).period_at(self.at)

    def of_system(self, grant: PlanGrant) -> set[Interval | None]:
        """For which times the plan grants of the same system to the same."""
        return {
            self.interval(one)
            for one in self.version.all_credit_grants
            if (one.credit_system, one.scope) == (grant.credit_system, grant.scope)
        }


async def recipients(tx: Tx, subscription: Subscription, grant: PlanGrant) -> list[UUID | None]:
    """Who gets what is granted: the customer (None), or each of its active entities, the oldest first."""
    if grant.scope is GrantScope.CUSTOMER:
        return [None]
    found: list[UUID | None] = []
    before: int | None = None
    while True:
        entities, before = await list_entities(
            tx,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            status=EntityStatus.ACTIVE,
            before=before,
            limit=_PAGE,
        )
        found += [one.id for one in entities]
        if before is None:
            return found[::-1]


async def give(
    tx: Tx,
    seams: Seams,
    moment: Moment,
    grant: PlanGrant,
    to: Sequence[UUID | None],
    *,
    chain: Sequence[UUID] = (),
) -> None:
    """Give each what is granted for the period that runs, less what the plans of the `chain` before granted for it."""
    subscription, interval = moment.subscription, moment.interval(grant)
    period = None if interval is None else moment.period(interval)
    start = moment.at if period is None else max(period.start, subscription.started_at)
    found = []
    if chain:
        found = await list_granted(
            tx,
            subscription.org_id,
            subscription.customer_id,
            grant.credit_system,
            chain,
            None if period is None else period.start,
        )
    for entity_id in to:
        own = [one for one in found if one.entity_id == entity_id]
        before = granted_already(own, interval, moment.of_system(grant)) if own else Decimal(0)
        amount = EXACT.subtract(grant.amount, before)
        if amount <= 0:
            continue
        await grant_credits(
            tx,
            seams.change_bus,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            amount=amount,
            source=GrantSource.PLAN,
            now=moment.now,
            expires_at=None if period is None else period.end,
            priority=grant.priority,
            # One grant a subscription and period, however often this runs.
            reference=reference_of(subscription.id, interval, start, entity_id),
            description="Credits included in the plan",
            credit_system=grant.credit_system,
            entity_id=entity_id,
        )


async def carry_over(
    tx: Tx,
    seams: Seams,
    moment: Moment,
    grant: PlanGrant,
    rollover: Rollover,
    to: Sequence[UUID | None],
    *,
    chain: Sequence[UUID],
) -> None:
    """Carry what is left of what the plans of the `chain` granted until now into the period that begins, for each up to
    the limit together."""
    subscription, interval = moment.subscription, moment.interval(grant)
    assert interval is not None, "what never ends is not carried over"
    ending = await list_ending(
        tx, subscription.org_id, subscription.customer_id, grant.credit_system, chain, moment.at
    )
    for entity_id in to:
        limit = rollover.limit
        for one in ending:
            if one.entity_id != entity_id or not is_of(one.reference, interval) or limit == 0:
                continue
            carried = await roll_over(
                tx,
                seams.change_bus,
                org_id=subscription.org_id,
                customer_id=subscription.customer_id,
                credit_system=grant.credit_system,
                reference_of_old=one.reference,
                reference=rolled_over(one.reference),
                limit=limit,
                expires_at=moment.period(interval).end,
                now=moment.now,
            )
            if carried is not None and limit is not None:
                limit = EXACT.subtract(limit, carried.amount)
