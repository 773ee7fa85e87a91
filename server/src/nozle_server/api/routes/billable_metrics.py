"""Billable metrics, in Core's form."""

from typing import Any

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import shape
from nozle_server.catalog import metric_store
from nozle_server.catalog.drafts import MetricChanges, MetricDraft
from nozle_server.catalog.model import Metric
from nozle_server.catalog.operations import metrics as metric_operations
from nozle_server.catalog.queries import get_metric
from nozle_server.metering.try_expression import try_expression


class MetricBody(msgspec.Struct):
    billable_metric: MetricDraft


class MetricChangesBody(msgspec.Struct):
    billable_metric: MetricChanges


class ExpressionBody(msgspec.Struct):
    """An expression, and an event to evaluate it for: `code`, `timestamp` (seconds since 1970 or RFC 3339; now when it is
    left out) and `properties`."""

    expression: str | None = None
    event: dict[str, Any] | None = None


def metric_json(metric: Metric) -> dict[str, object]:
    return {
        "lago_id": metric.id,
        "nozle_id": metric.id,
        "code": metric.code,
        "name": metric.name,
        "description": metric.description,
        "aggregation_type": metric.aggregation,
        "field_name": metric.field_name,
        "expression": metric.expression,
        "recurring": metric.recurring,
        "rounding_function": metric.rounding_function,
        "rounding_precision": metric.rounding_precision,
        "weighted_interval": metric.weighted_interval,
        "filters": [{"key": one.key, "values": one.values} for one in metric.filters],
        "created_at": metric.created_at,
        "updated_at": metric.updated_at,
    }


async def create_metric(call: Call) -> object:
    draft = call.body.billable_metric
    metric = await metric_operations.create_metric(call.tx, org_id=call.org_id, draft=draft, now=call.now)
    await rights_changed(call)
    return {"billable_metric": metric_json(metric)}


async def update_metric(call: Call) -> object:
    metric = await metric_operations.change_metric(
        call.tx, org_id=call.org_id, code=call.path["code"], changes=call.body.billable_metric, now=call.now
    )
    await rights_changed(call)
    return {"billable_metric": metric_json(metric)}


async def show_metric(call: Call) -> object:
    return {"billable_metric": metric_json(await get_metric(call.tx, call.org_id, call.path["code"]))}


async def delete_metric(call: Call) -> object:
    metric = await metric_operations.delete_metric(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    await rights_changed(call)
    return {"billable_metric": metric_json(metric)}


async def list_metrics(call: Call) -> object:
    query: PageQuery = call.query
    metrics, total = await metric_store.list_metrics(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"billable_metrics": [metric_json(one) for one in metrics], "meta": page_meta(query, total)}


async def evaluate_expression(call: Call) -> object:
    body: ExpressionBody = call.body
    value = try_expression(body.expression, body.event or {}, now=call.now)
    return {"expression_result": {"value": value}}


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/billable_metrics/evaluate_expression",
        handler=evaluate_expression,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Evaluate an expression for an event",
        description="Nothing is stored. Numbers are answered as text, exactly.",
        tag="Billable metrics",
        body=ExpressionBody,
        reply_schema=shape(expression_result=shape(value={"type": "string"})),
        errors=(422,),
        example=Example(
            request={
                "expression": "round(event.properties.ended_at - event.properties.started_at, 1)",
                "event": {
                    "code": "vm_seconds",
                    "timestamp": 1735689600,
                    "properties": {"started_at": 10.25, "ended_at": 22.5},
                },
            },
            response={"expression_result": {"value": "12.3"}},
        ),
    ),
    *core_resource(
        path="/billable_metrics",
        name="billable_metric",
        plural="billable_metrics",
        words="billable metric",
        tag="Billable metrics",
        body=MetricBody,
        update_body=MetricChangesBody,
        example={
            "code": "llm_requests",
            "name": "LLM requests",
            "aggregation_type": "sum_agg",
            "field_name": "total_tokens",
            "expression": "event.properties.input_tokens + event.properties.output_tokens",
        },
        create=create_metric,
        index=list_metrics,
        show=show_metric,
        update=update_metric,
        delete=delete_metric,
    ),
)
