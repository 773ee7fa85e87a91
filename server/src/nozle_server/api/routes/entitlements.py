"""`can()`: may this customer do this now?"""

from decimal import Decimal

import msgspec

from nozle_server.api.answer import Validity
from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Mount, Reply, Scope
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, NUMBER, STRING, optional, shape
from nozle_server.api.strict_json import read_json
from nozle_server.core.errors import InvalidInput, NozleError
from nozle_server.core.ids import to_text
from nozle_server.core.numbers import to_plain
from nozle_server.core.text import parse_id
from nozle_server.entitlements.model import Decision, Reason
from nozle_server.entitlements.policy import Ruling, Verdict
from nozle_server.entitlements.queries import Question, can

MAX_METADATA_BYTES = 4096
ECONOMICS_INCLUDE = ("marginal_price", "unit_cost")
ECONOMICS_EXCLUDE = (
    "subscription_fees",
    "flat_amounts",
    "minimum_commitments",
    "coupons",
    "credits",
    "taxes",
)


class CanQuery(msgspec.Struct):
    """`metadata` is a URL-encoded JSON object of strings, for prices and costs by model. `subscription_id` narrows to one of
    several subscriptions, `entity_id` is the entity of the customer that would use the feature."""

    customer_id: str
    feature: str
    metadata: str | None = None
    subscription_id: str | None = None
    entity_id: str | None = None


async def check(call: Call) -> Reply:
    query: CanQuery = call.query
    question = Question(
        customer=parse_id(query.customer_id, "customer_id"),
        feature=parse_id(query.feature, "feature"),
        metadata=_metadata(query.metadata),
        subscription=query.subscription_id,
        entity=None if query.entity_id is None else parse_id(query.entity_id, "entity_id"),
        must_choose=call.mount is Mount.ENGINE,
    )
    may_see_margin = call.principal.may_see_margin
    decided = await can(
        call.services.snapshots,
        call.services.economics,
        org_id=call.org_id,
        question=question,
        with_costs=may_see_margin,
        real_now=call.received_at,
    )
    answer = decision_json(decided.decision, may_see_margin=may_see_margin)
    answer["feature_type"] = decided.decision.feature_type
    answer["configuration"] = _configuration(decided.decision, may_see_margin)
    return Reply(answer, validity=Validity(decided.standings, decided.ends_at))


def _configuration(decision: Decision, may_see_margin: bool) -> dict[str, object]:
    """The privileges of the entitlement that was decided by; a floor of the margin is the merchant's own business."""
    return {
        code: value
        for code, value in sorted((decision.configuration or {}).items())
        if may_see_margin or code != "min_margin_percent"
    }


def decision_json(
    decision: Decision, *, may_see_margin: bool, with_instant: bool = True
) -> dict[str, object]:
    """The answer; amounts of the merchant are null for who may not see them. `with_instant` False leaves out when they were
    calculated, for answers that are compared by their bytes."""
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
    if decision.margin is not None:
        answer.update(_margin_json(decision.margin, with_instant) if may_see_margin else _HIDDEN_MARGIN)
    return answer


def _margin_json(margin: Verdict, with_instant: bool) -> dict[str, object]:
    """What the policy in force says (contract 1.7 and 4.7); there only where one is in force."""
    policy, economics = margin.policy, margin.economics
    shown: dict[str, object] = {
        "min_margin_percent": policy.minimum_margin_percent,
        "margin_percent": economics.margin_percent,
        "margin_level": margin.level,
        "margin_enforcement_mode": margin.mode,
        "warning": Reason.MARGIN_BELOW_MINIMUM if margin.ruling is Ruling.WARN else None,
        "economics": {
            "status": economics.status,
            "currency": economics.currency,
            "estimated_incremental_cost": _text(None if economics.cost_gap else economics.cost_cents),
            "estimated_incremental_revenue": _text(
                None if economics.revenue_gap else economics.revenue_cents
            ),
            "estimated_incremental_margin": _text(economics.margin_cents),
            "estimated_margin_percent": _text(economics.margin_percent),
            "rule_version_ids": [
                to_text(prefix, one)
                for prefix, one in (("cm", economics.cost_model_id), ("pv", economics.plan_version_id))
                if one is not None
            ],
            "includes": ECONOMICS_INCLUDE,
            "excludes": ECONOMICS_EXCLUDE,
            "reason": economics.gap,
            **({"calculated_at": economics.calculated_at} if with_instant else {}),
        },
        "policy": {
            "version_id": None if policy.version_id is None else to_text("mp", policy.version_id),
            "mode": margin.mode,
            "on_unavailable": policy.on_unavailable,
            "minimum_margin_amount": policy.minimum_margin_amount,
            "minimum_margin_percent": policy.minimum_margin_percent,
            "maximum_estimated_cost": policy.maximum_estimated_cost,
            "maximum_snapshot_age_seconds": policy.maximum_snapshot_age_seconds,
            "decision": margin.ruling,
            "reason": margin.reason,
        },
    }
    return shown


_HIDDEN_MARGIN = dict.fromkeys(
    (
        "min_margin_percent",
        "margin_percent",
        "margin_level",
        "margin_enforcement_mode",
        "warning",
        "economics",
        "policy",
    )
)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else to_plain(value)


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
            " `reason`, also for an unknown customer, feature or entity. Of several subscriptions the first that allows it"
            " answers; under /engine one has to be named, else the reason is `subscription_required`. An entity that is not"
            " active, or stands below one that is not, is denied with `entity_inactive`. `feature_type` is boolean, metered or"
            " metric, null for a code that nothing has; `configuration` are the privileges that were decided by."
            " `limit: null` means unlimited. Cost, revenue and margin are"
            " null for publishable keys unless the organization shows them. Where a margin policy is in force, `economics`"
            " says what the next use is estimated to cost and earn (cents, as exact decimal strings; null and a `reason` where"
            " that is not known), and `policy` what the policy makes of it. A use that earns too little is denied only in mode"
            " `deny`; in mode `warn` there is a `warning`."
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
            feature_type=optional(STRING),
            configuration=ANY_OBJECT,
        ),
        customer_data=CustomerData("query", "customer_id", "entitlements:read"),
        transaction=False,
        lane=True,
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
                "feature_type": "metered",
                "configuration": {"limit": 10000, "overage": False},
                "min_margin_percent": 25,
                "margin_percent": 76,
                "margin_level": "healthy",
                "margin_enforcement_mode": "deny",
                "warning": None,
                "economics": {
                    "status": "estimated",
                    "currency": "USD",
                    "estimated_incremental_cost": "0.12",
                    "estimated_incremental_revenue": "0.5",
                    "estimated_incremental_margin": "0.38",
                    "estimated_margin_percent": "76",
                    "rule_version_ids": [
                        "cm_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                        "pv_019a2f6d1c2b7d4e8f9a0b1c2d3e4f5a",
                    ],
                    "includes": ECONOMICS_INCLUDE,
                    "excludes": ECONOMICS_EXCLUDE,
                    "reason": None,
                    "calculated_at": "2026-01-15T10:30:00Z",
                },
                "policy": {
                    "version_id": "mp_019a2f6e0a1b7c2d9e3f4a5b6c7d8e9f",
                    "mode": "deny",
                    "on_unavailable": "allow",
                    "minimum_margin_amount": None,
                    "minimum_margin_percent": 25,
                    "maximum_estimated_cost": None,
                    "maximum_snapshot_age_seconds": None,
                    "decision": "allow",
                    "reason": "meets_minimum",
                },
            }
        ),
    ),
)
