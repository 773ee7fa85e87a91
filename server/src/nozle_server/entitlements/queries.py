"""`can()`: take a snapshot, complete it with unit economics, then decide."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.catalog.model import Charge, ChargeFilter
from nozle_server.core.rounding import EXACT
from nozle_server.core.standing import Standing
from nozle_server.entitlements.decision import decide
from nozle_server.entitlements.economics import NO_COST, Economics, UnitCost, Wanted, unit_cost
from nozle_server.entitlements.model import Decision, Facts, FeatureType, PlanRight, Reason, SubscriptionFacts
from nozle_server.entitlements.policy import Gap, Policies, bearing_on
from nozle_server.entitlements.price_position import depends_on_filters
from nozle_server.entitlements.snapshot import (
    CustomerSnapshot,
    FeatureFacts,
    MetricFacts,
    OrganizationSnapshot,
    SubscriptionSnapshot,
)
from nozle_server.entitlements.snapshots import Snapshots
from nozle_server.infra.usage_store import Window
from nozle_server.metering.quantity import rounded
from nozle_server.rating.filters import best_match
from nozle_server.subscriptions.model import Subscription

_ZERO = Decimal(0)
_NOTHING: Mapping[Any, Any] = {}


@dataclass(frozen=True, slots=True)
class Question:
    """May `customer` use `feature` (a feature's code, else a metric's) now?

    `metadata` are properties that the use would have, for prices and costs by model. `subscription` narrows to one;
    `must_choose` asks for that where several run. `entity` is the entity of the customer that would use it.
    """

    customer: str
    feature: str
    metadata: Mapping[str, str]
    subscription: str | None = None
    entity: str | None = None
    must_choose: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and how long it is the answer: while everything in `standings` stands, and before `ends_at`, the instant
    at which time alone may change it (None: it will not). `by_figures`: unit economics went into it that stand in events, and
    move without any news of this customer."""

    decision: Decision
    standings: tuple[Standing, ...]
    ends_at: datetime | None
    by_figures: bool = False


async def can(
    snapshots: Snapshots,
    economics: Economics,
    *,
    org_id: UUID,
    question: Question,
    with_costs: bool,
    real_now: datetime,
) -> Decided:
    """Decide a question at the organization's time.

    `with_costs` False leaves unit economics out for callers who may not see them, unless a margin floor is enforced
    and needs them. Unavailable when it cannot be told.
    """
    snapshot = await snapshots.get(org_id, question.customer)
    refusal = None if question.entity is None else await snapshots.entities.why_not(snapshot, question.entity)
    decided = await decide_question(
        snapshot, economics, question, with_costs=with_costs, real_now=real_now, entity_refusal=refusal
    )
    standings = (*decided.standings, snapshots.lease)
    return Decided(decided.decision, standings, decided.ends_at, decided.by_figures)


async def decide_question(
    snapshot: CustomerSnapshot,
    economics: Economics,
    question: Question,
    *,
    with_costs: bool,
    real_now: datetime,
    entity_refusal: Reason | None = None,
) -> Decided:
    """Decide a question by this snapshot; figures of unit economics that are not known are read."""
    organization = snapshot.organization
    now = organization.now(real_now)
    # A feature's code comes before a metric's (contract Decision 6).
    feature = organization.features.get(question.feature)
    policies = bearing_on(
        feature.id if feature else None,
        (one.subscription.plan_id for one in snapshot.subscriptions),
        organization.policies,
        snapshot.policy,
    )
    needed = economics if with_costs or policies.may_deny(organization.margin_enforcement) else None
    asked = _ask(snapshot, question, feature, policies, needed, now)
    wanted, age = asked.wanted, policies.maximum_age_s()
    figures = [economics.peek(one, age) or await economics.get(one, age, now) for one in wanted]
    standings = [snapshot.standing, organization.standing, *(one.standing for one in figures)]
    if age is not None:
        standings += [Standing(one.read_at + age) for one in figures]
    return Decided(
        decide(
            _facts(
                asked,
                question,
                entity_refusal,
                {one.key: found.value for one, found in zip(wanted, figures, strict=True)},
            )
        ),
        tuple(standings),
        None if organization.test_now else _changes_at(asked),
        by_figures=bool(figures),
    )


@dataclass(frozen=True, slots=True)
class _AskedSubscription:
    """A subscription that runs, with what its plan charges for what is asked for. `position` is how far that price has been
    used, where its counter does not say so."""

    snapshot: SubscriptionSnapshot
    charge: Charge | None
    matched: ChargeFilter | None
    position: Wanted | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the question turned out to be about. `subscriptions` are those in question, of which those in `running` run."""

    customer: CustomerSnapshot
    feature: FeatureFacts | None
    metric: MetricFacts | None
    policies: Policies
    now: datetime
    cost: UnitCost
    subscriptions: tuple[SubscriptionSnapshot, ...]
    running: Mapping[UUID, _AskedSubscription]

    @property
    def wanted(self) -> list[Wanted]:
        """The figures that no snapshot holds."""
        found = [one.position for one in self.running.values() if one.position is not None]
        return [*found, self.cost.cents] if isinstance(self.cost.cents, Wanted) else found


def _ask(
    snapshot: CustomerSnapshot,
    question: Question,
    feature: FeatureFacts | None,
    policies: Policies,
    economics: Economics | None,
    now: datetime,
) -> _Asked:
    organization = snapshot.organization
    metric_id = feature.metric_id if feature else organization.metric_ids.get(question.feature)
    metric = organization.metrics[metric_id] if metric_id else None
    subscriptions = snapshot.subscriptions
    if question.subscription is not None:
        subscriptions = tuple(
            one for one in subscriptions if one.subscription.external_id == question.subscription
        )
    running = {
        one.subscription.id: _asked_subscription(one, metric, question, economics, now)
        for one in subscriptions
        if one.subscription.is_active_at(now)
    }
    cost = NO_COST
    if economics and metric:
        cost = unit_cost(organization, metric, model=question.metadata.get("model"), now=now)
    return _Asked(snapshot, feature, metric, policies, now, cost, subscriptions, running)


def _asked_subscription(
    one: SubscriptionSnapshot,
    metric: MetricFacts | None,
    question: Question,
    economics: Economics | None,
    now: datetime,
) -> _AskedSubscription:
    charge = one.version.charge_for(metric.id) if metric else None
    matched = best_match(charge.filters, question.metadata) if charge and charge.filters else None
    position = None
    if economics and charge and depends_on_filters(charge):
        subscription = one.subscription
        period = subscription.period_at(now, one.version.usage_interval)
        window = Window(subscription.id, period.start, period.end)
        position = economics.position(subscription, charge, matched, window)
    return _AskedSubscription(one, charge, matched, position)


def _facts(
    asked: _Asked,
    question: Question,
    entity_refusal: Reason | None,
    figures: Mapping[Hashable, Decimal | None],
) -> Facts:
    organization, cost = asked.customer.organization, asked.cost
    cents = figures[cost.cents.key] if isinstance(cost.cents, Wanted) else cost.cents
    return Facts(
        now=asked.now,
        subscriptions=tuple([_subscription_facts(asked, one, figures) for one in asked.subscriptions]),
        cost_per_use_cents=_ZERO if cents is None else cents,
        min_margin_percent=organization.min_margin_percent,
        margin_enforcement=organization.margin_enforcement,
        policies=asked.policies,
        cost_gap=Gap.NO_USAGE_TO_AVERAGE if cents is None else cost.gap,
        cost_model_id=cost.cost_model_id,
        feature_type=_type_of(asked),
        entity_refusal=entity_refusal,
        must_choose=question.must_choose,
    )


def _type_of(asked: _Asked) -> FeatureType | None:
    if asked.feature is None:
        return None if asked.metric is None else FeatureType.METRIC
    return FeatureType.BOOLEAN if asked.metric is None else FeatureType.METERED


def _subscription_facts(
    asked: _Asked, one: SubscriptionSnapshot, figures: Mapping[Hashable, Decimal | None]
) -> SubscriptionFacts:
    subscription = one.subscription
    running = asked.running.get(subscription.id)
    right = price = None
    used = priced = _ZERO
    if running is not None:
        right = _right(asked, running)
        price = running.matched or running.charge
        if asked.metric is not None:
            used = rounded(_used(asked, one), *asked.metric.rounding)
            priced = rounded(_own(asked, one), *asked.metric.rounding)
        if running.position is not None:
            priced = figures[running.position.key] or _ZERO
    return SubscriptionFacts(
        status=subscription.status,
        started_at=subscription.started_at,
        ends_at=subscription.terminated_at or subscription.ending_at,
        right=right,
        used=used,
        price=price.model if price else None,
        priced_units=priced,
        currency=one.version.currency,
        cancelled=subscription.canceled_at is not None,
        plan_id=subscription.plan_id,
        plan_version_id=one.version.id,
    )


def _right(asked: _Asked, one: _AskedSubscription) -> PlanRight | None:
    if asked.feature is None:
        # A metric's own code: present in the plan's charges means unlimited (contract Decision 12).
        return PlanRight(metered=True) if one.charge is not None else None
    privileges = privileges_of(asked.customer.organization, one.snapshot, asked.feature.id)
    if privileges is None:
        return None
    if asked.metric is None:
        return PlanRight(metered=False, configuration=privileges)
    return PlanRight(
        metered=True,
        limit=_decimal(privileges.get("limit")),
        overage=privileges.get("overage") is True,
        min_margin_percent=_decimal(privileges.get("min_margin_percent")),
        configuration=privileges,
    )


def privileges_of(
    organization: OrganizationSnapshot, one: SubscriptionSnapshot, feature_id: UUID
) -> Mapping[str, Any] | None:
    """What a subscription may do with a feature: its plan's privileges, changed by its own; None: it does not have it."""
    of_plan = organization.entitlements.get(one.subscription.plan_id, _NOTHING).get(feature_id)
    own = one.overrides.get(feature_id)
    if own is None:
        return of_plan
    return None if own.removed else {**(of_plan or _NOTHING), **own.privileges}


def _used(asked: _Asked, one: SubscriptionSnapshot) -> Decimal:
    """Usage in the period that runs. Where a change of plan began it in the midst of a billing period, what the plans
    before used of that counts too: an upgrade raises a limit and does not hand it out anew."""
    metric, subscription = asked.metric, one.subscription
    assert metric is not None
    used = _own(asked, one)
    if metric.recurring or subscription.previous_subscription_id is None:
        return used
    start = _period_start(one, asked.now)
    if start is None or start != subscription.started_at:
        return used
    began = subscription.calendar(one.version.usage_interval).period_at(start).start
    for before in _chain(asked.subscriptions, subscription):
        for counter_start, units in before.counters.get(metric.id, ()):
            if counter_start >= began:
                used = _together(metric.aggregation, used, units)
    return used


def _together(aggregation: str, used: Decimal, before: Decimal) -> Decimal:
    """Both parts of a period. Sums and counts add up. So do unique counts, which counters cannot tell apart: a value seen
    under both plans counts twice here (and once on each invoice)."""
    if aggregation == "max_agg":
        return max(used, before)
    if aggregation == "latest_agg":
        return used or before
    return EXACT.add(used, before)


def _chain(
    subscriptions: Sequence[SubscriptionSnapshot], subscription: Subscription
) -> list[SubscriptionSnapshot]:
    """The subscriptions that this one took the place of, the latest first."""
    by_id = {one.subscription.id: one for one in subscriptions}
    chain = []
    previous = subscription.previous_subscription_id
    while previous is not None and (before := by_id.get(previous)) is not None:
        chain.append(before)
        previous = before.subscription.previous_subscription_id
    return chain


def _own(asked: _Asked, one: SubscriptionSnapshot) -> Decimal:
    """Usage of this subscription alone; of a lasting quantity that of its chain, kept under the first of it."""
    assert asked.metric is not None
    if asked.metric.recurring:
        first = (_chain(asked.subscriptions, one.subscription) or [one])[-1]
        return first.lasting.get(asked.metric.id, _ZERO)
    start = _period_start(one, asked.now)
    for counter_start, units in one.counters.get(asked.metric.id, ()):
        if counter_start == start:
            return units
    return _ZERO


def _period_start(one: SubscriptionSnapshot, now: datetime) -> datetime | None:
    """Start of the period that runs at `now`, also when its billing run is still to come; None outside its life."""
    subscription = one.subscription
    if subscription.current_period_start <= now < subscription.current_period_end:
        return subscription.current_period_start
    if not subscription.is_active_at(now):
        return None
    return subscription.period_at(now, one.version.usage_interval).start


def _changes_at(asked: _Asked) -> datetime | None:
    """The next instant at which a subscription starts or ends, or a period does, or another figure is wanted."""
    now, instants = asked.now, [one.ends_at for one in asked.wanted if one.ends_at is not None]
    for one in asked.subscriptions:
        subscription = one.subscription
        instants += [
            instant
            for instant in (subscription.started_at, subscription.terminated_at, subscription.ending_at)
            if instant is not None and instant > now
        ]
        if subscription.id in asked.running:
            instants.append(subscription.period_at(now, one.version.usage_interval).end)
    return min(instants, default=None)


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))
