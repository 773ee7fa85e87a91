"""The rule of `can()`: facts in, decision out. No database, no clock, no settings."""

from decimal import Decimal

from nozle_server.catalog.charge_models import Dynamic
from nozle_server.core.rounding import EXACT
from nozle_server.entitlements.model import Decision, Facts, PlanRight, Reason, SubscriptionFacts
from nozle_server.entitlements.policy import Gap, Ruling, UnitEconomics, choose, judge
from nozle_server.rating.rate import marginal_price_cents
from nozle_server.subscriptions.model import Status

_ZERO = Decimal(0)


def decide(facts: Facts) -> Decision:
    """Whether the customer may use the feature now.

    Over several active subscriptions the first that allows it answers; when none does, the one that comes closest:
    a limit that is used up says more than a plan without the feature. An entity that may use nothing is denied whatever its
    customer may; without a subscription there is nothing that it could be denied.
    """
    active = [one for one in facts.subscriptions if one.is_active_at(facts.now)]
    if not active:
        return Decision(False, _why_nothing_runs(facts), feature_type=facts.feature_type)
    if facts.entity_refusal is not None:
        return Decision(False, facts.entity_refusal, feature_type=facts.feature_type)
    if facts.must_choose and len(active) > 1:
        return Decision(False, Reason.SUBSCRIPTION_REQUIRED, feature_type=facts.feature_type)
    decisions = [_decide_one(one, facts) for one in active]
    allowed = [one for one in decisions if one.allowed]
    return allowed[0] if allowed else min(decisions, key=_distance)


def _distance(denial: Decision) -> int:
    return 1 if denial.reason is Reason.FEATURE_NOT_IN_PLAN else 0


def _why_nothing_runs(facts: Facts) -> Reason:
    """What was called off before it began has never run, and so has not ended."""
    ended = [
        one
        for one in facts.subscriptions
        if one.started_at <= facts.now and one.status not in (Status.PENDING, Status.CANCELED)
    ]
    if not ended:
        return Reason.NO_SUBSCRIPTION
    latest = max(ended, key=lambda one: one.started_at)
    return Reason.SUBSCRIPTION_CANCELLED if latest.cancelled else Reason.SUBSCRIPTION_EXPIRED


def _decide_one(subscription: SubscriptionFacts, facts: Facts) -> Decision:
    right = subscription.right
    if right is None:
        return Decision(False, Reason.FEATURE_NOT_IN_PLAN, feature_type=facts.feature_type)
    if not right.metered:
        return Decision(
            True,
            Reason.FEATURE_ENABLED,
            feature_type=facts.feature_type,
            configuration=right.configuration,
        )
    price, used = subscription.price, subscription.used
    revenue = (
        marginal_price_cents(price, subscription.priced_units, currency=subscription.currency)
        if price
        else _ZERO
    )
    allowed, reason = _against_limit(right, used)
    margin = None
    policy = choose(
        facts.policies,
        plan_id=subscription.plan_id,
        entitled_percent=right.min_margin_percent,
        default_percent=facts.min_margin_percent,
    )
    if policy is not None:
        mode = facts.policies.mode_of(policy, facts.margin_enforcement)
        margin = judge(policy, _economics(subscription, facts, revenue), mode)
    overage = reason is Reason.OVERAGE
    if margin is not None and margin.ruling is Ruling.DENY and allowed:
        # What is denied already keeps its reason.
        allowed, reason = False, Reason.MARGIN_BELOW_MINIMUM
    return Decision(
        allowed=allowed,
        reason=reason,
        used=used,
        limit=right.limit,
        remaining=None if right.limit is None else max(_ZERO, EXACT.subtract(right.limit, used)),
        overage=overage,
        cost_per_use_cents=facts.cost_per_use_cents,
        revenue_per_use_cents=revenue,
        margin=margin,
        feature_type=facts.feature_type,
        configuration=right.configuration,
    )


def _economics(subscription: SubscriptionFacts, facts: Facts, revenue: Decimal) -> UnitEconomics:
    price = subscription.price
    revenue_gap = None
    if price is None:  # a fee may well pay for it, but no single use does
        revenue_gap = Gap.NO_PRICE
    elif isinstance(price, Dynamic):
        revenue_gap = Gap.PRICED_BY_EVENTS
    return UnitEconomics(
        currency=subscription.currency,
        cost_cents=facts.cost_per_use_cents,
        revenue_cents=revenue,
        calculated_at=facts.now,
        cost_gap=facts.cost_gap,
        revenue_gap=revenue_gap,
        plan_version_id=subscription.plan_version_id if price else None,
        cost_model_id=facts.cost_model_id,
    )


def _against_limit(right: PlanRight, used: Decimal) -> tuple[bool, Reason]:
    """At `used == limit` the next use is denied."""
    if right.limit is None:
        return True, Reason.UNLIMITED
    if used < right.limit:
        return True, Reason.WITHIN_LIMIT
    return (True, Reason.OVERAGE) if right.overage else (False, Reason.LIMIT_EXCEEDED)
