"""Plans and their parts in Core's form, field by field as Lago's: https://getlago.com/docs/api-reference/plans/object.

Where a plan is shown with its taxes and features, what several plans need is asked for once, before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from nozle_server.api.routes.taxes import taxes_json_by_code
from nozle_server.catalog import add_on_store, feature_store, plan_store
from nozle_server.catalog.charge_models import charge_model_name, to_properties
from nozle_server.catalog.credit_model import Rollover
from nozle_server.catalog.model import (
    Charge,
    ChargeFilter,
    Entitlement,
    Feature,
    FixedCharge,
    MinimumCommitment,
    Plan,
    PlanUse,
    PlanVersion,
    UsageThreshold,
)
from nozle_server.catalog.operations.entitlements import privileges_of
from nozle_server.catalog.plan_terms import BILLABLE_MONTHLY
from nozle_server.core.numbers import to_plain
from nozle_server.infra.database import Tx

Json = dict[str, object]
Taxes = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What plans are shown with: tax objects and features by code, names of add-ons and use of plans by their ids."""

    taxes: Taxes
    add_ons: Mapping[UUID, str]
    features: Mapping[str, Feature]
    use: Mapping[UUID, PlanUse]


async def plans_json(tx: Tx, org_id: UUID, plans: Sequence[Plan]) -> list[Json]:
    """Core's plan objects."""
    around = Surroundings(
        taxes=await taxes_json_by_code(
            tx, org_id, sorted({code for plan in plans for code in tax_codes_of(plan.current)})
        ),
        add_ons=await add_on_names(tx, org_id, [one for plan in plans for one in plan.current.fixed_charges]),
        features=await feature_store.find_features(
            tx, org_id, sorted({one.feature_code for plan in plans for one in plan.entitlements})
        ),
        use=await plan_store.count_use(tx, org_id, [plan.id for plan in plans]),
    )
    return [plan_json(plan, plan.current, around) for plan in plans]


async def plan_object(tx: Tx, plan: Plan) -> Json:
    """Core's plan object, in the current version."""
    return (await plans_json(tx, plan.org_id, [plan]))[0]


async def version_object(tx: Tx, plan: Plan, version: PlanVersion) -> Json:
    """Core's plan object, in any version of the plan."""
    around = Surroundings(
        taxes=await taxes_json_by_code(tx, plan.org_id, sorted(tax_codes_of(version))),
        add_ons=await add_on_names(tx, plan.org_id, version.fixed_charges),
        features=await feature_store.find_features(
            tx, plan.org_id, [one.feature_code for one in plan.entitlements]
        ),
        use=await plan_store.count_use(tx, plan.org_id, [plan.id]),
    )
    return plan_json(plan, version, around)


def plan_json(plan: Plan, version: PlanVersion, around: Surroundings) -> Json:
    use = around.use.get(plan.id, PlanUse(0, 0, 0))
    monthly = version.interval in BILLABLE_MONTHLY
    commitment = version.minimum_commitment
    # As Lago: what a subscription has otherwise is a plan of its own, whose parent is the plan.
    plan_id = version.id if version.overrides else plan.id
    return {
        "lago_id": plan_id,
        "nozle_id": plan_id,
        "code": plan.code,
        "name": plan.name,
        "invoice_display_name": version.invoice_display_name,
        "description": plan.description,
        "version": version.version,
        "is_current": version.id == plan.current.id,
        "interval": version.interval,
        "amount_cents": version.amount_cents,
        "amount_currency": version.currency,
        "pay_in_advance": version.pay_in_advance,
        "trial_period": version.trial_days or None,
        "bill_charges_monthly": version.bill_charges_monthly if monthly else None,
        "bill_fixed_charges_monthly": version.bill_fixed_charges_monthly if monthly else None,
        **credits_json(version),
        "customers_count": use.customers,
        "active_subscriptions_count": use.active_subscriptions,
        "draft_invoices_count": use.draft_invoices,
        "parent_id": plan.id if version.overrides else None,
        "pending_deletion": False,
        "charges": [charge_json(charge, around.taxes) for charge in version.charges],
        "fixed_charges": [
            fixed_charge_json(charge, around.taxes, around.add_ons) for charge in version.fixed_charges
        ],
        "usage_thresholds": [threshold_json(one) for one in version.usage_thresholds],
        "applicable_usage_thresholds": [applicable_threshold_json(one) for one in version.usage_thresholds],
        "minimum_commitment": commitment and commitment_json(commitment, plan, version, around.taxes),
        "taxes": _taxes(version.tax_codes, around.taxes),
        "entitlements": [
            entitlement_json(one, around.features[one.feature_code])
            for one in plan.entitlements
            if one.feature_code in around.features
        ],
        "metadata": plan.metadata,
        "created_at": plan.created_at,
        "updated_at": plan.updated_at,
    }


def credits_json(version: PlanVersion) -> Json:
    """What a version grants; `credits` is the short form of credits of the default system each period."""
    return {
        "credits": version.credits,
        "credits_rollover": rollover_json(version.rollover),
        "credit_grants": [
            {
                "credit_system": one.credit_system,
                "amount": to_plain(one.amount),
                "cadence": one.cadence,
                "scope": one.scope,
                "priority": one.priority,
                "rollover": rollover_json(one.rollover),
            }
            for one in version.credit_grants
        ],
    }


def rollover_json(rollover: Rollover | None) -> Json | None:
    if rollover is None:
        return None
    return {"limit": None if rollover.limit is None else to_plain(rollover.limit)}


def charge_json(charge: Charge, taxes: Taxes) -> Json:
    """`taxes` are those that exist, by code."""
    return {
        "lago_id": charge.id,
        "nozle_id": charge.id,
        "lago_billable_metric_id": charge.metric_id,
        "billable_metric_code": charge.metric_code,
        "code": charge.code,
        "charge_model": charge_model_name(charge.model),
        "invoice_display_name": charge.invoice_display_name,
        "pay_in_advance": charge.pay_in_advance,
        "invoiceable": charge.invoiceable,
        "regroup_paid_fees": charge.regroup_paid_fees,
        "prorated": charge.prorated,
        "min_amount_cents": charge.min_amount_cents,
        "accepts_target_wallet": False,
        "properties": _properties(charge),
        "applied_pricing_unit": None,
        "lago_parent_id": None,
        "filters": [filter_json(one) for one in charge.filters],
        "taxes": _taxes(charge.tax_codes, taxes),
        "created_at": charge.created_at,
    }


def filter_json(one: ChargeFilter) -> Json:
    return {
        "lago_id": one.id,
        "nozle_id": one.id,
        "invoice_display_name": one.invoice_display_name,
        "values": one.values,
        "properties": _properties(one),
    }


async def add_on_names(tx: Tx, org_id: UUID, charges: Sequence[FixedCharge]) -> Mapping[UUID, str]:
    """What fixed charges without a name of their own are called, by the add-on's id."""
    nameless = {charge.add_on_id for charge in charges if not charge.invoice_display_name}
    return await add_on_store.display_names(tx, org_id, sorted(nameless)) if nameless else {}


def fixed_charge_json(charge: FixedCharge, taxes: Taxes, add_ons: Mapping[UUID, str]) -> Json:
    """`taxes` are those that exist, by code. The display name is never null: Lago's clients read a text there."""
    return {
        "lago_id": charge.id,
        "nozle_id": charge.id,
        "lago_add_on_id": charge.add_on_id,
        "add_on_code": charge.add_on_code,
        "code": charge.code,
        "invoice_display_name": charge.invoice_display_name or add_ons[charge.add_on_id],
        "charge_model": charge_model_name(charge.model),
        "pay_in_advance": charge.pay_in_advance,
        "prorated": charge.prorated,
        "properties": to_properties(charge.model),
        "units": charge.units,
        "lago_parent_id": None,
        "taxes": _taxes(charge.tax_codes, taxes),
        "created_at": charge.created_at,
    }


def commitment_json(commitment: MinimumCommitment, plan: Plan, version: PlanVersion, taxes: Taxes) -> Json:
    return {
        "lago_id": commitment.id,
        "nozle_id": commitment.id,
        "plan_code": plan.code,
        "invoice_display_name": commitment.invoice_display_name,
        "amount_cents": commitment.amount_cents,
        "interval": version.interval,
        "created_at": commitment.created_at,
        "updated_at": version.created_at,
        "taxes": _taxes(commitment.tax_codes, taxes),
    }


def threshold_json(threshold: UsageThreshold) -> Json:
    return {
        "lago_id": threshold.id,
        "nozle_id": threshold.id,
        "threshold_display_name": threshold.display_name,
        "amount_cents": threshold.amount_cents,
        "recurring": threshold.recurring,
        "created_at": threshold.created_at,
        "updated_at": threshold.created_at,
    }


def applicable_threshold_json(threshold: UsageThreshold) -> Json:
    return {
        "threshold_display_name": threshold.display_name,
        "amount_cents": threshold.amount_cents,
        "recurring": threshold.recurring,
    }


def entitlement_json(entitlement: Entitlement, feature: Feature) -> Json:
    """A plan's right to a feature, with those of its privileges that have a value."""
    return {
        "code": feature.code,
        "name": feature.name,
        "description": feature.description,
        "privileges": [
            {
                "code": privilege.code,
                "name": privilege.name,
                "value_type": privilege.value_type,
                "value": entitlement.privileges[privilege.code],
                "config": privilege.config,
            }
            for privilege in privileges_of(feature)
            if privilege.code in entitlement.privileges
        ],
    }


def tax_codes_of(version: PlanVersion) -> set[str]:
    """Every tax code that a version and its parts name."""
    named = set(version.tax_codes)
    named |= {code for charge in version.charges for code in charge.tax_codes}
    named |= {code for fixed in version.fixed_charges for code in fixed.tax_codes}
    return named | set(version.minimum_commitment.tax_codes if version.minimum_commitment else ())


def _properties(priced: Charge | ChargeFilter) -> Json:
    properties = to_properties(priced.model)
    if priced.pricing_group_keys:
        # Under both names: older clients read the first.
        properties |= {
            "grouped_by": list(priced.pricing_group_keys),
            "pricing_group_keys": list(priced.pricing_group_keys),
        }
    return properties


def _taxes(codes: Sequence[str], taxes: Taxes) -> list[Json]:
    return [taxes[code] for code in codes if code in taxes]
