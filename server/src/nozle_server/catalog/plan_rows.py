"""Versions of plans as rows: what is a list or an object is kept as JSON, exactly, in their immutable row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.catalog.charge_models import charge_model_name, parse_charge_model, to_properties
from nozle_server.catalog.credit_model import Cadence, GrantScope, PlanGrant, Rollover
from nozle_server.catalog.model import (
    Charge,
    ChargeFilter,
    FixedCharge,
    MinimumCommitment,
    PlanVersion,
    UsageThreshold,
)
from nozle_server.core.numbers import to_plain
from nozle_server.core.periods import Interval

VERSION_NAMES = (
    "org_id",
    "id",
    "plan_id",
    "version",
    "interval",
    "amount_cents",
    "currency",
    "pay_in_advance",
    "credits",
    "charges",
    "created_at",
    "invoice_display_name",
    "trial_days",
    "bill_charges_monthly",
    "bill_fixed_charges_monthly",
    "minimum_commitment",
    "usage_thresholds",
    "fixed_charges",
    "tax_codes",
    "overrides",
    "rollover",
    "credit_grants",
)
"""The columns of a version, in the order of `version_values`."""


def version_values(version: PlanVersion) -> tuple[object, ...]:
    commitment = version.minimum_commitment
    shaped = {
        "credits": Decimal(version.credits),
        "trial_days": Decimal(version.trial_days),
        "charges": _charges_to_json(version.charges),
        "fixed_charges": _fixed_charges_to_json(version.fixed_charges),
        "minimum_commitment": _commitment_to_json(commitment) if commitment else None,
        "usage_thresholds": _thresholds_to_json(version.usage_thresholds),
        "tax_codes": list(version.tax_codes),
        "rollover": _rollover_to_json(version.rollover),
        "credit_grants": [_credit_grant_to_json(one) for one in version.credit_grants],
    }
    return tuple(shaped[name] if name in shaped else getattr(version, name) for name in VERSION_NAMES)


def version_from_row(row: Mapping[str, Any]) -> PlanVersion:
    """From a row with all of `VERSION_NAMES`."""
    commitment = row["minimum_commitment"]
    return PlanVersion(
        **{name: row[name] for name in VERSION_NAMES}
        | {
            "interval": Interval(row["interval"]),
            "charges": tuple(_charge_from_json(one) for one in row["charges"]),
            "fixed_charges": tuple(_fixed_charge_from_json(one) for one in row["fixed_charges"]),
            "minimum_commitment": _commitment_from_json(commitment) if commitment else None,
            "usage_thresholds": tuple(_threshold_from_json(one) for one in row["usage_thresholds"]),
            "tax_codes": tuple(row["tax_codes"]),
            "rollover": _rollover_from_json(row["rollover"]),
            "credit_grants": tuple(_credit_grant_from_json(one) for one in row["credit_grants"]),
        }
    )


def _rollover_to_json(rollover: Rollover | None) -> dict[str, Any] | None:
    if rollover is None:
        return None
    return {"limit": None if rollover.limit is None else to_plain(rollover.limit)}


def _rollover_from_json(data: Mapping[str, Any] | None) -> Rollover | None:
    if data is None:
        return None
    return Rollover(None if data["limit"] is None else Decimal(data["limit"]))


def _credit_grant_to_json(grant: PlanGrant) -> dict[str, Any]:
    return {
        "credit_system": grant.credit_system,
        "amount": to_plain(grant.amount),
        "cadence": grant.cadence,
        "scope": grant.scope,
        "priority": grant.priority,
        "rollover": _rollover_to_json(grant.rollover),
    }


def _credit_grant_from_json(data: Mapping[str, Any]) -> PlanGrant:
    return PlanGrant(
        credit_system=data["credit_system"],
        amount=Decimal(data["amount"]),
        cadence=Cadence(data["cadence"]),
        scope=GrantScope(data["scope"]),
        priority=data["priority"],
        rollover=_rollover_from_json(data["rollover"]),
    )


def _charges_to_json(charges: Sequence[Charge]) -> list[dict[str, Any]]:
    return [
        {
            "id": charge.id,
            "code": charge.code,
            "metric_id": charge.metric_id,
            "metric_code": charge.metric_code,
            "charge_model": charge_model_name(charge.model),
            "properties": to_properties(charge.model),
            "pricing_group_keys": charge.pricing_group_keys,
            "invoice_display_name": charge.invoice_display_name,
            "pay_in_advance": charge.pay_in_advance,
            "invoiceable": charge.invoiceable,
            "regroup_paid_fees": charge.regroup_paid_fees,
            "prorated": charge.prorated,
            "min_amount_cents": charge.min_amount_cents,
            "tax_codes": charge.tax_codes,
            "created_at": charge.created_at,
            "filters": [
                {
                    "id": one.id,
                    "values": one.values,
                    "properties": to_properties(one.model),
                    "pricing_group_keys": one.pricing_group_keys,
                    "invoice_display_name": one.invoice_display_name,
                }
                for one in charge.filters
            ],
        }
        for charge in charges
    ]


def _charge_from_json(data: Mapping[str, Any]) -> Charge:
    """Versions written by the first release hold none of the fields that `get` looks for."""
    name = data["charge_model"]
    return Charge(
        id=UUID(data["id"]),
        code=data.get("code") or data["metric_code"],
        metric_id=UUID(data["metric_id"]),
        metric_code=data["metric_code"],
        model=parse_charge_model(name, data["properties"]),
        pricing_group_keys=tuple(data.get("pricing_group_keys", ())),
        invoice_display_name=data["invoice_display_name"],
        pay_in_advance=data.get("pay_in_advance", False),
        invoiceable=data.get("invoiceable", True),
        regroup_paid_fees=data.get("regroup_paid_fees"),
        prorated=data.get("prorated", False),
        min_amount_cents=data.get("min_amount_cents", 0),
        tax_codes=tuple(data.get("tax_codes", ())),
        created_at=datetime.fromisoformat(data["created_at"]),
        filters=tuple(
            ChargeFilter(
                id=UUID(one["id"]),
                values={key: tuple(values) for key, values in one["values"].items()},
                model=parse_charge_model(name, one["properties"]),
                pricing_group_keys=tuple(one.get("pricing_group_keys", ())),
                invoice_display_name=one["invoice_display_name"],
            )
            for one in data["filters"]
        ),
    )


def _fixed_charges_to_json(charges: Sequence[FixedCharge]) -> list[dict[str, Any]]:
    return [
        {
            "id": charge.id,
            "code": charge.code,
            "add_on_id": charge.add_on_id,
            "add_on_code": charge.add_on_code,
            "charge_model": charge_model_name(charge.model),
            "properties": to_properties(charge.model),
            "units": to_plain(charge.units),
            "invoice_display_name": charge.invoice_display_name,
            "pay_in_advance": charge.pay_in_advance,
            "prorated": charge.prorated,
            "tax_codes": charge.tax_codes,
            "created_at": charge.created_at,
        }
        for charge in charges
    ]


def _fixed_charge_from_json(data: Mapping[str, Any]) -> FixedCharge:
    return FixedCharge(
        id=UUID(data["id"]),
        code=data["code"],
        add_on_id=UUID(data["add_on_id"]),
        add_on_code=data["add_on_code"],
        model=parse_charge_model(data["charge_model"], data["properties"]),
        units=Decimal(data["units"]),
        invoice_display_name=data["invoice_display_name"],
        pay_in_advance=data["pay_in_advance"],
        prorated=data["prorated"],
        tax_codes=tuple(data["tax_codes"]),
        created_at=datetime.fromisoformat(data["created_at"]),
    )


def _commitment_to_json(commitment: MinimumCommitment) -> dict[str, Any]:
    return {
        "id": commitment.id,
        "amount_cents": commitment.amount_cents,
        "invoice_display_name": commitment.invoice_display_name,
        "tax_codes": commitment.tax_codes,
        "created_at": commitment.created_at,
    }


def _commitment_from_json(data: Mapping[str, Any]) -> MinimumCommitment:
    return MinimumCommitment(
        id=UUID(data["id"]),
        amount_cents=data["amount_cents"],
        invoice_display_name=data["invoice_display_name"],
        tax_codes=tuple(data["tax_codes"]),
        created_at=datetime.fromisoformat(data["created_at"]),
    )


def _thresholds_to_json(thresholds: Sequence[UsageThreshold]) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "amount_cents": one.amount_cents,
            "display_name": one.display_name,
            "recurring": one.recurring,
            "created_at": one.created_at,
        }
        for one in thresholds
    ]


def _threshold_from_json(data: Mapping[str, Any]) -> UsageThreshold:
    return UsageThreshold(
        id=UUID(data["id"]),
        amount_cents=data["amount_cents"],
        display_name=data["display_name"],
        recurring=data["recurring"],
        created_at=datetime.fromisoformat(data["created_at"]),
    )
