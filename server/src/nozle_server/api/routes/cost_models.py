"""Cost models: what a unit of usage costs the merchant."""

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, NUMBER, STRING, array, optional, shape
from nozle_server.core.ids import from_text, to_text
from nozle_server.costs import store
from nozle_server.costs.model import CostModel
from nozle_server.costs.operations import CostModelDraft, create_cost_model, delete_cost_model
from nozle_server.costs.queries import get_cost_model


async def create(call: Call) -> object:
    cost_model = await create_cost_model(call.tx, org_id=call.org_id, draft=call.body, now=call.now)
    await rights_changed(call)
    return cost_model_json(cost_model)


async def index(call: Call) -> object:
    return [cost_model_json(one) for one in await store.list_all(call.tx, call.org_id)]


async def show(call: Call) -> object:
    cost_model_id = from_text("cm", call.path["id"], what="cost model")
    return cost_model_json(await get_cost_model(call.tx, org_id=call.org_id, cost_model_id=cost_model_id))


async def delete(call: Call) -> object:
    cost_model_id = from_text("cm", call.path["id"], what="cost model")
    await delete_cost_model(call.tx, org_id=call.org_id, cost_model_id=cost_model_id, now=call.now)
    await rights_changed(call)
    return {"deleted": True, "id": to_text("cm", cost_model_id)}


def cost_model_json(cost_model: CostModel) -> dict[str, object]:
    """Both dialects of contract 1.19 in one object."""
    return {
        "id": to_text("cm", cost_model.id),
        "name": cost_model.name,
        "metric_code": cost_model.metric_code,
        "cost_type": cost_model.cost_type,
        "cost_per_unit_cents": cost_model.amount_cents,
        "amount_cents": cost_model.amount_cents,
        "model": cost_model.model,
        "model_rates": store.rates_to_json(cost_model),
        "tier_mode": cost_model.tier_mode,
        "tiers": store.tiers_to_json(cost_model),
        "created_at": cost_model.created_at,
        "updated_at": cost_model.updated_at,
    }


_SHAPE = shape(
    id=STRING,
    name=STRING,
    metric_code=STRING,
    cost_type=STRING,
    cost_per_unit_cents=optional(NUMBER),
    model=optional(STRING),
    model_rates=optional(ANY_OBJECT),
    tiers=optional(array(ANY_OBJECT)),
)
_EXAMPLE = {
    "id": "cm_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "name": "GPT-4 API Cost",
    "metric_code": "api_calls",
    "cost_type": "per_unit",
    "cost_per_unit_cents": 0.12,
    "amount_cents": 0.12,
    "model": "gpt-4",
    "model_rates": None,
    "tier_mode": None,
    "tiers": None,
}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/cost-models",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Create a cost model",
        description=(
            "`per_unit`: cents a unit, perhaps of one AI model only. `per_model`: cents per 1,000,000 input and output"
            " tokens by AI model. `tiered`: over a calendar month's quantity (UTC), `SLAB` (each tier its own slice) or"
            " `VOLUME`. It prices the events that come after it; the one that names the event's AI model wins, then the"
            " newest."
        ),
        tag="Costs and margin",
        body=CostModelDraft,
        body_aliases={
            "billable_metric_code": "metric_code",
            "feature_code": "metric_code",
            "code": "metric_code",
        },
        reply_schema=_SHAPE,
        idempotent=True,
        example=Example(
            request={
                "name": "GPT-4 API Cost",
                "metric_code": "api_calls",
                "cost_per_unit_cents": 0.12,
                "model": "gpt-4",
            },
            response=_EXAMPLE,
        ),
    ),
    Endpoint(
        method="GET",
        path="/cost-models",
        handler=index,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="List cost models",
        tag="Costs and margin",
        reply_schema=array(_SHAPE),
        example=Example(response=[_EXAMPLE]),
    ),
    Endpoint(
        method="GET",
        path="/cost-models/{id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Get a cost model",
        tag="Costs and margin",
        reply_schema=_SHAPE,
        errors=(404,),
        example=Example(response=_EXAMPLE),
    ),
    Endpoint(
        method="DELETE",
        path="/cost-models/{id}",
        handler=delete,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Delete a cost model",
        description="What past events cost stays.",
        tag="Costs and margin",
        reply_schema=shape(deleted=BOOLEAN, id=STRING),
        errors=(404,),
        example=Example(response={"deleted": True, "id": _EXAMPLE["id"]}),
    ),
)
