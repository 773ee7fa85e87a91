"""Plans, in Core's form."""

from dataclasses import replace
from typing import Any

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.plan_forms import plan_object, plans_json, version_object
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import ANY_OBJECT, array, optional, shape
from nozle_server.catalog import plan_store
from nozle_server.catalog.drafts import PlanChange, PlanDraft
from nozle_server.catalog.operations import plans as plan_operations
from nozle_server.catalog.queries import get_plan, get_version_of_plan
from nozle_server.workflows.edit_plan import create_plan as create_taxed_plan
from nozle_server.workflows.edit_plan import edit_plan


class PlanBody(msgspec.Struct):
    plan: PlanDraft


class PlanChangeBody(msgspec.Struct):
    plan: PlanChange


class VersionQuery(msgspec.Struct):
    """Which version of the plan; the current one when it is left out."""

    version: int | None = None


class MetadataBody(msgspec.Struct):
    """Keys to strings or null; at most 50 keys of 40 characters, values of 255."""

    metadata: dict[str, Any] | None = None


async def create_plan(call: Call) -> object:
    plan = await create_taxed_plan(call.tx, org_id=call.org_id, draft=call.body.plan, now=call.now)
    await rights_changed(call)
    return {"plan": await plan_object(call.tx, plan)}


async def update_plan(call: Call) -> object:
    change: PlanChange = call.body.plan
    plan = await edit_plan(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        edit=lambda _: change,
        cascade=bool(change.cascade_updates),
        now=call.now,
    )
    await rights_changed(call)
    return {"plan": await plan_object(call.tx, plan)}


async def show_plan(call: Call) -> object:
    plan = await get_plan(call.tx, call.org_id, call.path["code"])
    query: VersionQuery = call.query
    if query.version is None:
        return {"plan": await plan_object(call.tx, plan)}
    version = await get_version_of_plan(call.tx, plan, query.version)
    return {"plan": await version_object(call.tx, plan, version)}


async def delete_plan(call: Call) -> object:
    plan = await plan_operations.delete_plan(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    await rights_changed(call)
    return {"plan": await plan_object(call.tx, plan)}


async def list_plans(call: Call) -> object:
    query: PageQuery = call.query
    plans, total = await plan_store.list_plans(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"plans": await plans_json(call.tx, call.org_id, plans), "meta": page_meta(query, total)}


async def list_versions(call: Call) -> object:
    plan = await get_plan(call.tx, call.org_id, call.path["code"])
    subscriptions = await plan_store.count_by_version(call.tx, call.org_id, plan.id)
    return {
        "versions": [
            {
                "lago_id": one.id,
                "nozle_id": one.id,
                "version": one.version,
                "is_current": one.id == plan.current.id,
                "amount_cents": one.amount_cents,
                "amount_currency": one.currency,
                "active_subscriptions_count": subscriptions.get(one.version, 0),
                "created_at": one.created_at,
            }
            for one in await plan_store.list_versions(call.tx, call.org_id, plan.id)
        ]
    }


async def replace_metadata(call: Call) -> object:
    return await _set_metadata(call, merge=False)


async def merge_metadata(call: Call) -> object:
    return await _set_metadata(call, merge=True)


async def _set_metadata(call: Call, *, merge: bool) -> object:
    metadata = await plan_operations.set_metadata(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        metadata=call.body.metadata,
        merge=merge,
        now=call.now,
    )
    return {"metadata": metadata}


async def delete_metadata(call: Call) -> object:
    metadata = await plan_operations.set_metadata(
        call.tx, org_id=call.org_id, code=call.path["code"], metadata=None, merge=False, now=call.now
    )
    return {"metadata": metadata}


async def delete_metadata_key(call: Call) -> object:
    metadata = await plan_operations.delete_metadata_key(
        call.tx, org_id=call.org_id, code=call.path["code"], key=call.path["key"], now=call.now
    )
    return {"metadata": metadata}


_EXAMPLE: dict[str, object] = {
    "code": "pro",
    "name": "Pro",
    "interval": "monthly",
    "amount_cents": 4900,
    "amount_currency": "USD",
    "trial_period": 14,
    "charges": [
        {
            "billable_metric_code": "llm_tokens",
            "charge_model": "package",
            "properties": {"amount": "0.50", "package_size": 100000, "free_units": 0},
        }
    ],
    "minimum_commitment": {"amount_cents": 9900},
    "credits": 1000,
    "credits_rollover": {"limit": "500"},
    "credit_grants": [
        {"credit_system": "gpu", "amount": "3600", "cadence": "month"},
        {"credit_system": "gpu", "amount": "60", "cadence": "lifetime"},
    ],
}
_METADATA = shape(metadata=optional(ANY_OBJECT))
_METADATA_EXAMPLE: dict[str, object] = {"metadata": {"team": "growth"}}


def _metadata_endpoint(method: str, path: str, summary: str, handler: Any, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path="/plans/{code}/metadata" + path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Plans",
        reply_schema=_METADATA,
        **more,
    )


ENDPOINTS = (
    *(
        replace(one, query=VersionQuery) if one.handler is show_plan else one
        for one in core_resource(
            path="/plans",
            name="plan",
            plural="plans",
            words="plan",
            tag="Plans",
            body=PlanBody,
            update_body=PlanChangeBody,
            example=_EXAMPLE,
            create=create_plan,
            index=list_plans,
            show=show_plan,
            update=update_plan,
            delete=delete_plan,
        )
    ),
    Endpoint(
        method="GET",
        path="/plans/{code}/versions",
        handler=list_versions,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a plan's versions",
        description="Oldest first. Another price makes another version; subscribers keep theirs until they are migrated.",
        tag="Plans",
        reply_schema=shape(versions=array(ANY_OBJECT)),
        errors=(404,),
        example=Example(
            response={
                "versions": [
                    {
                        "nozle_id": "0198c4a5-5e8e-7c1e-8f4e-8a4d1f6f8f10",
                        "version": 1,
                        "is_current": True,
                        "created_at": "2026-01-01T00:00:00Z",
                        "amount_cents": 4900,
                        "amount_currency": "USD",
                        "active_subscriptions_count": 3,
                    }
                ]
            }
        ),
    ),
    _metadata_endpoint(
        "POST",
        "",
        "Replace a plan's metadata",
        replace_metadata,
        body=MetadataBody,
        errors=(404,),
        example=Example(request=_METADATA_EXAMPLE, response=_METADATA_EXAMPLE),
    ),
    _metadata_endpoint(
        "PATCH",
        "",
        "Change some of a plan's metadata",
        merge_metadata,
        body=MetadataBody,
        errors=(404,),
        example=Example(request=_METADATA_EXAMPLE, response=_METADATA_EXAMPLE),
    ),
    _metadata_endpoint(
        "DELETE",
        "",
        "Remove a plan's metadata",
        delete_metadata,
        errors=(404,),
        example=Example(response={"metadata": None}),
    ),
    _metadata_endpoint(
        "DELETE",
        "/{key}",
        "Remove a key of a plan's metadata",
        delete_metadata_key,
        errors=(404,),
        example=Example(response={"metadata": {}}),
    ),
)
