"""The question of `can()`, the facts it is decided from, and the decision.

The facts and the decision are made for every question, and so structs: a frozen dataclass of as many fields takes 1.5 us
more to make, and the whole rule may take 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from msgspec import Struct

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.core.rounding import EXACT
from nozle_server.entitlements.policy import NO_POLICIES, Gap, Policies, Verdict
from nozle_server.subscriptions.model import Status


class Reason(StrEnum):
    """Why, in a word (contract 1.7)."""

    WITHIN_LIMIT = "within_limit"
    UNLIMITED = "unlimited"
    FEATURE_ENABLED = "feature_enabled"
    OVERAGE = "overage"
    LIMIT_EXCEEDED = "limit_exceeded"
    FEATURE_NOT_IN_PLAN = "feature_not_in_plan"
    NO_SUBSCRIPTION = "no_subscription"
    SUBSCRIPTION_EXPIRED = "subscription_expired"
    SUBSCRIPTION_CANCELLED = "subscription_cancelled"
    SUBSCRIPTION_REQUIRED = "subscription_required"
    ENTITY_NOT_FOUND = "entity_not_found"
    ENTITY_INACTIVE = "entity_inactive"
    MARGIN_BELOW_MINIMUM = "margin_below_minimum"


class FeatureType(StrEnum):
    """`boolean`: yes or no. `metered`: counted by a billable metric, and limited. `metric`: a billable metric's own code,
    which the plan prices without a limit (contract Decision 12)."""

    BOOLEAN = "boolean"
    METERED = "metered"
    METRIC = "metric"


@dataclass(frozen=True, slots=True)
class PlanRight:
    """What a plan says about the feature or metric asked for. `limit` None: no cap. Not `metered`: yes or no.
    `configuration` are all privileges of the entitlement, with the subscription's own."""

    metered: bool
    limit: Decimal | None = None
    overage: bool = False
    min_margin_percent: Decimal | None = None
    configuration: Mapping[str, Any] | None = None


class SubscriptionFacts(Struct, frozen=True):
    """One subscription as it bears on the question. `right` None: its plan does not have the feature.

    `used` is the metric's usage in the current period; `price` how the plan would price the next unit, if it does, and
    `priced_units` the usage that this price has priced so far. `cancelled`: somebody ended it; it did not run out.
    """

    status: Status
    started_at: datetime
    ends_at: datetime | None
    right: PlanRight | None
    used: Decimal
    price: ChargeModel | None
    priced_units: Decimal
    currency: str
    cancelled: bool = False
    plan_id: UUID | None = None
    plan_version_id: UUID | None = None

    def is_active_at(self, now: datetime) -> bool:
        return (
            self.status is Status.ACTIVE
            and self.started_at <= now
            and (self.ends_at is None or now < self.ends_at)
        )


class Facts(Struct, frozen=True):
    """A snapshot of all that the decision depends on. `min_margin_percent` and `margin_enforcement` are the organization's
    settings; `cost_gap` is why the cost of a use is not known, and `cost_model_id` whose it is. `feature_type` None: nothing
    has this code. `entity_refusal` is why the entity that would use it may use nothing. `must_choose`: of several active
    subscriptions the question has to name one."""

    now: datetime
    subscriptions: tuple[SubscriptionFacts, ...] = ()
    cost_per_use_cents: Decimal = Decimal(0)
    min_margin_percent: Decimal | None = None
    margin_enforcement: str = "observe"
    policies: Policies = NO_POLICIES
    cost_gap: Gap | None = None
    cost_model_id: UUID | None = None
    feature_type: FeatureType | None = None
    entity_refusal: Reason | None = None
    must_choose: bool = False


class Decision(Struct, frozen=True):
    """The answer. Amounts are cents a unit; `limit` and `remaining` None mean without cap. `margin` is what the margin
    policy in force said; None: none is. `configuration` are the privileges of the entitlement that was decided by."""

    allowed: bool
    reason: Reason
    used: Decimal = Decimal(0)
    limit: Decimal | None = None
    remaining: Decimal | None = None
    overage: bool = False
    cost_per_use_cents: Decimal = Decimal(0)
    revenue_per_use_cents: Decimal = Decimal(0)
    margin: Verdict | None = None
    feature_type: FeatureType | None = None
    configuration: Mapping[str, Any] | None = None

    @property
    def margin_per_use_cents(self) -> Decimal:
        return EXACT.subtract(self.revenue_per_use_cents, self.cost_per_use_cents)
