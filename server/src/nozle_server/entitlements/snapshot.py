"""All that `can()` is decided from, as values: what an organization has for everybody, and what one customer has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.catalog.model import PlanVersion
from nozle_server.core.standing import Standing
from nozle_server.costs.model import CostModel
from nozle_server.entitlements.policy import Policy, SharedPolicies
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature, and the metric that counts its use; None for one that is had or not."""

    id: UUID
    metric_id: UUID | None
    name: str


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """How a metric counts, and the cost models for it. `recurring`: its quantity has no periods."""

    id: UUID
    code: str
    name: str
    aggregation: str
    recurring: bool
    rounding: tuple[str | None, int | None]
    cost_models: tuple[CostModel, ...] = ()


@dataclass(frozen=True, slots=True)
class OrganizationSnapshot:
    """What holds for all customers. `features` and `metric_ids` are by code and have none that were deleted; `metrics` has
    them all. `entitlements` are privileges by plan, then by feature."""

    org_id: UUID
    test_now: datetime | None
    margin_enforcement: str
    min_margin_percent: Decimal | None
    features: Mapping[str, FeatureFacts]
    metric_ids: Mapping[str, UUID]
    metrics: Mapping[UUID, MetricFacts]
    entitlements: Mapping[UUID, Mapping[UUID, Mapping[str, Any]]]
    policies: SharedPolicies | None = None
    standing: Standing = field(default_factory=Standing, compare=False)

    def now(self, real_now: datetime) -> datetime:
        """The organization's time: its test clock if it has been set, else real time."""
        return self.test_now or real_now


@dataclass(frozen=True, slots=True)
class Override:
    """What a subscription has otherwise than its plan: privileges of its own, or the feature taken away."""

    removed: bool
    privileges: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SubscriptionSnapshot:
    """A subscription with the code and its version of the plan, its own rights by feature, and its counters.

    `counters` are (start of period, units) by metric, in order of time, from the period that the last billing run opened
    on: the one that runs by the clock may be a later one. `lasting` is the quantity of metrics that have no periods, which
    is kept under the first of the subscriptions that follow each other.
    """

    subscription: Subscription
    plan_code: str
    version: PlanVersion
    overrides: Mapping[UUID, Override]
    counters: Mapping[UUID, tuple[tuple[datetime, Decimal], ...]]
    lasting: Mapping[UUID, Decimal]


@dataclass(frozen=True, slots=True)
class CustomerSnapshot:
    """A customer's subscriptions, all that ever were, the latest first. `customer_id` None: nobody has this external id,
    which is known and no gap in what is known. `policy` is the margin policy of the customer's own."""

    organization: OrganizationSnapshot
    external_id: str
    customer_id: UUID | None
    subscriptions: tuple[SubscriptionSnapshot, ...] = ()
    policy: Policy | None = None
    standing: Standing = field(default_factory=Standing, compare=False)
