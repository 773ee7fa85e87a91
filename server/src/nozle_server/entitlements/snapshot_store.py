"""The SQL of snapshots: one round trip for an organization, one for a customer."""

import sys
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.costs import store as costs_store
from nozle_server.costs.model import CostModel
from nozle_server.entitlements import policy_store
from nozle_server.entitlements.snapshot import (
    CustomerSnapshot,
    FeatureFacts,
    MetricFacts,
    OrganizationSnapshot,
    Override,
    SubscriptionSnapshot,
)
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store as subscriptions_store

# The period start under which lasting quantities are kept.
_FOR_ALL_TIME = datetime.fromtimestamp(0, UTC)
_NOTHING: Mapping[Any, Any] = {}

_ORGANIZATION = f"""
select o.test_now, o.margin_enforcement, o.min_margin_percent,
    (select coalesce(jsonb_agg(jsonb_build_array(f.code, f.id, f.metric_id, f.name)), '[]')
        from features f where f.org_id = o.id and f.deleted_at is null) as features,
    (select coalesce(jsonb_agg(jsonb_build_array(m.id, m.code, m.name, m.deleted_at is null, m.aggregation_type,
            m.recurring, m.rounding_function, m.rounding_precision)), '[]')
        from billable_metrics m where m.org_id = o.id) as metrics,
    (select coalesce(jsonb_agg(jsonb_build_array(e.plan_id, e.feature_id, e.privileges)), '[]')
        from plan_entitlements e where e.org_id = o.id) as entitlements,
    array(select cm.id from cost_models cm where cm.org_id = o.id and cm.deleted_at is null) as cost_model_ids,
    {policy_store.SHARED} as policies
from organizations o where o.id = $1
"""

_SUBSCRIPTION = ", ".join(f"s.{name}" for name in subscriptions_store.COLUMNS.split(", "))
_CUSTOMER = f"""
select c.id as found_customer_id, {_SUBSCRIPTION}, p.code as plan_code, counted.metrics, counted.starts, counted.units,
    (select jsonb_object_agg(own.feature_id, jsonb_build_array(own.removed, own.privileges))
        from subscription_entitlements own where own.org_id = s.org_id and own.subscription_id = s.id) as overrides,
    {policy_store.OF_CUSTOMER} as policies
from customers c
left join subscriptions s on s.org_id = c.org_id and s.customer_id = c.id
left join plans p on p.org_id = s.org_id and p.id = s.plan_id
left join lateral (
    select array_agg(u.metric_id order by u.period_start) as metrics,
        array_agg(u.period_start order by u.period_start) as starts,
        array_agg(u.units order by u.period_start) as units
    from usage_counters u
    where u.org_id = s.org_id and u.subscription_id = s.id
        and (u.period_start >= s.current_period_start or u.period_start = to_timestamp(0))
) counted on true
where c.org_id = $1 and c.external_id = $2 and c.deleted_at is null
order by s.started_at desc, s.id desc
"""


async def read_organization(tx: Tx, org_id: UUID) -> OrganizationSnapshot:
    """One statement; one more for cost models that this process has not seen yet."""
    row = await tx.fetchrow(_ORGANIZATION, org_id)
    models: defaultdict[str, list[CostModel]] = defaultdict(list)
    for model in await costs_store.get_many(tx, org_id, row["cost_model_ids"]):
        models[model.metric_code].append(model)
    metrics = {
        UUID(metric_id): MetricFacts(
            UUID(metric_id),
            code,
            name,
            aggregation,
            recurring,
            (function, precision),
            tuple(models.get(code, ())),
        )
        for metric_id, code, name, _, aggregation, recurring, function, precision in row["metrics"]
    }
    entitlements: defaultdict[UUID, dict[UUID, Mapping[str, Any]]] = defaultdict(dict)
    for plan_id, feature_id, privileges in row["entitlements"]:
        entitlements[UUID(plan_id)][UUID(feature_id)] = privileges
    return OrganizationSnapshot(
        org_id=org_id,
        test_now=row["test_now"],
        margin_enforcement=row["margin_enforcement"],
        min_margin_percent=row["min_margin_percent"],
        features={
            code: FeatureFacts(UUID(one), UUID(metric) if metric else None, name)
            for code, one, metric, name in row["features"]
        },
        metric_ids={code: UUID(one) for one, code, _, live, *_ in row["metrics"] if live},
        metrics=metrics,
        entitlements=dict(entitlements),
        policies=policy_store.shared_from(row["policies"]),
    )


async def read_customer(tx: Tx, organization: OrganizationSnapshot, external_id: str) -> CustomerSnapshot:
    """One statement; one more for versions of plans that this process has not seen yet."""
    org_id = organization.org_id
    rows = await tx.fetch(_CUSTOMER, org_id, external_id)
    if not rows:
        return CustomerSnapshot(organization, external_id, None)
    held = [row for row in rows if row["id"] is not None]
    versions = await plan_store.get_plan_versions(tx, org_id, list({row["plan_version_id"] for row in held}))
    return CustomerSnapshot(
        organization,
        external_id,
        rows[0]["found_customer_id"],
        tuple(_subscription(row, versions[row["plan_version_id"]]) for row in held),
        policy_store.own_from(rows[0]["policies"]),
    )


def _subscription(row: asyncpg.Record, version: PlanVersion) -> SubscriptionSnapshot:
    counters: dict[UUID, tuple[tuple[datetime, Decimal], ...]] = {}
    lasting: dict[UUID, Decimal] = {}
    for metric_id, start, units in zip(
        row["metrics"] or (), row["starts"] or (), row["units"] or (), strict=True
    ):
        if start == _FOR_ALL_TIME:
            lasting[metric_id] = units
        else:
            counters[metric_id] = (*counters.get(metric_id, ()), (start, units))
    overrides = {
        UUID(feature_id): Override(removed, privileges)
        for feature_id, (removed, privileges) in (row["overrides"] or {}).items()
    }
    return SubscriptionSnapshot(
        subscriptions_store.from_row(row),
        sys.intern(row["plan_code"]),  # of all customers on the plan, one text
        version,
        overrides or _NOTHING,
        counters or _NOTHING,
        lasting or _NOTHING,
    )
