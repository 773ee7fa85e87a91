"""Everything that a customer may use, in one answer."""

from typing import Any

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Mount, Scope
from nozle_server.api.entity_tags import tagged
from nozle_server.api.routes.entitlements import decision_json
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, INSTANT, NUMBER, STRING, array, optional, shape
from nozle_server.core.text import parse_id
from nozle_server.entitlements.deciding_all import decide_all
from nozle_server.entitlements.overview import (
    CustomerEntitlements,
    FeatureEntitlement,
    Holder,
    without_margin,
)


class EntitlementsQuery(msgspec.Struct):
    customer_id: str
    subscription_id: str | None = None


async def index(call: Call) -> object:
    query: EntitlementsQuery = call.query
    may_see_margin = call.principal.may_see_margin
    customer = parse_id(query.customer_id, "customer_id")
    found = await decide_all(
        await call.services.snapshots.get(call.org_id, customer),
        call.services.economics,
        with_costs=may_see_margin,
        real_now=call.received_at,
        subscription=query.subscription_id,
        must_choose=call.mount is Mount.ENGINE,
    )
    return tagged(call, _entitlements_json(found, may_see_margin=may_see_margin))


def _entitlements_json(found: CustomerEntitlements, *, may_see_margin: bool) -> dict[str, object]:
    return {
        "customer_id": found.customer,
        "subscriptions": [_subscription_json(one) for one in found.holders],
        "entitlements": [_feature_json(one, may_see_margin=may_see_margin) for one in found.features],
        "unlisted": {"allowed": found.unlisted.allowed, "reason": found.unlisted.reason},
        "valid_until": found.valid_until,
    }


def _subscription_json(holder: Holder) -> dict[str, object]:
    one = holder.subscription
    return {
        "subscription_id": one.external_id,
        "plan_code": holder.plan_code,
        "status": one.status,
        "started_at": one.started_at,
        "ending_at": one.terminated_at or one.ending_at,
        "trial_ends_at": one.trial_ends_at,
    }


def _feature_json(one: FeatureEntitlement, *, may_see_margin: bool) -> dict[str, object]:
    right = one.right if may_see_margin else without_margin(one.right)
    holder = one.holder
    return {
        "feature": right.code,
        "name": right.name,
        "type": right.type,
        **decision_json(one.decision, may_see_margin=may_see_margin, with_instant=False),
        "privileges": dict(sorted(right.privileges.items())),
        "subscription_id": None if holder is None else holder.subscription.external_id,
        "subscription_status": None if holder is None else holder.subscription.status,
        "plan_code": None if holder is None else holder.plan_code,
        "valid_until": one.valid_until,
    }


_FEATURE_EXAMPLE: dict[str, Any] = {
    "feature": "chat",
    "name": "Chat completions",
    "type": "metered",
    "allowed": True,
    "reason": "within_limit",
    "used": 1500,
    "limit": 10000,
    "remaining": 8500,
    "overage": False,
    "cost_per_use_cents": 0.12,
    "revenue_per_use_cents": 0.5,
    "margin_per_use_cents": 0.38,
    "privileges": {"limit": 10000, "overage": False},
    "subscription_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "subscription_status": "active",
    "plan_code": "pro",
    "valid_until": "2026-02-01T00:00:00Z",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/entitlements",
        handler=index,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="All of a customer's features",
        description=(
            "What `can` says of every feature of the customer's plans and its own overrides, and of the metrics that its plans"
            " price, by code; `unlisted` is what it says of any other code. Under /engine one of several subscriptions has to"
            " be named, else every `reason` is `subscription_required`, without `subscription_id`, `plan_code` and privileges."
            " `type` is boolean, metered or metric. `valid_until` is the instant at which time alone may change the answer: a"
            " subscription begins or ends, a period ends; null: never. An unknown customer has none, with a 200, as `can`"
            " denies it. The answer carries a strong `ETag`: the same for the same content wherever it is asked; with it in"
            " `If-None-Match` the answer is a 304 without a body. Cost, revenue and margin are null for publishable keys unless"
            " the organization shows them."
        ),
        tag="Entitlements",
        query=EntitlementsQuery,
        query_aliases={"customerId": "customer_id", "external_customer_id": "customer_id"},
        reply_schema=shape(
            customer_id=STRING,
            subscriptions=array(ANY_OBJECT),
            entitlements=array(
                shape(
                    feature=STRING,
                    name=STRING,
                    type=STRING,
                    allowed=BOOLEAN,
                    reason=STRING,
                    used=NUMBER,
                    limit=optional(NUMBER),
                    remaining=optional(NUMBER),
                    overage=BOOLEAN,
                    cost_per_use_cents=optional(NUMBER),
                    revenue_per_use_cents=optional(NUMBER),
                    margin_per_use_cents=optional(NUMBER),
                    privileges=ANY_OBJECT,
                    subscription_id=optional(STRING),
                    subscription_status=optional(STRING),
                    plan_code=optional(STRING),
                    valid_until=optional(INSTANT),
                )
            ),
            unlisted=shape(allowed=BOOLEAN, reason=STRING),
            valid_until=optional(INSTANT),
        ),
        customer_data=CustomerData("query", "customer_id", "entitlements:read"),
        transaction=False,
        example=Example(
            response={
                "customer_id": "acme",
                "subscriptions": [
                    {
                        "subscription_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                        "plan_code": "pro",
                        "status": "active",
                        "started_at": "2026-01-01T00:00:00Z",
                        "ending_at": None,
                        "trial_ends_at": None,
                    }
                ],
                "entitlements": [_FEATURE_EXAMPLE],
                "unlisted": {"allowed": False, "reason": "feature_not_in_plan"},
                "valid_until": None,
            }
        ),
    ),
)
