"""What a caller writes to make or change a part of the catalog: the bodies of Core's endpoints, and the entries of a
catalog file. Field names are Lago's; shorter words of the catalog file (`metric`, `currency`) are accepted beside them.

A field that is left out (UNSET) and one that is null differ where something stored is changed: left out it stays.
What the billing engine does not do is refused when asked for, never ignored.
"""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.errors import RuleBroken
from nozle_server.core.fields import Amount

T = TypeVar("T")


class FilterDraft(msgspec.Struct, kw_only=True):
    """A property that charges on the metric may price by."""

    key: str
    values: list[str]


class MetricDraft(msgspec.Struct, kw_only=True):
    """`POST /billable_metrics`, and `metrics:` of a catalog file."""

    code: str
    name: str
    aggregation_type: str
    description: str | None = None
    field_name: str | None = None
    expression: str | None = None
    filters: list[FilterDraft] = []
    recurring: bool | None = False
    rounding_function: str | None = None
    rounding_precision: int | None = None
    weighted_interval: str | None = None


class MetricChanges(msgspec.Struct, kw_only=True):
    """`PUT /billable_metrics/{code}`: what is left out stays."""

    code: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    aggregation_type: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    field_name: str | UnsetType | None = UNSET
    expression: str | UnsetType | None = UNSET
    filters: list[FilterDraft] | UnsetType = UNSET
    recurring: bool | UnsetType | None = UNSET
    rounding_function: str | UnsetType | None = UNSET
    rounding_precision: int | UnsetType | None = UNSET
    weighted_interval: str | UnsetType | None = UNSET


class PrivilegeDraft(msgspec.Struct, kw_only=True):
    """A named setting of a feature; `value_type` is integer, boolean, string or select."""

    code: str
    name: str | None = None
    value_type: str = "string"
    config: dict[str, Any] = {}


class FeatureDraft(msgspec.Struct, kw_only=True):
    """`POST /features`, and `features:` of a catalog file; `billable_metric_code` makes it a metered feature."""

    code: str
    name: str | None = None
    description: str | None = None
    billable_metric_code: str | None = None
    metric: str | None = None
    privileges: list[PrivilegeDraft] = []

    @property
    def metric_code(self) -> str | None:
        return self.billable_metric_code or self.metric


class PrivilegeChange(msgspec.Struct, kw_only=True):
    """A privilege to add, or to change: its name, and more options of a select."""

    code: str
    name: str | UnsetType | None = UNSET
    value_type: str | None = None
    config: dict[str, Any] | None = None


class FeatureChange(msgspec.Struct, kw_only=True):
    """`PUT /features/{code}`: what is left out stays, privileges included."""

    code: str | None = None
    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    billable_metric_code: str | None = None
    metric: str | None = None
    privileges: list[PrivilegeChange] | None = None

    @property
    def metric_code(self) -> str | None:
        return self.billable_metric_code or self.metric


class ChargeFilterDraft(msgspec.Struct, kw_only=True):
    """Another price for events whose properties match `values` in every key. With the `id` of a stored filter, what is
    left out stays."""

    id: UUID | None = None
    values: dict[str, list[str]] | UnsetType | None = UNSET
    properties: dict[str, Any] | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET


class ChargeDraft(msgspec.Struct, kw_only=True):
    """A metric priced within a plan, named by code or by id. With the `id` of a stored charge, what is left out stays."""

    id: UUID | None = None
    code: str | UnsetType | None = UNSET
    charge_model: str | UnsetType | None = UNSET
    properties: dict[str, Any] | UnsetType | None = UNSET
    billable_metric_code: str | None = None
    billable_metric_id: UUID | None = None
    metric: str | None = None
    filters: list[ChargeFilterDraft] | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    pay_in_advance: bool | UnsetType | None = UNSET
    prorated: bool | UnsetType | None = UNSET
    invoiceable: bool | UnsetType | None = UNSET
    regroup_paid_fees: str | UnsetType | None = UNSET
    min_amount_cents: int | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    applied_pricing_unit: dict[str, Any] | None = None
    accepts_target_wallet: bool | None = None

    @property
    def metric_code(self) -> str | None:
        return self.billable_metric_code or self.metric

    @property
    def says_nothing(self) -> bool:
        return self == ChargeDraft(id=self.id)

    def refuse_unsupported(self) -> None:
        refuse(self, ("applied_pricing_unit", "accepts_target_wallet"))


class FixedChargeDraft(msgspec.Struct, kw_only=True):
    """Units of an add-on in every period. With the `id` of a stored fixed charge, what is left out stays."""

    id: UUID | None = None
    code: str | UnsetType | None = UNSET
    add_on_id: UUID | None = None
    add_on_code: str | None = None
    charge_model: str | UnsetType | None = UNSET
    properties: dict[str, Any] | UnsetType | None = UNSET
    units: Amount | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    pay_in_advance: bool | UnsetType | None = UNSET
    prorated: bool | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    apply_units_immediately: bool | None = None

    @property
    def says_nothing(self) -> bool:
        return self == FixedChargeDraft(id=self.id)

    def refuse_unsupported(self) -> None:
        refuse(self, ("apply_units_immediately",))


class MinimumCommitmentDraft(msgspec.Struct, kw_only=True):
    """What a period costs at least, in minor units. An empty one takes the commitment away."""

    id: UUID | None = None
    amount_cents: int | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET

    @property
    def is_empty(self) -> bool:
        return self.amount_cents is self.invoice_display_name is self.tax_codes is UNSET


class UsageThresholdDraft(msgspec.Struct, kw_only=True):
    """Usage, in minor units, that is invoiced as soon as it is reached."""

    id: UUID | None = None
    amount_cents: int
    threshold_display_name: str | None = None
    recurring: bool | None = None


class RolloverDraft(msgspec.Struct, kw_only=True):
    """What is left at a period's end is carried into the next period, up to `limit`; all of it when that is null."""

    limit: Amount | None = None


class CreditGrantDraft(msgspec.Struct, kw_only=True):
    """Credits that a plan includes. `cadence` is period (the plan's own), month, year or lifetime; `scope` is customer or
    entity; a lower `priority` is spent earlier."""

    credit_system: str
    amount: Amount
    cadence: str | None = None
    scope: str | None = None
    priority: int | None = None
    rollover: RolloverDraft | None = None


class PlanTerms(msgspec.Struct, kw_only=True):
    """What may be said about a plan. A change leaves alone what is not said; null means none, or the default. A list or a
    commitment that is null is not said, as with Lago: published clients send null for what they do not set."""

    name: str | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    amount_currency: str | UnsetType | None = UNSET
    currency: str | UnsetType | None = UNSET
    trial_period: Amount | UnsetType | None = UNSET
    pay_in_advance: bool | UnsetType | None = UNSET
    bill_charges_monthly: bool | UnsetType | None = UNSET
    bill_fixed_charges_monthly: bool | UnsetType | None = UNSET
    credits: Amount | UnsetType | None = UNSET
    credits_rollover: RolloverDraft | UnsetType | None = UNSET
    credit_grants: list[CreditGrantDraft] | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    minimum_commitment: MinimumCommitmentDraft | UnsetType | None = UNSET
    charges: list[ChargeDraft] | UnsetType | None = UNSET
    fixed_charges: list[FixedChargeDraft] | UnsetType | None = UNSET
    usage_thresholds: list[UsageThresholdDraft] | UnsetType | None = UNSET
    entitlements: dict[str, Any] | None = None
    metadata: dict[str, Any] | UnsetType | None = UNSET


class PlanDraft(PlanTerms, kw_only=True):
    """`POST /plans`, and `plans:` of a catalog file. `amount_cents` is the fixed fee of a period in minor units."""

    code: str
    interval: str
    amount_cents: int


class PlanChange(PlanTerms, kw_only=True):
    """`PUT /plans/{code}`: what is left out stays. Lists replace what is there; their entries may name what they change
    by its id. With `cascade_updates` subscribers get the changed plan when their billing period ends."""

    code: str | None = None
    interval: str | UnsetType | None = UNSET
    amount_cents: int | UnsetType | None = UNSET
    cascade_updates: bool | None = None


class ChargeOverride(msgspec.Struct, kw_only=True):
    """What one subscription has otherwise in a charge of its plan, named by its id."""

    id: UUID
    charge_model: str | UnsetType | None = UNSET
    properties: dict[str, Any] | UnsetType | None = UNSET
    filters: list[ChargeFilterDraft] | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    min_amount_cents: int | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET


class FixedChargeOverride(msgspec.Struct, kw_only=True):
    """What one subscription has otherwise in a fixed charge of its plan, named by its id."""

    id: UUID
    properties: dict[str, Any] | UnsetType | None = UNSET
    units: Amount | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET


class PlanOverrides(msgspec.Struct, kw_only=True):
    """`plan_overrides` of a subscription: what it has otherwise than its plan. A `name` is what its invoices say."""

    name: str | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    description: str | None = None
    amount_cents: int | UnsetType | None = UNSET
    amount_currency: str | UnsetType | None = UNSET
    trial_period: Amount | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    minimum_commitment: MinimumCommitmentDraft | UnsetType | None = UNSET
    charges: list[ChargeOverride] | UnsetType | None = UNSET
    fixed_charges: list[FixedChargeOverride] | UnsetType | None = UNSET
    usage_thresholds: list[UsageThresholdDraft] | UnsetType | None = UNSET

    def refuse_unsupported(self) -> None:
        refuse(self, ("description",))


def said(value: T | UnsetType | None, otherwise: T) -> T:
    """The value, or `otherwise` when nothing (null, or no such field) was said."""
    return otherwise if value is None or value is UNSET else value


def kept(value: T | UnsetType | None, before: T, otherwise: T) -> T:
    """The value; what was there `before` when the field is left out, `otherwise` when it is null."""
    return before if value is UNSET else otherwise if value is None else value


def all_tax_codes(terms: PlanTerms | PlanOverrides) -> set[str]:
    """Every tax code that a draft names, of the plan and of all its parts."""
    named: list[str] = [*said(terms.tax_codes, [])]
    if terms.minimum_commitment:
        named += said(terms.minimum_commitment.tax_codes, [])
    for charge in terms.charges or ():
        named += said(charge.tax_codes, [])
    for fixed in terms.fixed_charges or ():
        named += said(fixed.tax_codes, [])
    return set(named)


def refuse(draft: msgspec.Struct, fields: Sequence[str]) -> None:
    """RuleBroken when one of these fields asks for something."""
    for name in fields:
        if getattr(draft, name):
            raise RuleBroken(
                f"{name} is not supported yet", code="not_supported", details={name: ["not_supported"]}
            )
