"""The catalog as code: compare a file with what is stored, tell the difference, and apply it.

What the file does not name is left alone: a file can hold a part of the catalog. Applying a file twice changes
nothing the second time. Cost models have no code, so one is known by its name; another price replaces it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import msgspec

from nozle_server.catalog import feature_store, metric_store, plan_store
from nozle_server.catalog.charge_models import charge_model_name, to_properties
from nozle_server.catalog.credit_model import Rollover
from nozle_server.catalog.credit_system_drafts import (
    CreditSystemEntry,
    RateEntry,
)
from nozle_server.catalog.drafts import (
    ChargeDraft,
    ChargeFilterDraft,
    CreditGrantDraft,
    FeatureDraft,
    FilterDraft,
    FixedChargeDraft,
    MetricDraft,
    MinimumCommitmentDraft,
    PlanDraft,
    PrivilegeDraft,
    RolloverDraft,
    UsageThresholdDraft,
    all_tax_codes,
    kept,
    said,
)
from nozle_server.catalog.model import Charge, Entitlement, Feature, Metric, Plan, PlanVersion
from nozle_server.catalog.operations import features as feature_operations
from nozle_server.catalog.operations import metrics as metric_operations
from nozle_server.catalog.operations import plans as plan_operations
from nozle_server.catalog.operations.entitlements import plan_entitlements
from nozle_server.core.errors import InvalidInput
from nozle_server.core.fields import read
from nozle_server.core.numbers import to_plain
from nozle_server.core.text import parse_id
from nozle_server.costs import store as costs_store
from nozle_server.costs.model import CostModel
from nozle_server.costs.operations import (
    CostModelDraft,
    CostTierDraft,
    ModelRateDraft,
    create_cost_model,
    delete_cost_model,
    plan_cost_model,
    same_costs,
)
from nozle_server.entitlements.news import rights_of_everybody
from nozle_server.infra.change_bus import publish_once
from nozle_server.infra.database import Tx
from nozle_server.taxes.queries import require_taxes
from nozle_server.workflows.apply_credit_system import apply_credit_system
from nozle_server.workflows.catalog_difference import Difference, changes_between


class CatalogFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    metrics: list[MetricDraft] = []
    features: list[FeatureDraft] = []
    credit_systems: list[CreditSystemEntry] = []
    plans: list[PlanDraft] = []
    cost_models: list[CostModelDraft] = []


def read_catalog(document: object) -> CatalogFile:
    """The file's content from plain YAML values; InvalidInput names the place of what is wrong."""
    if not isinstance(document, Mapping):
        raise InvalidInput(
            "the catalog file must be a mapping of metrics, features, credit_systems, plans and cost_models"
        )
    _refuse_unknown_fields(document, CatalogFile, "")
    catalog = read(CatalogFile, document, what="catalog file")
    for what, codes in (
        ("metrics", [one.code for one in catalog.metrics]),
        ("features", [one.code for one in catalog.features]),
        ("credit_systems", [one.code for one in catalog.credit_systems]),
        ("plans", [one.code for one in catalog.plans]),
        ("cost_models", [one.name for one in catalog.cost_models]),
    ):
        for code in codes:
            parse_id(code, what)
        if len(set(codes)) != len(codes):
            raise InvalidInput(f"{what}: an entry is there twice", details={what: ["value_is_duplicated"]})
    return catalog


# Which Struct the entries of a list, or the values of a mapping, are read into.
_PARTS: Mapping[type[msgspec.Struct], Mapping[str, type[msgspec.Struct]]] = {
    CatalogFile: {
        "metrics": MetricDraft,
        "features": FeatureDraft,
        "credit_systems": CreditSystemEntry,
        "plans": PlanDraft,
        "cost_models": CostModelDraft,
    },
    MetricDraft: {"filters": FilterDraft},
    FeatureDraft: {"privileges": PrivilegeDraft},
    CreditSystemEntry: {"rates": RateEntry},
    PlanDraft: {
        "credit_grants": CreditGrantDraft,
        "charges": ChargeDraft,
        "fixed_charges": FixedChargeDraft,
        "usage_thresholds": UsageThresholdDraft,
    },
    ChargeDraft: {"filters": ChargeFilterDraft},
    CostModelDraft: {"model_rates": ModelRateDraft, "tiers": CostTierDraft},
}

# Fields that are one mapping.
_SINGLE: Mapping[type[msgspec.Struct], Mapping[str, type[msgspec.Struct]]] = {
    PlanDraft: {"minimum_commitment": MinimumCommitmentDraft, "credits_rollover": RolloverDraft},
    CreditGrantDraft: {"rollover": RolloverDraft},
}


def _refuse_unknown_fields(value: object, kind: type[msgspec.Struct], place: str) -> None:
    """A misspelt field in a file must not be applied as if it were absent."""
    if not isinstance(value, Mapping):
        return
    known = {field.name for field in msgspec.structs.fields(kind)}
    for name in value:
        if name not in known:
            raise InvalidInput(
                f"catalog file: {place or 'the file'} has no field {str(name)[:100]!r}", code="unknown_field"
            )
    for name, part in _SINGLE.get(kind, {}).items():
        _refuse_unknown_fields(value.get(name), part, name)
    for name, part in _PARTS.get(kind, {}).items():
        entries = value.get(name)
        inner = entries.values() if isinstance(entries, Mapping) else entries
        for entry in inner if isinstance(inner, Iterable) and not isinstance(inner, str) else ():
            _refuse_unknown_fields(entry, part, name)


async def apply_catalog(tx: Tx, *, org_id: UUID, catalog: CatalogFile, now: datetime) -> list[Difference]:
    """Make the stored catalog say what the file says, and tell everybody; returns what was different. All or nothing, by
    `tx`."""
    differences: list[Difference] = []
    for metric in catalog.metrics:
        differences += await _apply_metric(tx, org_id, metric, now)
    for feature in catalog.features:
        differences += await _apply_feature(tx, org_id, feature, now)
    for system in catalog.credit_systems:
        differences += await apply_credit_system(tx, org_id, system, now)
    for plan in catalog.plans:
        differences += await _apply_plan(tx, org_id, plan, now)
    differences += await _apply_cost_models(tx, org_id, catalog.cost_models, now)
    if differences:
        await publish_once(tx, rights_of_everybody(org_id))
    return differences


async def _apply_metric(tx: Tx, org_id: UUID, draft: MetricDraft, now: datetime) -> list[Difference]:
    previous = await metric_store.find_metric(tx, org_id, draft.code)
    if previous is None:
        await metric_operations.create_metric(tx, org_id=org_id, draft=draft, now=now)
        return [Difference("+", "metric", draft.code)]
    planned = metric_operations.plan_metric(draft, org_id=org_id, previous=previous, now=now)
    changes = changes_between(_metric_facts(previous), _metric_facts(planned))
    if changes:
        await metric_operations.update_metric(tx, org_id=org_id, code=draft.code, draft=draft, now=now)
        return [Difference("~", "metric", draft.code, changes)]
    return []


async def _apply_feature(tx: Tx, org_id: UUID, draft: FeatureDraft, now: datetime) -> list[Difference]:
    previous = await feature_store.find_feature(tx, org_id, draft.code)
    if previous is None:
        await feature_operations.create_feature(tx, org_id=org_id, draft=draft, now=now)
        return [Difference("+", "feature", draft.code)]
    planned = await feature_operations.plan_feature(tx, draft, org_id=org_id, previous=previous, now=now)
    changes = changes_between(_feature_facts(previous), _feature_facts(planned))
    if changes:
        await feature_operations.update_feature(tx, org_id=org_id, code=draft.code, draft=draft, now=now)
        return [Difference("~", "feature", draft.code, changes)]
    return []


async def _apply_plan(tx: Tx, org_id: UUID, draft: PlanDraft, now: datetime) -> list[Difference]:
    await require_taxes(tx, org_id, sorted(all_tax_codes(draft)))
    previous = await plan_store.find_plan(tx, org_id, draft.code)
    if previous is None:
        await plan_operations.create_plan(tx, org_id=org_id, draft=draft, now=now)
        return [Difference("+", "plan", draft.code)]
    version = await plan_operations.plan_version(
        tx, draft, org_id=org_id, plan_id=previous.id, previous=previous.current, now=now
    )
    wanted = previous.entitlements
    if draft.entitlements is not None:
        wanted = tuple(await plan_entitlements(tx, org_id, draft.entitlements))
    planned = replace(
        previous,
        name=said(draft.name, "") or draft.code,
        description=kept(draft.description, None, None),
        current=version,
        entitlements=wanted,
        metadata=kept(draft.metadata, previous.metadata, None),
    )
    changes = changes_between(_plan_facts(previous), _plan_facts(planned))
    if changes:
        await plan_operations.update_plan(tx, org_id=org_id, code=draft.code, draft=draft, now=now)
        return [Difference("~", "plan", draft.code, changes)]
    return []


async def _apply_cost_models(
    tx: Tx, org_id: UUID, drafts: Sequence[CostModelDraft], now: datetime
) -> list[Difference]:
    stored: dict[str, CostModel] = {one.name: one for one in await costs_store.list_all(tx, org_id)}
    differences = []
    for draft in drafts:
        planned = plan_cost_model(draft, org_id=org_id, now=now)
        previous = stored.get(planned.name)
        if previous is None:
            await create_cost_model(tx, org_id=org_id, draft=draft, now=now)
            differences.append(Difference("+", "cost model", planned.name))
        elif not same_costs(previous, planned):
            await delete_cost_model(tx, org_id=org_id, cost_model_id=previous.id, now=now)
            await create_cost_model(tx, org_id=org_id, draft=draft, now=now)
            changes = changes_between(_cost_facts(previous), _cost_facts(planned))
            differences.append(Difference("~", "cost model", planned.name, changes))
    return differences


def _metric_facts(metric: Metric) -> dict[str, object]:
    return {
        "name": metric.name,
        "description": metric.description,
        "aggregation_type": metric.aggregation,
        "field_name": metric.field_name,
        "expression": metric.expression,
        "filters": [{"key": one.key, "values": one.values} for one in metric.filters],
        "recurring": metric.recurring,
        "rounding_function": metric.rounding_function,
        "rounding_precision": metric.rounding_precision,
        "weighted_interval": metric.weighted_interval,
    }


def _feature_facts(feature: Feature) -> dict[str, object]:
    return {
        "name": feature.name,
        "description": feature.description,
        "metric": feature.metric_code,
        "privileges": [
            {"code": one.code, "name": one.name, "value_type": one.value_type, "config": one.config}
            for one in feature.privileges
        ],
    }


def _plan_facts(plan: Plan) -> dict[str, object]:
    return {
        "name": plan.name,
        "description": plan.description,
        "metadata": plan.metadata,
        **_price_facts(plan.current),
        **{f"entitlement {one.feature_code}": _privileges(one) for one in plan.entitlements},
    }


def _price_facts(version: PlanVersion) -> dict[str, object]:
    commitment = version.minimum_commitment
    facts: dict[str, object] = {
        "interval": version.interval,
        "amount_cents": version.amount_cents,
        "currency": version.currency,
        "pay_in_advance": version.pay_in_advance,
        "credits": to_plain(version.credits),
        "credits_rollover": _rollover_facts(version.rollover),
        "credit_grants": [
            {
                "credit_system": one.credit_system,
                "amount": to_plain(one.amount),
                "cadence": one.cadence,
                "scope": one.scope,
                "priority": one.priority,
                "rollover": _rollover_facts(one.rollover),
            }
            for one in version.credit_grants
        ],
        "invoice_display_name": version.invoice_display_name,
        "trial_period": to_plain(version.trial_days),
        "bill_charges_monthly": version.bill_charges_monthly,
        "bill_fixed_charges_monthly": version.bill_fixed_charges_monthly,
        "tax_codes": version.tax_codes,
        "minimum_commitment": commitment
        and {
            "amount_cents": commitment.amount_cents,
            "invoice_display_name": commitment.invoice_display_name,
            "tax_codes": commitment.tax_codes,
        },
        "usage_thresholds": [
            {
                "amount_cents": one.amount_cents,
                "threshold_display_name": one.display_name,
                "recurring": one.recurring,
            }
            for one in version.usage_thresholds
        ],
    }
    for number, charge in enumerate(version.charges, start=1):
        facts[f"charge {number}"] = _charge_facts(charge)
    for number, fixed in enumerate(version.fixed_charges, start=1):
        facts[f"fixed charge {number}"] = {
            "add_on": fixed.add_on_code,
            "code": fixed.code,
            "charge_model": charge_model_name(fixed.model),
            "properties": to_properties(fixed.model),
            "units": to_plain(fixed.units),
            "invoice_display_name": fixed.invoice_display_name,
            "pay_in_advance": fixed.pay_in_advance,
            "prorated": fixed.prorated,
            "tax_codes": fixed.tax_codes,
        }
    return facts


def _rollover_facts(rollover: Rollover | None) -> object:
    return rollover and {"limit": None if rollover.limit is None else to_plain(rollover.limit)}


def _charge_facts(charge: Charge) -> dict[str, object]:
    return {
        "metric": charge.metric_code,
        "code": charge.code,
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
        "filters": [
            {
                "values": one.values,
                "properties": to_properties(one.model),
                "pricing_group_keys": one.pricing_group_keys,
                "invoice_display_name": one.invoice_display_name,
            }
            for one in charge.filters
        ],
    }


def _privileges(entitlement: Entitlement) -> dict[str, object]:
    return dict(sorted(entitlement.privileges.items()))


def _cost_facts(cost_model: CostModel) -> dict[str, object]:
    return {
        "metric": cost_model.metric_code,
        "cost_type": cost_model.cost_type,
        "model": cost_model.model,
        "amount_cents": cost_model.amount_cents,
        "model_rates": costs_store.rates_to_json(cost_model),
        "tier_mode": cost_model.tier_mode,
        "tiers": costs_store.tiers_to_json(cost_model),
    }
