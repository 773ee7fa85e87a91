"""What a caller writes to make or change a part of the catalog: the bodies of Core's endpoints, and the entries of a
catalog file. Field names are Lago's; shorter words of the catalog file (`metric`, `currency`) are accepted beside them.

What the billing engine does not do yet is refused when asked for, never ignored: a plan that says `trial_period: 14`
must not be billed from its first day.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from nozle_server.core.errors import RuleBroken
from nozle_server.core.fields import Amount


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
    recurring: bool = False
    rounding_function: str | None = None
    weighted_interval: str | None = None

    def refuse_unsupported(self) -> None:
        refuse(self, ("recurring", "rounding_function", "weighted_interval"))


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


class ChargeFilterDraft(msgspec.Struct, kw_only=True):
    """Another price for events whose properties match `values` in every key."""

    values: dict[str, list[str]]
    properties: dict[str, Any]
    invoice_display_name: str | None = None


class ChargeDraft(msgspec.Struct, kw_only=True):
    """A metric priced within a plan, named by code or by id."""

    charge_model: str
    properties: dict[str, Any] = {}
    billable_metric_code: str | None = None
    billable_metric_id: UUID | None = None
    metric: str | None = None
    filters: list[ChargeFilterDraft] = []
    invoice_display_name: str | None = None
    pay_in_advance: bool = False
    prorated: bool = False
    invoiceable: bool = True
    min_amount_cents: int = 0
    tax_codes: list[str] = []

    @property
    def metric_code(self) -> str | None:
        return self.billable_metric_code or self.metric

    def refuse_unsupported(self) -> None:
        refuse(self, ("pay_in_advance", "prorated", "min_amount_cents", "tax_codes"))
        if self.properties.get("grouped_by") or self.properties.get("pricing_group_keys"):
            raise RuleBroken("pricing groups are not supported yet", code="not_supported")
        if not self.invoiceable:
            raise RuleBroken("invoiceable: false is not supported yet", code="not_supported")


class PlanDraft(msgspec.Struct, kw_only=True):
    """`POST /plans`, and `plans:` of a catalog file. `amount_cents` is the fixed fee of a period in minor units."""

    code: str
    interval: str
    amount_cents: int
    name: str | None = None
    description: str | None = None
    amount_currency: str | None = None
    currency: str | None = None
    pay_in_advance: bool = False
    credits: Amount = Amount(0)
    charges: list[ChargeDraft] = []
    entitlements: dict[str, Any] | None = None
    trial_period: Amount | None = None
    bill_charges_monthly: bool | None = None
    minimum_commitment: dict[str, Any] | None = None
    usage_thresholds: list[Any] = []
    fixed_charges: list[Any] = []
    tax_codes: list[str] = []

    def refuse_unsupported(self) -> None:
        refuse(
            self,
            (
                "trial_period",
                "bill_charges_monthly",
                "minimum_commitment",
                "usage_thresholds",
                "fixed_charges",
                "tax_codes",
            ),
        )


def refuse(draft: msgspec.Struct, fields: Sequence[str]) -> None:
    """RuleBroken when one of these fields asks for something."""
    for name in fields:
        if getattr(draft, name):
            raise RuleBroken(
                f"{name} is not supported yet", code="not_supported", details={name: ["not_supported"]}
            )
