"""The price list, for pricing tables."""

from nozle_server.api.endpoint import Call, Endpoint, Example, Mount, Scope
from nozle_server.api.plan_forms import credits_json
from nozle_server.api.shapes import ANY_OBJECT, INTEGER, NUMBER, STRING, array, optional, shape
from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Plan

MAX_PLANS = 1_000


async def list_plans(call: Call) -> object:
    """A bare array (contract Decision 2)."""
    return await _rows(call)


async def list_plans_wrapped(call: Call) -> object:
    """`{"plans": [...]}`, as the published SDKs read it."""
    return {"plans": await _rows(call)}


async def _rows(call: Call) -> list[dict[str, object]]:
    plans, _ = await plan_store.list_plans(call.tx, call.org_id, limit=MAX_PLANS, offset=0)
    return [plan_row(plan) for plan in plans]


def plan_row(plan: Plan) -> dict[str, object]:
    version = plan.current
    return {
        "code": plan.code,
        "name": plan.name,
        "description": plan.description,
        "amount_cents": version.amount_cents,
        "amount_currency": version.currency,
        "interval": version.interval,
        **credits_json(version),
        "version": version.version,
        "is_current": True,
    }


_ROW = shape(
    code=STRING,
    name=STRING,
    description=optional(STRING),
    amount_cents=INTEGER,
    amount_currency=STRING,
    interval=STRING,
    credits=NUMBER,
    credits_rollover=optional(ANY_OBJECT),
    credit_grants=array(ANY_OBJECT),
)
_EXAMPLE = {
    "code": "pro",
    "name": "Pro",
    "description": None,
    "amount_cents": 9900,
    "amount_currency": "USD",
    "interval": "monthly",
    "credits": 1000,
    "credits_rollover": {"limit": "500"},
    "credit_grants": [
        {
            "credit_system": "gpu",
            "amount": "3600",
            "cadence": "month",
            "scope": "customer",
            "priority": 50,
            "rollover": None,
        }
    ],
    "version": 1,
    "is_current": True,
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/plans",
        handler=list_plans,
        scope=Scope.ANY_KEY,
        mounts=(Mount.SEED,),
        summary="List plans",
        description="Cheapest first, at most 1,000.",
        tag="Plans",
        reply_schema=array(_ROW),
        catalog=True,
        example=Example(response=[_EXAMPLE]),
    ),
    Endpoint(
        method="GET",
        path="/plans",
        handler=list_plans_wrapped,
        scope=Scope.ANY_KEY,
        mounts=(Mount.ENGINE,),
        summary="List plans",
        description="Cheapest first, at most 1,000.",
        tag="Plans",
        reply_schema=shape(plans=array(_ROW)),
        catalog=True,
        example=Example(response={"plans": [_EXAMPLE]}),
    ),
)
