"""The catalog in Core's form: billable metrics, features, plans with charges, entitlements."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.catalog import store
from nozle_server.catalog.charge_models import charge_model_name, to_properties
from nozle_server.catalog.drafts import FeatureDraft, MetricDraft, PlanDraft
from nozle_server.catalog.model import Charge, Feature, Metric, Plan
from nozle_server.catalog.operations import entitlements as entitlement_operations
from nozle_server.catalog.operations import features as feature_operations
from nozle_server.catalog.operations import metrics as metric_operations
from nozle_server.catalog.operations import plans as plan_operations
from nozle_server.catalog.operations.entitlements import privileges_of
from nozle_server.catalog.queries import get_feature, get_metric, get_plan


class MetricBody(msgspec.Struct):
    billable_metric: MetricDraft


class FeatureBody(msgspec.Struct):
    feature: FeatureDraft


class PlanBody(msgspec.Struct):
    plan: PlanDraft


class EntitlementsBody(msgspec.Struct):
    """Feature codes to their privileges: `{"chat": {"limit": 100000}, "sso": true}`."""

    entitlements: dict[str, Any]


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


def feature_json(feature: Feature) -> dict[str, object]:
    return {
        "lago_id": feature.id,
        "nozle_id": feature.id,
        "code": feature.code,
        "name": feature.name,
        "description": feature.description,
        "billable_metric_code": feature.metric_code,
        "privileges": [
            {"code": one.code, "name": one.name, "value_type": one.value_type, "config": one.config}
            for one in privileges_of(feature)
        ],
        "created_at": feature.created_at,
        "updated_at": feature.updated_at,
    }


def charge_json(charge: Charge) -> dict[str, object]:
    return {
        "lago_id": charge.id,
        "nozle_id": charge.id,
        "lago_billable_metric_id": charge.metric_id,
        "billable_metric_code": charge.metric_code,
        "charge_model": charge_model_name(charge.model),
        "invoice_display_name": charge.invoice_display_name,
        "pay_in_advance": False,
        "invoiceable": True,
        "prorated": False,
        "min_amount_cents": 0,
        "properties": to_properties(charge.model),
        "filters": [
            {
                "lago_id": one.id,
                "nozle_id": one.id,
                "invoice_display_name": one.invoice_display_name,
                "values": one.values,
                "properties": to_properties(one.model),
            }
            for one in charge.filters
        ],
        "created_at": charge.created_at,
    }


def plan_json(plan: Plan) -> dict[str, object]:
    version = plan.current
    return {
        "lago_id": plan.id,
        "nozle_id": plan.id,
        "code": plan.code,
        "name": plan.name,
        "description": plan.description,
        "version": version.version,
        "is_current": True,
        "interval": version.interval,
        "amount_cents": version.amount_cents,
        "amount_currency": version.currency,
        "pay_in_advance": version.pay_in_advance,
        "trial_period": None,
        "bill_charges_monthly": None,
        "minimum_commitment": None,
        "credits": version.credits,
        "charges": [charge_json(charge) for charge in version.charges],
        "entitlements": [
            {
                "code": one.feature_code,
                "privileges": [{"code": code, "value": value} for code, value in one.privileges.items()],
            }
            for one in plan.entitlements
        ],
        "created_at": plan.created_at,
        "updated_at": plan.updated_at,
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
    metrics, total = await store.list_metrics(call.tx, call.org_id, limit=query.per_page, offset=query.offset)
    return {"billable_metrics": [metric_json(one) for one in metrics], "meta": page_meta(query, total)}


async def create_feature(call: Call) -> object:
    draft = call.body.feature
    feature = await feature_operations.create_feature(call.tx, org_id=call.org_id, draft=draft, now=call.now)
    return {"feature": feature_json(feature)}


async def update_feature(call: Call) -> object:
    feature = await feature_operations.update_feature(
        call.tx, org_id=call.org_id, code=call.path["code"], draft=call.body.feature, now=call.now
    )
    return {"feature": feature_json(feature)}


async def show_feature(call: Call) -> object:
    return {"feature": feature_json(await get_feature(call.tx, call.org_id, call.path["code"]))}


async def delete_feature(call: Call) -> object:
    feature = await feature_operations.delete_feature(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return {"feature": feature_json(feature)}


async def list_features(call: Call) -> object:
    query: PageQuery = call.query
    features, total = await store.list_features(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"features": [feature_json(one) for one in features], "meta": page_meta(query, total)}


async def create_plan(call: Call) -> object:
    plan = await plan_operations.create_plan(call.tx, org_id=call.org_id, draft=call.body.plan, now=call.now)
    return {"plan": plan_json(plan)}


async def update_plan(call: Call) -> object:
    plan = await plan_operations.update_plan(
        call.tx, org_id=call.org_id, code=call.path["code"], draft=call.body.plan, now=call.now
    )
    return {"plan": plan_json(plan)}


async def show_plan(call: Call) -> object:
    return {"plan": plan_json(await get_plan(call.tx, call.org_id, call.path["code"]))}


async def delete_plan(call: Call) -> object:
    plan = await plan_operations.delete_plan(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return {"plan": plan_json(plan)}


async def list_plans(call: Call) -> object:
    query: PageQuery = call.query
    plans, total = await store.list_plans(call.tx, call.org_id, limit=query.per_page, offset=query.offset)
    return {"plans": [plan_json(one) for one in plans], "meta": page_meta(query, total)}


async def list_entitlements(call: Call) -> object:
    return await _entitlements(call)


async def replace_entitlements(call: Call) -> object:
    return await _set_entitlements(call, replace=True)


async def add_entitlements(call: Call) -> object:
    return await _set_entitlements(call, replace=False)


async def _set_entitlements(call: Call, *, replace: bool) -> object:
    await entitlement_operations.set_entitlements(
        call.tx,
        org_id=call.org_id,
        plan_code=call.path["code"],
        wanted=call.body.entitlements,
        replace=replace,
        now=call.now,
    )
    return await _entitlements(call)


async def delete_entitlement(call: Call) -> object:
    await entitlement_operations.delete_entitlement(
        call.tx, org_id=call.org_id, plan_code=call.path["code"], feature_code=call.path["feature_code"]
    )
    return await _entitlements(call)


async def _entitlements(call: Call) -> dict[str, object]:
    plan = await get_plan(call.tx, call.org_id, call.path["code"])
    rows: list[dict[str, object]] = []
    for one in plan.entitlements:
        feature = await get_feature(call.tx, call.org_id, one.feature_code)
        privileges = [
            {
                "code": privilege.code,
                "name": privilege.name,
                "value_type": privilege.value_type,
                "value": one.privileges[privilege.code],
                "config": privilege.config,
            }
            for privilege in privileges_of(feature)
            if privilege.code in one.privileges
        ]
        rows.append(
            {
                "code": feature.code,
                "name": feature.name,
                "description": feature.description,
                "privileges": privileges,
                "overrides": {},
            }
        )
    return {"entitlements": rows}


Handler = Callable[[Call], Awaitable[object]]


def _resource(
    *,
    path: str,
    name: str,
    plural: str,
    words: str,
    body: type[msgspec.Struct],
    example: dict[str, object],
    create: Handler,
    index: Handler,
    show: Handler,
    update: Handler,
    delete: Handler,
) -> tuple[Endpoint, ...]:
    """The five endpoints of a Core resource."""
    one = shape(**{name: ANY_OBJECT})
    sent: dict[str, object] = {name: example}
    parts: tuple[tuple[str, str, Handler, str, Any], ...] = (
        (
            "POST",
            path,
            create,
            f"Create a {words}",
            {"body": body, "errors": (404, 409, 422), "idempotent": True},
        ),
        ("GET", path, index, f"List {words}s", {"query": PageQuery}),
        ("GET", path + "/{code}", show, f"Get a {words}", {"errors": (404,)}),
        ("PUT", path + "/{code}", update, f"Replace a {words}", {"body": body, "errors": (404, 409, 422)}),
        ("DELETE", path + "/{code}", delete, f"Delete a {words}", {"errors": (404, 422)}),
    )
    return tuple(
        Endpoint(
            method=method,
            path=place,
            handler=handler,
            scope=Scope.SECRET,
            mounts=CORE,
            summary=summary,
            tag="Catalog",
            reply_schema=shape(**{plural: array(ANY_OBJECT), "meta": PAGE_META}) if handler is index else one,
            example=Example(
                request=sent if "body" in more else None,
                response={plural: [example], "meta": page_meta(PageQuery(), 1)} if handler is index else sent,
            ),
            **more,
        )
        for method, place, handler, summary, more in parts
    )


_ENTITLED = shape(entitlements=array(ANY_OBJECT))
_ENTITLEMENTS_EXAMPLE = Example(
    request={"entitlements": {"chat": {"limit": 100000, "overage": False}, "sso": True}},
    response={"entitlements": [{"code": "chat", "privileges": [{"code": "limit", "value": 100000}]}]},
)

ENDPOINTS = (
    *_resource(
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
    *_resource(
        path="/features",
        name="feature",
        plural="features",
        words="feature",
        body=FeatureBody,
        example={"code": "chat", "name": "Chat completions", "billable_metric_code": "llm_tokens"},
        create=create_feature,
        index=list_features,
        show=show_feature,
        update=update_feature,
        delete=delete_feature,
    ),
    *_resource(
        path="/plans",
        name="plan",
        plural="plans",
        words="plan",
        body=PlanBody,
        example={
            "code": "pro",
            "name": "Pro",
            "interval": "monthly",
            "amount_cents": 4900,
            "amount_currency": "USD",
            "charges": [
                {
                    "billable_metric_code": "llm_tokens",
                    "charge_model": "package",
                    "properties": {"amount": "0.50", "package_size": 100000, "free_units": 0},
                }
            ],
        },
        create=create_plan,
        index=list_plans,
        show=show_plan,
        update=update_plan,
        delete=delete_plan,
    ),
    Endpoint(
        method="GET",
        path="/plans/{code}/entitlements",
        handler=list_entitlements,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a plan's entitlements",
        tag="Catalog",
        reply_schema=_ENTITLED,
        errors=(404,),
        example=Example(response=_ENTITLEMENTS_EXAMPLE.response),
    ),
    Endpoint(
        method="POST",
        path="/plans/{code}/entitlements",
        handler=replace_entitlements,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Replace a plan's entitlements",
        description="What is not named is taken away. It reaches every subscriber with the next `can()`.",
        tag="Catalog",
        body=EntitlementsBody,
        reply_schema=_ENTITLED,
        errors=(404,),
        example=_ENTITLEMENTS_EXAMPLE,
    ),
    Endpoint(
        method="PATCH",
        path="/plans/{code}/entitlements",
        handler=add_entitlements,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Change some of a plan's entitlements",
        description="What is not named stays; `false` takes a feature away.",
        tag="Catalog",
        body=EntitlementsBody,
        reply_schema=_ENTITLED,
        errors=(404,),
        example=_ENTITLEMENTS_EXAMPLE,
    ),
    Endpoint(
        method="DELETE",
        path="/plans/{code}/entitlements/{feature_code}",
        handler=delete_entitlement,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Take a feature away from a plan",
        tag="Catalog",
        reply_schema=_ENTITLED,
        errors=(404,),
        example=Example(response={"entitlements": []}),
    ),
)
