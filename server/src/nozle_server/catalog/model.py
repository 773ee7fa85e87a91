"""What is counted and what is sold: billable metrics, features, plans and their charges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM, PlanGrant, Rollover
from nozle_server.core.periods import Interval


class Aggregation(StrEnum):
    """How a metric's events become a quantity (Lago's names)."""

    COUNT = "count_agg"
    SUM = "sum_agg"
    MAX = "max_agg"
    UNIQUE_COUNT = "unique_count_agg"
    LATEST = "latest_agg"
    WEIGHTED_SUM = "weighted_sum_agg"


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """A property of a metric's events that charges may price by, and its values."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A billable metric. `field_name` is the property that is summed, compared or told apart; with an `expression`
    the quantity is computed from several properties instead.

    A `recurring` metric carries its quantity over from period to period. `rounding_function` (round, ceil or floor) is
    applied to a period's quantity, to `rounding_precision` decimals (None: 0; negative: tens, hundreds).
    `weighted_interval` ("seconds") belongs to a weighted sum.
    """

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
    recurring: bool = False
    weighted_interval: str | None = None
    rounding_function: str | None = None
    rounding_precision: int | None = None


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
class AddOn:
    """What is sold once: by itself on an invoice, or with every period as a fixed charge. `amount_cents` in minor units."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    invoice_display_name: str | None
    description: str | None
    amount_cents: int
    currency: str
    tax_codes: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


# In a filter's values: all the values that the metric declares for the property.
ALL_VALUES = "__ALL_FILTER_VALUES__"


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Another price for the events whose properties have one of the named values, for every key named."""

    id: UUID
    values: Mapping[str, tuple[str, ...]]
    model: ChargeModel
    invoice_display_name: str | None
    pricing_group_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Charge:
    """A metric priced within a plan. Events are priced by the filter they match best, the rest by `model`.

    `pricing_group_keys` are properties whose every combination of values is priced and shown on its own.
    `pay_in_advance` prices each event when it comes instead of the period when it ends; then `invoiceable` says whether
    an invoice follows at once, and `regroup_paid_fees` ("invoice") that paid fees are listed on one at the period's end.
    `prorated` counts a recurring metric's quantity by the part of the period it was there. `min_amount_cents` is what a
    period costs at least, in minor units. `tax_codes` stand above the plan's, the customer's and the organization's.
    """

    id: UUID
    metric_id: UUID
    metric_code: str
    model: ChargeModel
    filters: tuple[ChargeFilter, ...]
    invoice_display_name: str | None
    created_at: datetime
    code: str | None = None
    pay_in_advance: bool = False
    invoiceable: bool = True
    regroup_paid_fees: str | None = None
    prorated: bool = False
    min_amount_cents: int = 0
    tax_codes: tuple[str, ...] = ()
    pricing_group_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FixedCharge:
    """A number of units of an add-on in every period, priced by a standard, graduated or volume model; no events."""

    id: UUID
    add_on_id: UUID
    add_on_code: str
    model: ChargeModel
    units: Decimal
    invoice_display_name: str | None
    created_at: datetime
    code: str | None = None
    pay_in_advance: bool = False
    prorated: bool = False
    tax_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MinimumCommitment:
    """What a billing period of the plan costs at least, in minor units; less is trued up when the period is billed."""

    id: UUID
    amount_cents: int
    invoice_display_name: str | None
    tax_codes: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UsageThreshold:
    """Usage of this much, in minor units over the subscription's life, is invoiced at once (progressive billing).

    A `recurring` threshold is reached again each time that much more has been used after the last of the others.
    """

    id: UUID
    amount_cents: int
    display_name: str | None
    recurring: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """What a plan costs: immutable; its subscribers keep it when the plan gets another.

    `amount_cents` is the fixed fee of one period in minor units; `credits` of the default system are granted each period,
    with `rollover` of what is left of them, and `credit_grants` beside them. A version with `overrides` belongs to a
    single subscription and is a changed copy of that version.
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
    invoice_display_name: str | None = None
    trial_days: Decimal = Decimal(0)
    bill_charges_monthly: bool = False
    bill_fixed_charges_monthly: bool = False
    minimum_commitment: MinimumCommitment | None = None
    usage_thresholds: tuple[UsageThreshold, ...] = ()
    fixed_charges: tuple[FixedCharge, ...] = ()
    tax_codes: tuple[str, ...] = ()
    overrides: UUID | None = None
    rollover: Rollover | None = None
    credit_grants: tuple[PlanGrant, ...] = ()

    @property
    def all_credit_grants(self) -> tuple[PlanGrant, ...]:
        """All that the version grants; `credits` are the short form of the first."""
        if not self.credits:
            return self.credit_grants
        short = PlanGrant(DEFAULT_CREDIT_SYSTEM, self.credits, rollover=self.rollover)
        return (short, *self.credit_grants)

    @property
    def usage_interval(self) -> Interval:
        """How long a period of usage is: a month where charges of a longer plan are billed monthly."""
        return Interval.MONTHLY if self.bill_charges_monthly and self.interval in _LONG else self.interval

    @property
    def fixed_charge_interval(self) -> Interval:
        """How long a period of fixed charges is."""
        return (
            Interval.MONTHLY if self.bill_fixed_charges_monthly and self.interval in _LONG else self.interval
        )

    def charge_for(self, metric_id: UUID) -> Charge | None:
        """The charge on a metric; None when the plan does not price it."""
        return next((charge for charge in self.charges if charge.metric_id == metric_id), None)


_LONG = (Interval.SEMIANNUAL, Interval.YEARLY)


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
    metadata: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class PlanUse:
    """How many active subscriptions a plan has, of how many customers, and drafts of invoices of its subscriptions."""

    active_subscriptions: int
    customers: int
    draft_invoices: int
