"""All SQL of billable metrics, and rows <-> values."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.catalog.model import (
    Aggregation,
    Metric,
    MetricFilter,
)
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx

_METRIC = """m.org_id, m.id, m.code, m.name, m.description, m.aggregation_type, m.field_name, m.expression,
    m.filters, m.created_at, m.updated_at, m.recurring, m.weighted_interval, m.rounding_function,
    m.rounding_precision"""


def metric_from_row(row: asyncpg.Record) -> Metric:
    return Metric(
        org_id=row["org_id"],
        id=row["id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        aggregation=Aggregation(row["aggregation_type"]),
        field_name=row["field_name"],
        expression=row["expression"],
        filters=tuple(MetricFilter(one["key"], tuple(one["values"])) for one in row["filters"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        recurring=row["recurring"],
        weighted_interval=row["weighted_interval"],
        rounding_function=row["rounding_function"],
        rounding_precision=row["rounding_precision"],
    )


async def find_metric(tx: Tx, org_id: UUID, code: str) -> Metric | None:
    row = await tx.fetchrow(
        f"select {_METRIC} from billable_metrics m where org_id = $1 and code = $2 and deleted_at is null",
        org_id,
        code,
    )
    return metric_from_row(row) if row else None


async def lock_metric(tx: Tx, org_id: UUID, code: str) -> Metric | None:
    """The metric, which neither changes nor gets its first rate until the transaction ends."""
    row = await tx.fetchrow(
        f"""select {_METRIC} from billable_metrics m
            where org_id = $1 and code = $2 and deleted_at is null for no key update""",
        org_id,
        code,
    )
    return metric_from_row(row) if row else None


async def find_metrics(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, Metric]:
    rows = await tx.fetch(
        f"select {_METRIC} from billable_metrics m where org_id = $1 and code = any($2) and deleted_at is null",
        org_id,
        list(codes),
    )
    return {row["code"]: metric_from_row(row) for row in rows}


async def find_metrics_with(
    tx: Tx, org_id: UUID, codes: Sequence[str], *, extra: str
) -> list[tuple[Metric, list[UUID]]]:
    """Metrics by code, each with the ids that the SQL expression `extra` finds for it (of a capability above)."""
    rows = await tx.fetch(
        f"""select {_METRIC}, {extra} as extra_ids from billable_metrics m
            where m.org_id = $1 and m.code = any($2) and m.deleted_at is null""",
        org_id,
        list(codes),
    )
    return [(metric_from_row(row), row["extra_ids"]) for row in rows]


async def find_metrics_by_id(tx: Tx, org_id: UUID, metric_ids: Sequence[UUID]) -> dict[UUID, Metric]:
    """Those of these metrics that exist, by id."""
    rows = await tx.fetch(
        f"""select {_METRIC} from billable_metrics m
            where org_id = $1 and id = any($2) and deleted_at is null""",
        org_id,
        list(metric_ids),
    )
    return {row["id"]: metric_from_row(row) for row in rows}


@read_once
async def get_metric_by_id(tx: Tx, org_id: UUID, metric_id: UUID) -> Metric:
    """A metric that something refers to, also when it has been removed since."""
    row = await tx.fetchrow(
        f"select {_METRIC} from billable_metrics m where org_id = $1 and id = $2", org_id, metric_id
    )
    assert row is not None, "a charge's metric exists: metrics are only marked as deleted"
    return metric_from_row(row)


async def list_metrics(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Metric], int]:
    total = await tx.fetchval(
        "select count(*) from billable_metrics where org_id = $1 and deleted_at is null", org_id
    )
    rows = await tx.fetch(
        f"""select {_METRIC} from billable_metrics m where org_id = $1 and deleted_at is null
            order by created_at desc, id desc limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [metric_from_row(row) for row in rows], total


async def insert_metric(tx: Tx, metric: Metric) -> bool:
    """False when the code is taken."""
    inserted = await tx.fetchval(
        """
        insert into billable_metrics (org_id, id, code, name, description, aggregation_type, field_name, expression,
            filters, created_at, updated_at, recurring, weighted_interval, rounding_function, rounding_precision)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        on conflict (org_id, code) where deleted_at is null do nothing returning 1
        """,
        metric.org_id,
        metric.id,
        metric.code,
        metric.name,
        metric.description,
        metric.aggregation,
        metric.field_name,
        metric.expression,
        [{"key": one.key, "values": one.values} for one in metric.filters],
        metric.created_at,
        metric.updated_at,
        metric.recurring,
        metric.weighted_interval,
        metric.rounding_function,
        metric.rounding_precision,
    )
    return inserted is not None


async def update_metric(tx: Tx, metric: Metric) -> None:
    await tx.execute(
        """
        update billable_metrics set name = $3, description = $4, aggregation_type = $5, field_name = $6,
            expression = $7, filters = $8, updated_at = $9, recurring = $10, weighted_interval = $11,
            rounding_function = $12, rounding_precision = $13
        where org_id = $1 and id = $2
        """,
        metric.org_id,
        metric.id,
        metric.name,
        metric.description,
        metric.aggregation,
        metric.field_name,
        metric.expression,
        [{"key": one.key, "values": one.values} for one in metric.filters],
        metric.updated_at,
        metric.recurring,
        metric.weighted_interval,
        metric.rounding_function,
        metric.rounding_precision,
    )


async def delete_metric(tx: Tx, org_id: UUID, metric_id: UUID, now: datetime) -> None:
    await tx.execute(
        "update billable_metrics set deleted_at = $3 where org_id = $1 and id = $2", org_id, metric_id, now
    )


async def metric_has_events(tx: Tx, org_id: UUID, metric_id: UUID) -> bool:
    return bool(
        await tx.fetchval(
            "select exists (select 1 from usage_counters where org_id = $1 and metric_id = $2)",
            org_id,
            metric_id,
        )
    )


async def codes_of_plans_charging(tx: Tx, org_id: UUID, metric_id: UUID) -> list[str]:
    """Plans whose current version, or a version somebody is subscribed to, prices the metric."""
    rows = await tx.fetch(
        """
        select distinct p.code from plan_versions v join plans p on p.org_id = v.org_id and p.id = v.plan_id
        where v.org_id = $1 and v.charges @> jsonb_build_array(jsonb_build_object('metric_id', $2::text))
          and (p.current_version_id = v.id and p.deleted_at is null
               or exists (select 1 from subscriptions s where s.org_id = v.org_id and s.plan_version_id = v.id
                            and s.status in ('active', 'pending')))
        order by 1
        """,
        org_id,
        str(metric_id),
    )
    return [row["code"] for row in rows]
