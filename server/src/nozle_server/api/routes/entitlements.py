"""`can()`: may this customer do this now?"""

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.shapes import BOOLEAN, NUMBER, STRING, optional, shape
from nozle_server.api.strict_json import read_json
from nozle_server.core.errors import InvalidInput, NozleError
from nozle_server.core.text import parse_id
from nozle_server.entitlements.model import Decision
from nozle_server.entitlements.queries import Question, can

MAX_METADATA_BYTES = 4096


class CanQuery(msgspec.Struct):
    """`metadata` is a URL-encoded JSON object of strings, for prices and costs by model."""

    customer_id: str
    feature: str
    metadata: str | None = None
    subscription_id: str | None = None


async def check(call: Call) -> object:
    query: CanQuery = call.query
    question = Question(
        customer=parse_id(query.customer_id, "customer_id"),
        feature=parse_id(query.feature, "feature"),
        metadata=_metadata(query.metadata),
        subscription=query.subscription_id,
    )
    may_see_margin = call.principal.may_see_margin
    decision = await can(
        call.tx,
        call.services.economics,
        org_id=call.org_id,
        question=question,
        with_costs=may_see_margin,
        real_now=call.received_at,
    )
    return decision_json(decision, may_see_margin=may_see_margin)


def decision_json(decision: Decision, *, may_see_margin: bool) -> dict[str, object]:
    """The answer; amounts of the merchant are null for who may not see them."""
    answer: dict[str, object] = {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "used": decision.used,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "overage": decision.overage,
        "cost_per_use_cents": decision.cost_per_use_cents if may_see_margin else None,
        "revenue_per_use_cents": decision.revenue_per_use_cents if may_see_margin else None,
        "margin_per_use_cents": decision.margin_per_use_cents if may_see_margin else None,
    }
    if decision.min_margin_percent is not None:
        answer["min_margin_percent"] = decision.min_margin_percent if may_see_margin else None
    if decision.warnings and may_see_margin:
        answer["warning"] = decision.warnings[0]
    return answer


def _metadata(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    invalid = InvalidInput(
        "metadata must be a JSON object of strings", details={"metadata": ["value_is_invalid"]}
    )
    if len(text) > MAX_METADATA_BYTES:
        raise invalid
    try:
        metadata = read_json(text.encode())
    except NozleError:
        raise invalid from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise invalid
    return metadata


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/can",
        handler=check,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="May this customer use this feature now?",
        description=(
            "`feature` is a feature's code, else a billable metric's. A denial is a 200 with `allowed: false` and a"
            " `reason`, also for an unknown customer or feature. `limit: null` means unlimited. Cost, revenue and margin are"
            " null for publishable keys unless the organization shows them."
        ),
        tag="Entitlements",
        query=CanQuery,
        query_aliases={
            "customerId": "customer_id",
            "external_customer_id": "customer_id",
            "feature_code": "feature",
            "featureKey": "feature",
        },
        reply_schema=shape(
            allowed=BOOLEAN,
            reason=STRING,
            used=NUMBER,
            limit=optional(NUMBER),
            remaining=optional(NUMBER),
            overage=BOOLEAN,
            cost_per_use_cents=optional(NUMBER),
            revenue_per_use_cents=optional(NUMBER),
            margin_per_use_cents=optional(NUMBER),
        ),
        customer_data=CustomerData("query", "customer_id", "entitlements:read"),
        own_clock=True,
        example=Example(
            response={
                "allowed": True,
                "reason": "within_limit",
                "used": 1500,
                "limit": 10000,
                "remaining": 8500,
                "overage": False,
                "cost_per_use_cents": 0.12,
                "revenue_per_use_cents": 0.5,
                "margin_per_use_cents": 0.38,
                "min_margin_percent": 25,
            }
        ),
    ),
)
