"""Plans with their charges and entitlements, in Core's form."""

from typing import Any

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.catalog import plan_store
from nozle_server.catalog.charge_models import charge_model_name, to_properties
from nozle_server.catalog.drafts import PlanDraft
from nozle_server.catalog.model import Charge, Plan
from nozle_server.catalog.operations import entitlements as entitlement_operations
from nozle_server.catalog.operations import plans as plan_operations
from nozle_server.catalog.operations.entitlements import privileges_of
from nozle_server.catalog.queries import get_feature, get_plan


class PlanBody(msgspec.Struct):
    plan: PlanDraft


class EntitlementsBody(msgspec.Struct):
    """Feature codes to their privileges: `{"chat": {"limit": 100000}, "sso": true}`."""

    entitlements: dict[str, Any]


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
    plans, total = await plan_store.list_plans(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
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


_ENTITLED = shape(entitlements=array(ANY_OBJECT))


_ENTITLEMENTS_EXAMPLE = Example(
    request={"entitlements": {"chat": {"limit": 100000, "overage": False}, "sso": True}},
    response={"entitlements": [{"code": "chat", "privileges": [{"code": "limit", "value": 100000}]}]},
)


ENDPOINTS = (
    *core_resource(
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
