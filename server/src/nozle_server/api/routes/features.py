"""Features, in Core's form."""

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import ANY_OBJECT, shape
from nozle_server.catalog import feature_store
from nozle_server.catalog.drafts import FeatureChange, FeatureDraft
from nozle_server.catalog.model import Feature
from nozle_server.catalog.operations import features as feature_operations
from nozle_server.catalog.operations.entitlements import privileges_of
from nozle_server.catalog.queries import get_feature


class FeatureBody(msgspec.Struct):
    feature: FeatureDraft


class FeatureChangeBody(msgspec.Struct):
    feature: FeatureChange


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


async def create_feature(call: Call) -> object:
    draft = call.body.feature
    feature = await feature_operations.create_feature(call.tx, org_id=call.org_id, draft=draft, now=call.now)
    await rights_changed(call)
    return {"feature": feature_json(feature)}


async def update_feature(call: Call) -> object:
    feature = await feature_operations.change_feature(
        call.tx, org_id=call.org_id, code=call.path["code"], change=call.body.feature, now=call.now
    )
    await rights_changed(call)
    return {"feature": feature_json(feature)}


async def show_feature(call: Call) -> object:
    return {"feature": feature_json(await get_feature(call.tx, call.org_id, call.path["code"]))}


async def delete_feature(call: Call) -> object:
    feature = await feature_operations.delete_feature(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    await rights_changed(call)
    return {"feature": feature_json(feature)}


async def delete_privilege(call: Call) -> object:
    feature = await feature_operations.delete_privilege(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        privilege_code=call.path["privilege_code"],
        now=call.now,
    )
    await rights_changed(call)
    return {"feature": feature_json(feature)}


async def list_features(call: Call) -> object:
    query: PageQuery = call.query
    features, total = await feature_store.list_features(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"features": [feature_json(one) for one in features], "meta": page_meta(query, total)}


_EXAMPLE: dict[str, object] = {
    "code": "chat",
    "name": "Chat completions",
    "billable_metric_code": "llm_tokens",
}

ENDPOINTS = (
    *core_resource(
        path="/features",
        name="feature",
        plural="features",
        words="feature",
        tag="Features",
        body=FeatureBody,
        update_body=FeatureChangeBody,
        example=_EXAMPLE,
        create=create_feature,
        index=list_features,
        show=show_feature,
        update=update_feature,
        delete=delete_feature,
    ),
    Endpoint(
        method="DELETE",
        path="/features/{code}/privileges/{privilege_code}",
        handler=delete_privilege,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Remove a privilege of a feature",
        description="Plans and subscriptions lose the value they give it.",
        tag="Features",
        reply_schema=shape(feature=ANY_OBJECT),
        errors=(404,),
        example=Example(response={"feature": {**_EXAMPLE, "privileges": []}}),
    ),
)
