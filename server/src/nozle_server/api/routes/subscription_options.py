"""Which plans a customer may change to (contract 4.7)."""

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.routes.plan_changes import subscription_of
from nozle_server.api.routes.plans import MAX_PLANS
from nozle_server.api.routes.subscriptions import CUSTOMER_ALIASES
from nozle_server.api.shapes import ANY_OBJECT, array, optional, shape
from nozle_server.api.subscription_shapes import inner_json
from nozle_server.catalog import plan_store
from nozle_server.customers.queries import get_customer
from nozle_server.subscriptions import lifecycle
from nozle_server.subscriptions.lifecycle import Direction
from nozle_server.subscriptions.queries import find_pending
from nozle_server.workflows.billing_status import PlanFacts, plan_facts


class OptionsQuery(msgspec.Struct):
    """`subscription_id` (external) is needed only where the customer has several."""

    customer_id: str
    subscription_id: str | None = None


async def options(call: Call) -> object:
    query: OptionsQuery = call.query
    customer = await get_customer(call.tx, call.org_id, query.customer_id)
    subscription = await subscription_of(call, customer, query.subscription_id)
    current = await plan_facts(call.tx, subscription)
    pending = await find_pending(call.tx, subscription)
    plans, _ = await plan_store.list_plans(call.tx, call.org_id, limit=MAX_PLANS, offset=0)
    change = None
    if pending is not None:
        following = await plan_facts(call.tx, pending)
        change = {
            "id": pending.external_id,
            "plan_code": following.code,
            "name": following.name,
            "effective_at": pending.started_at,
            "plan": _plan_json(following),
        }
    return {
        "subscription": {**inner_json(subscription, current.code), "plan": _plan_json(current)},
        "pending_change": change,
        "eligible_plans": [
            {
                **_plan_json(PlanFacts(plan.code, plan.name, plan.current)),
                "direction": (direction := lifecycle.direction(current.version, plan.current)),
                "timing": "immediate" if direction is Direction.UPGRADE else "end_of_period",
            }
            for plan in plans
            if plan.id != subscription.plan_id and plan.current.currency == current.version.currency
        ],
        "checkout": None,
    }


def _plan_json(plan: PlanFacts) -> dict[str, object]:
    return {
        "code": plan.code,
        "name": plan.name,
        "amount_cents": plan.version.amount_cents,
        "currency": plan.version.currency,
        "interval": plan.version.interval,
    }


_PLAN = {"code": "pro", "name": "Pro", "amount_cents": 9900, "currency": "USD", "interval": "monthly"}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/subscriptions/options",
        handler=options,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List the plans that a customer may change to",
        description="Those in the same currency, with the direction of the change and when it would take effect.",
        tag="Subscriptions",
        query=OptionsQuery,
        query_aliases=CUSTOMER_ALIASES,
        reply_schema=shape(
            subscription=ANY_OBJECT,
            pending_change=optional(ANY_OBJECT),
            eligible_plans=array(ANY_OBJECT),
            checkout=optional(ANY_OBJECT),
        ),
        errors=(404, 409),
        customer_data=CustomerData("query", "customer_id", "billing:read"),
        example=Example(
            response={
                "subscription": {"external_id": "team_42", "plan_code": "starter", "status": "active"},
                "pending_change": None,
                "eligible_plans": [{**_PLAN, "direction": "upgrade", "timing": "immediate"}],
                "checkout": None,
            }
        ),
    ),
)
