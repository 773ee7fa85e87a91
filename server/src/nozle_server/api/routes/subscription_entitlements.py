"""What single subscriptions may use otherwise than their plan says, in Core's form."""

from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.rights import rights_of_subscription_changed
from nozle_server.api.routes.core_subscriptions import unknown_subscription
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.catalog import feature_store
from nozle_server.catalog.model import Feature
from nozle_server.catalog.operations.entitlements import privileges_of
from nozle_server.core.text import parse_id
from nozle_server.entitlements import override_store, overrides
from nozle_server.entitlements.override_store import SubscriptionEntitlement
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription


class OverridesBody(msgspec.Struct):
    """Feature codes to their privileges; `false` takes a feature away."""

    entitlements: dict[str, Any]


async def index(call: Call) -> object:
    return await _listed(call, await _subscription(call))


async def update(call: Call) -> object:
    subscription = await _subscription(call)
    await overrides.override_entitlements(call.tx, subscription=subscription, wanted=call.body.entitlements)
    await rights_of_subscription_changed(call, subscription)
    return await _listed(call, subscription)


async def delete(call: Call) -> object:
    subscription = await _subscription(call)
    shown = await _shown(call, subscription)
    await overrides.remove_entitlement(
        call.tx, subscription=subscription, feature_code=call.path["feature_code"]
    )
    await rights_of_subscription_changed(call, subscription)
    return shown


async def delete_privilege(call: Call) -> object:
    subscription = await _subscription(call)
    await overrides.remove_privilege(
        call.tx,
        subscription=subscription,
        feature_code=call.path["feature_code"],
        privilege_code=call.path["privilege_code"],
    )
    await rights_of_subscription_changed(call, subscription)
    return await _shown(call, subscription)


async def _subscription(call: Call) -> Subscription:
    """The active subscription of the path's external id, else one that is to begin."""
    external_id = parse_id(call.path["external_id"], "external_id")
    named = await store.list_of_external_id(call.tx, call.org_id, external_id)
    for status in (Status.ACTIVE, Status.PENDING):
        for one in named:
            if one.status is status:
                return one
    raise unknown_subscription()


async def _shown(call: Call, subscription: Subscription) -> object:
    one = await overrides.get_entitlement(call.tx, subscription, call.path["feature_code"])
    features = await feature_store.find_features(call.tx, call.org_id, [one.feature_code])
    return {"entitlement": _json(one, features[one.feature_code])}


async def _listed(call: Call, subscription: Subscription) -> object:
    found = await override_store.list_of_subscription(call.tx, call.org_id, subscription.id)
    features = await feature_store.find_features(call.tx, call.org_id, [one.feature_code for one in found])
    return {"entitlements": [_json(one, features[one.feature_code]) for one in found]}


def _json(one: SubscriptionEntitlement, feature: Feature) -> dict[str, object]:
    return {
        "code": feature.code,
        "name": feature.name,
        "description": feature.description,
        "privileges": [
            {
                "code": privilege.code,
                "name": privilege.name,
                "value_type": privilege.value_type,
                "config": privilege.config,
                "value": one.privileges[privilege.code],
                "plan_value": (one.of_plan or {}).get(privilege.code),
                "override_value": one.own.get(privilege.code),
            }
            for privilege in privileges_of(feature)
            if privilege.code in one.privileges
        ],
        "overrides": one.own,
    }


_MANY = shape(entitlements=array(ANY_OBJECT))
_ONE = shape(entitlement=ANY_OBJECT)
_ENTITLEMENT: dict[str, object] = {
    "code": "chat",
    "name": "Chat completions",
    "privileges": [{"code": "limit", "value": 200000, "plan_value": 100000, "override_value": 200000}],
    "overrides": {"limit": 200000},
}
_PATH = "/subscriptions/{external_id}/entitlements"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_PATH,
        handler=index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a subscription's entitlements",
        tag="Granted entitlements",
        reply_schema=_MANY,
        errors=(404,),
        example=Example(response={"entitlements": [_ENTITLEMENT]}),
    ),
    Endpoint(
        method="PATCH",
        path=_PATH,
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Change some of a subscription's entitlements",
        description="For this subscription alone, with the next `can()`. What is not named stays as the plan says.",
        tag="Granted entitlements",
        body=OverridesBody,
        reply_schema=_MANY,
        errors=(404,),
        example=Example(
            request={"entitlements": {"chat": {"limit": 200000}}}, response={"entitlements": [_ENTITLEMENT]}
        ),
    ),
    Endpoint(
        method="DELETE",
        path=_PATH + "/{feature_code}",
        handler=delete,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Take a feature away from a subscription",
        tag="Granted entitlements",
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"entitlement": _ENTITLEMENT}),
    ),
    Endpoint(
        method="DELETE",
        path=_PATH + "/{feature_code}/privileges/{privilege_code}",
        handler=delete_privilege,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Let a privilege be as the plan says again",
        tag="Granted entitlements",
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"entitlement": _ENTITLEMENT}),
    ),
)
