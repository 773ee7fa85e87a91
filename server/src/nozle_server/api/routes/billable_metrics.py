"""Billable metrics, in Core's form."""

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import Call
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.catalog import metric_store
from nozle_server.catalog.drafts import MetricDraft
from nozle_server.catalog.model import Metric
from nozle_server.catalog.operations import metrics as metric_operations
from nozle_server.catalog.queries import get_metric


class MetricBody(msgspec.Struct):
    billable_metric: MetricDraft


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
        "recurring": False,
        "rounding_function": None,
        "rounding_precision": None,
        "weighted_interval": None,
        "filters": [{"key": one.key, "values": one.values} for one in metric.filters],
        "created_at": metric.created_at,
        "updated_at": metric.updated_at,
    }


async def create_metric(call: Call) -> object:
    draft = call.body.billable_metric
    metric = await metric_operations.create_metric(call.tx, org_id=call.org_id, draft=draft, now=call.now)
    return {"billable_metric": metric_json(metric)}


async def update_metric(call: Call) -> object:
    metric = await metric_operations.update_metric(
        call.tx, org_id=call.org_id, code=call.path["code"], draft=call.body.billable_metric, now=call.now
    )
    return {"billable_metric": metric_json(metric)}


async def show_metric(call: Call) -> object:
    return {"billable_metric": metric_json(await get_metric(call.tx, call.org_id, call.path["code"]))}


async def delete_metric(call: Call) -> object:
    metric = await metric_operations.delete_metric(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return {"billable_metric": metric_json(metric)}


async def list_metrics(call: Call) -> object:
    query: PageQuery = call.query
    metrics, total = await metric_store.list_metrics(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"billable_metrics": [metric_json(one) for one in metrics], "meta": page_meta(query, total)}


ENDPOINTS = (
    *core_resource(
        path="/billable_metrics",
        name="billable_metric",
        plural="billable_metrics",
        words="billable metric",
        body=MetricBody,
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
