"""What plans entitle to, in Core's form."""

from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.plan_forms import entitlement_json
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.catalog import feature_store
from nozle_server.catalog.operations import entitlements as operations
from nozle_server.catalog.queries import get_feature, get_plan


class EntitlementsBody(msgspec.Struct):
    """Feature codes to their privileges: `{"chat": {"limit": 100000}, "sso": true}`."""

    entitlements: dict[str, Any]


async def list_entitlements(call: Call) -> object:
    return await _entitlements(call)


async def replace_entitlements(call: Call) -> object:
    return await _set_entitlements(call, replace=True)


async def add_entitlements(call: Call) -> object:
    return await _set_entitlements(call, replace=False)


async def show_entitlement(call: Call) -> object:
    plan = await get_plan(call.tx, call.org_id, call.path["code"])
    entitlement = operations.get_entitlement(plan, call.path["feature_code"])
    feature = await get_feature(call.tx, call.org_id, entitlement.feature_code)
    return {"entitlement": entitlement_json(entitlement, feature)}


async def delete_entitlement(call: Call) -> object:
    answer = await show_entitlement(call)
    await operations.delete_entitlement(
        call.tx, org_id=call.org_id, plan_code=call.path["code"], feature_code=call.path["feature_code"]
    )
    await rights_changed(call)
    return answer


async def delete_privilege(call: Call) -> object:
    await operations.delete_entitlement_privilege(
        call.tx,
        org_id=call.org_id,
        plan_code=call.path["code"],
        feature_code=call.path["feature_code"],
        privilege_code=call.path["privilege_code"],
        now=call.now,
    )
    await rights_changed(call)
    return await show_entitlement(call)


async def _set_entitlements(call: Call, *, replace: bool) -> object:
    await operations.set_entitlements(
        call.tx,
        org_id=call.org_id,
        plan_code=call.path["code"],
        wanted=call.body.entitlements,
        replace=replace,
        now=call.now,
    )
    await rights_changed(call)
    return await _entitlements(call)


async def _entitlements(call: Call) -> dict[str, object]:
    plan = await get_plan(call.tx, call.org_id, call.path["code"])
    features = await feature_store.find_features(
        call.tx, call.org_id, [one.feature_code for one in plan.entitlements]
    )
    return {
        "entitlements": [
            entitlement_json(one, features[one.feature_code])
            for one in plan.entitlements
            if one.feature_code in features
        ]
    }


_ENTITLED = shape(entitlements=array(ANY_OBJECT))
_ONE = shape(entitlement=ANY_OBJECT)
_ENTITLEMENT = {
    "code": "chat",
    "name": "Chat completions",
    "description": None,
    "privileges": [{"code": "limit", "name": "Limit", "value_type": "number", "value": 100000, "config": {}}],
}
_EXAMPLE = Example(
    request={"entitlements": {"chat": {"limit": 100000}}}, response={"entitlements": [_ENTITLEMENT]}
)


def _endpoint(method: str, path: str, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path="/plans/{code}/entitlements" + path,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Granted entitlements",
        **more,
    )


ENDPOINTS = (
    _endpoint(
        "GET",
        "",
        "List a plan's entitlements",
        handler=list_entitlements,
        reply_schema=_ENTITLED,
        errors=(404,),
        example=Example(response=_EXAMPLE.response),
    ),
    _endpoint(
        "POST",
        "",
        "Replace a plan's entitlements",
        description="What is not named is taken away. It reaches every subscriber with the next `can()`.",
        handler=replace_entitlements,
        body=EntitlementsBody,
        reply_schema=_ENTITLED,
        errors=(404,),
        example=_EXAMPLE,
    ),
    _endpoint(
        "PATCH",
        "",
        "Change some of a plan's entitlements",
        description="What is not named stays, privileges included; `false` takes a feature away.",
        handler=add_entitlements,
        body=EntitlementsBody,
        reply_schema=_ENTITLED,
        errors=(404,),
        example=_EXAMPLE,
    ),
    _endpoint(
        "GET",
        "/{feature_code}",
        "Get a plan's entitlement to a feature",
        handler=show_entitlement,
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"entitlement": _ENTITLEMENT}),
    ),
    _endpoint(
        "DELETE",
        "/{feature_code}",
        "Take a feature away from a plan",
        handler=delete_entitlement,
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"entitlement": _ENTITLEMENT}),
    ),
    _endpoint(
        "DELETE",
        "/{feature_code}/privileges/{privilege_code}",
        "Take a privilege's value away from a plan's entitlement",
        description="A `limit` that is taken away is no limit.",
        handler=delete_privilege,
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"entitlement": {**_ENTITLEMENT, "privileges": []}}),
    ),
)
