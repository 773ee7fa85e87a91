"""What is counted and what is sold: billable metrics, features, plans and their charges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.core.periods import Interval


class Aggregation(StrEnum):
    """How a metric's events become a quantity (Lago's names)."""

    COUNT = "count_agg"
    SUM = "sum_agg"
    MAX = "max_agg"
    UNIQUE_COUNT = "unique_count_agg"
    LATEST = "latest_agg"


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """A property of a metric's events that charges may price by, and its values."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A billable metric. `field_name` is the property that is summed, compared or told apart; with an `expression`
    the quantity is computed from several properties instead."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    aggregation: Aggregation
    field_name: str | None
    expression: str | None
    filters: tuple[MetricFilter, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Privilege:
    """A named setting of a feature that plans give a value to."""

    code: str
    name: str | None
    value_type: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feature:
    """Something gated. With a `metric_id` its usage is that metric's, and plans limit it."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    metric_id: UUID | None
    metric_code: str | None
    privileges: tuple[Privilege, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Another price for the events whose properties have one of the named values, for every key named."""

    id: UUID
    values: Mapping[str, tuple[str, ...]]
    model: ChargeModel
    invoice_display_name: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """A metric priced within a plan. Events are priced by the filter they match best, the rest by `model`."""

    id: UUID
    metric_id: UUID
    metric_code: str
    model: ChargeModel
    filters: tuple[ChargeFilter, ...]
    invoice_display_name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """What a plan costs: immutable; its subscribers keep it when the plan gets another.

    `amount_cents` is the fixed fee of one period in minor units; `credits` are granted each period.
    """

    org_id: UUID
    id: UUID
    plan_id: UUID
    version: int
    interval: Interval
    amount_cents: int
    currency: str
    pay_in_advance: bool
    credits: Decimal
    charges: tuple[Charge, ...]
    created_at: datetime

    def charge_for(self, metric_id: UUID) -> Charge | None:
        """The charge on a metric; None when the plan does not price it."""
        return next((charge for charge in self.charges if charge.metric_id == metric_id), None)


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A plan's right to a feature; of its privileges, `limit` null means unlimited (contract Decision 22)."""

    feature_id: UUID
    feature_code: str
    privileges: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sold: a code and a name with its current version and its entitlements."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    current: PlanVersion
    entitlements: tuple[Entitlement, ...]
    created_at: datetime
    updated_at: datetime
