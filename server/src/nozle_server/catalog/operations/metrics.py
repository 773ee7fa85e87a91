"""Define, change and remove billable metrics."""

from datetime import datetime
from uuid import UUID

import msgspec

from nozle_server.catalog import credit_system_store, feature_store, metric_store
from nozle_server.catalog.drafts import FilterDraft, MetricChanges, MetricDraft
from nozle_server.catalog.model import Aggregation, Metric, MetricFilter
from nozle_server.catalog.queries import get_metric, lock_metric
from nozle_server.core.errors import Conflict, InvalidInput, RuleBroken
from nozle_server.core.expression import compile_expression
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

MAX_ROUNDING_PRECISION = 15

# A count, a maximum and a latest value belong to the events of one period.
_RECURRING = (Aggregation.SUM, Aggregation.UNIQUE_COUNT, Aggregation.WEIGHTED_SUM)


async def create_metric(tx: Tx, *, org_id: UUID, draft: MetricDraft, now: datetime) -> Metric:
    """A new metric; Conflict `value_already_exist` when its code is taken."""
    metric = plan_metric(draft, org_id=org_id, previous=None, now=now)
    if not await metric_store.insert_metric(tx, metric):
        raise Conflict(
            "a billable metric with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    return metric


async def change_metric(tx: Tx, *, org_id: UUID, code: str, changes: MetricChanges, now: datetime) -> Metric:
    """Change what is given and leave the rest."""
    previous = await get_metric(tx, org_id, code)
    given = {
        name: value for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET
    }
    draft = msgspec.structs.replace(_draft_of(previous), **given)
    return await update_metric(tx, org_id=org_id, code=code, draft=draft, now=now)


async def update_metric(tx: Tx, *, org_id: UUID, code: str, draft: MetricDraft, now: datetime) -> Metric:
    """Replace a metric's definition. Its code stays, and what it counts is fixed once it has counted something:
    stored quantities and counters would otherwise mean two things, and so would what its units cost in credits. How it
    rounds may change: quantities are rounded when they are read."""
    previous = await lock_metric(tx, org_id, code)
    metric = plan_metric(draft, org_id=org_id, previous=previous, now=now)
    if metric.code != previous.code:
        raise RuleBroken(
            "a billable metric keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]}
        )
    if _how_it_counts(metric) != _how_it_counts(previous):
        await _refuse_with_rates(tx, previous)
        if await metric_store.metric_has_events(tx, org_id, previous.id):
            raise RuleBroken(
                "the metric has usage: what it counts cannot change, define another one",
                code="metric_has_usage",
            )
    await metric_store.update_metric(tx, metric)
    return metric


async def delete_metric(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Metric:
    """Remove a metric that no plan prices, no feature points at and that never had a rate; its events are kept."""
    metric = await lock_metric(tx, org_id, code)
    if plans := await metric_store.codes_of_plans_charging(tx, org_id, metric.id):
        raise RuleBroken(f"{len(plans)} plan(s) charge for this metric", code="metric_in_use")
    if features := await feature_store.features_of_metric(tx, org_id, metric.id):
        raise RuleBroken(f"{len(features)} feature(s) point at this metric", code="metric_in_use")
    await _refuse_with_rates(tx, metric)
    await metric_store.delete_metric(tx, org_id, metric.id, now)
    return metric


async def _refuse_with_rates(tx: Tx, metric: Metric) -> None:
    if await credit_system_store.metric_has_rates(tx, metric.org_id, metric.id):
        raise RuleBroken(
            "the metric has or had a rate in credits: it stays as it is, define another one",
            code="metric_has_rate_history",
        )


def plan_metric(draft: MetricDraft, *, org_id: UUID, previous: Metric | None, now: datetime) -> Metric:
    """The metric that a draft describes; InvalidInput when the draft makes no sense."""
    aggregation = _aggregation(draft.aggregation_type)
    if aggregation is not Aggregation.COUNT and not (draft.field_name or draft.expression):
        raise InvalidInput(
            "field_name or expression is required for this aggregation",
            details={"field_name": ["value_is_mandatory"]},
        )
    if draft.recurring and aggregation not in _RECURRING:
        raise InvalidInput(
            "this aggregation cannot be recurring",
            details={"recurring": ["not_compatible_with_aggregation_type"]},
        )
    if draft.weighted_interval not in (
        ("seconds",) if aggregation is Aggregation.WEIGHTED_SUM else ("seconds", None)
    ):
        raise InvalidInput(
            "weighted_interval must be seconds", details={"weighted_interval": ["value_is_invalid"]}
        )
    if draft.rounding_function not in (None, "round", "ceil", "floor"):
        raise InvalidInput(
            "rounding_function must be round, ceil or floor",
            details={"rounding_function": ["value_is_invalid"]},
        )
    if draft.rounding_precision is not None and abs(draft.rounding_precision) > MAX_ROUNDING_PRECISION:
        raise InvalidInput(
            f"rounding_precision must lie between -{MAX_ROUNDING_PRECISION} and {MAX_ROUNDING_PRECISION}",
            details={"rounding_precision": ["value_is_out_of_range"]},
        )
    if draft.expression:
        compile_expression(draft.expression)
    return Metric(
        org_id=org_id,
        id=previous.id if previous else new_id(),
        code=parse_id(draft.code, "code"),
        name=parse_id(draft.name, "name"),
        description=parse_text(draft.description, "description"),
        aggregation=aggregation,
        field_name=parse_text(draft.field_name, "field_name", max_bytes=255),
        expression=draft.expression or None,
        filters=_filters(draft),
        created_at=previous.created_at if previous else now,
        updated_at=now,
        recurring=bool(draft.recurring),
        weighted_interval=draft.weighted_interval,
        rounding_function=draft.rounding_function,
        rounding_precision=draft.rounding_precision,
    )


def _aggregation(value: str) -> Aggregation:
    try:
        return Aggregation(value)
    except ValueError:
        raise InvalidInput(
            "aggregation_type must be one of " + ", ".join(Aggregation),
            details={"aggregation_type": ["value_is_invalid"]},
        ) from None


def _draft_of(metric: Metric) -> MetricDraft:
    return MetricDraft(
        code=metric.code,
        name=metric.name,
        aggregation_type=metric.aggregation,
        description=metric.description,
        field_name=metric.field_name,
        expression=metric.expression,
        filters=[FilterDraft(key=one.key, values=list(one.values)) for one in metric.filters],
        recurring=metric.recurring,
        rounding_function=metric.rounding_function,
        rounding_precision=metric.rounding_precision,
        weighted_interval=metric.weighted_interval,
    )


def _filters(draft: MetricDraft) -> tuple[MetricFilter, ...]:
    filters = tuple(
        MetricFilter(parse_id(one.key, "filters"), tuple(parse_id(value, "filters") for value in one.values))
        for one in draft.filters
    )
    if len({one.key for one in filters}) != len(filters) or any(not one.values for one in filters):
        raise InvalidInput(
            "each filter has a key of its own and at least one value",
            details={"filters": ["value_is_invalid"]},
        )
    return filters


def _how_it_counts(metric: Metric) -> tuple[object, ...]:
    return metric.aggregation, metric.field_name, metric.expression, metric.recurring
