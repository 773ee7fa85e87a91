"""`can()`: gather the facts, then decide."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Charge, PlanVersion
from nozle_server.core.rounding import EXACT
from nozle_server.costs import queries as costs
from nozle_server.entitlements import store
from nozle_server.entitlements.decision import decide
from nozle_server.entitlements.model import Decision, Facts, PlanRight, SubscriptionFacts
from nozle_server.entitlements.price_position import PricePositions, depends_on_filters
from nozle_server.entitlements.store import Asked, AskedSubscription
from nozle_server.infra.database import Tx
from nozle_server.infra.usage_store import UsageStore, Window
from nozle_server.metering.quantity import rounded
from nozle_server.rating.filters import best_match
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class Question:
    """May `customer` use `feature` (a feature's code, else a metric's) now?

    `metadata` are properties that the use would have, for prices and costs by model. `subscription` narrows to one.
    """

    customer: str
    feature: str
    metadata: Mapping[str, str]
    subscription: str | None = None


@dataclass(frozen=True, slots=True)
class Economics:
    """What unit economics are read from; the caches in it are a few seconds old at most."""

    averages: costs.AverageCosts
    positions: PricePositions
    usage_store: UsageStore

    def forget_all(self) -> None:
        self.averages.forget_all()
        self.positions.forget_all()


async def can(
    tx: Tx,
    economics: Economics,
    *,
    org_id: UUID,
    question: Question,
    with_costs: bool,
    real_now: datetime,
) -> Decision:
    """Decide a question at the organization's time, which is read with the facts.

    `with_costs` False leaves unit economics out for callers who may not see them, unless a margin floor is enforced
    and needs them.
    """
    asked = await store.read(
        tx, org_id, customer=question.customer, code=question.feature, subscription=question.subscription
    )
    now = asked.test_now or real_now
    needed = economics if with_costs or asked.margin_enforcement == "deny" else None
    subscriptions = tuple(
        [await _subscription_facts(tx, needed, asked, one, question, now) for one in asked.subscriptions]
    )
    cost = Decimal(0)
    if needed and asked.metric_id and asked.cost_model_ids:
        cost = await costs.unit_cost_cents(
            tx,
            needed.averages,
            org_id=org_id,
            metric_id=asked.metric_id,
            cost_model_ids=asked.cost_model_ids,
            model=question.metadata.get("model"),
            now=now,
        )
    return decide(
        Facts(
            now=now,
            subscriptions=subscriptions,
            cost_per_use_cents=cost,
            min_margin_percent=asked.min_margin_percent,
            margin_enforcement=asked.margin_enforcement,
        )
    )


async def _subscription_facts(
    tx: Tx,
    economics: Economics | None,
    asked: Asked,
    one: AskedSubscription,
    question: Question,
    now: datetime,
) -> SubscriptionFacts:
    subscription = one.subscription
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    charge = version.charge_for(asked.metric_id) if asked.metric_id else None
    matched = best_match(charge.filters, question.metadata) if charge else None
    used = rounded(_used(asked, one, version, now), *asked.rounding)
    priced = rounded(_own(one, version, now), *asked.rounding)
    if economics and charge and depends_on_filters(charge) and subscription.is_active_at(now):
        period = subscription.period_at(now, version.usage_interval)
        priced = await economics.positions.get(
            tx,
            economics.usage_store,
            subscription=subscription,
            charge=charge,
            matched=matched,
            window=Window(subscription.id, period.start, period.end),
        )
    return SubscriptionFacts(
        status=subscription.status,
        started_at=subscription.started_at,
        ends_at=subscription.terminated_at or subscription.ending_at,
        right=_right(asked, one, charge),
        used=used,
        price=matched.model if matched else charge.model if charge else None,
        priced_units=priced,
        currency=version.currency,
        cancelled=subscription.canceled_at is not None,
    )


def _right(asked: Asked, one: AskedSubscription, charge: Charge | None) -> PlanRight | None:
    if asked.feature_id is None:
        # A metric's own code: present in the plan's charges means unlimited (contract Decision 12).
        return PlanRight(metered=True) if charge is not None else None
    privileges = one.privileges
    if privileges is None:
        return None
    if asked.metric_id is None:
        return PlanRight(metered=False)
    return PlanRight(
        metered=True,
        limit=_decimal(privileges.get("limit")),
        overage=privileges.get("overage") is True,
        min_margin_percent=_decimal(privileges.get("min_margin_percent")),
    )


def _used(asked: Asked, one: AskedSubscription, version: PlanVersion, now: datetime) -> Decimal:
    """Usage in the period that runs. Where a change of plan began it in the midst of a billing period, what the plans
    before used of that counts too: an upgrade raises a limit and does not hand it out anew."""
    subscription = one.subscription
    used = _own(one, version, now)
    start = _period_start(subscription, version, now)
    if one.carried is not None or start is None or start != subscription.started_at:
        return used
    began = subscription.calendar(version.usage_interval).period_at(start).start
    for before in _chain(asked, subscription):
        for counter_start, units in before.counters:
            if counter_start >= began:
                used = _together(asked.aggregation, used, units)
    return used


def _together(aggregation: str | None, used: Decimal, before: Decimal) -> Decimal:
    """Both parts of a period. Sums and counts add up. So do unique counts, which counters cannot tell apart: a value seen
    under both plans counts twice here (and once on each invoice)."""
    if aggregation == "max_agg":
        return max(used, before)
    if aggregation == "latest_agg":
        return used or before
    return EXACT.add(used, before)


def _chain(asked: Asked, subscription: Subscription) -> list[AskedSubscription]:
    """The subscriptions that this one took the place of, the latest first."""
    by_id = {one.subscription.id: one for one in asked.subscriptions}
    chain = []
    previous = subscription.previous_subscription_id
    while previous is not None and (before := by_id.get(previous)) is not None:
        chain.append(before)
        previous = before.subscription.previous_subscription_id
    return chain


def _own(one: AskedSubscription, version: PlanVersion, now: datetime) -> Decimal:
    """Usage of this subscription alone."""
    if one.carried is not None:
        return one.carried if one.subscription.is_active_at(now) else Decimal(0)
    start = _period_start(one.subscription, version, now)
    return next((units for counter_start, units in one.counters if counter_start == start), Decimal(0))


def _period_start(subscription: Subscription, version: PlanVersion, now: datetime) -> datetime | None:
    """Start of the period that runs at `now`, also when its billing run is still to come; None outside its life."""
    if subscription.current_period_start <= now < subscription.current_period_end:
        return subscription.current_period_start
    if not subscription.is_active_at(now):
        return None
    return subscription.period_at(now, version.usage_interval).start


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))
