"""Usage that credits are taken for: what it would cost, and taking it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nozle_server.api.credit_forms import deduction_json
from nozle_server.api.deciding import decide_together, parse_code, refusal_json
from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Reply, Scope
from nozle_server.api.event_forms import check_properties
from nozle_server.api.idempotency import REPLAYED
from nozle_server.api.shapes import BOOLEAN, STRING, array, shape
from nozle_server.core.numbers import to_plain
from nozle_server.core.text import parse_id
from nozle_server.identity.model import Mode
from nozle_server.identity.queries import get_time
from nozle_server.infra import idempotency
from nozle_server.metering.timestamps import parse_timestamp
from nozle_server.workflows.track_usage import (
    Quote,
    RateChanged,
    Tracked,
    Use,
    check_use,
    decide,
    hold_first,
    quote_use,
    record,
)

_ALIASES = {
    "customerId": "customer_id",
    "external_customer_id": "customer_id",
    "billable_metric_code": "feature_code",
    "metric_code": "feature_code",
    "code": "feature_code",
    "occurred_at": "timestamp",
    "credit_system": "credit_system_code",
}
# Quotes of one call: as often as a transaction is tried.
_ATTEMPTS = 3


class UseBody(msgspec.Struct):
    """`feature_code` is a billable metric's code, `timestamp` when the usage happened (RFC 3339; now, when left out). Without
    `credit_system_code` the one system that rates the metric is meant."""

    customer_id: str
    feature_code: str
    credit_system_code: str | None = None
    entity_id: str | None = None
    properties: dict[str, Any] | None = None
    timestamp: object = None


def _use(body: UseBody) -> Use:
    properties = body.properties or {}
    check_properties(properties)
    return Use(
        customer=parse_id(body.customer_id, "customer_id"),
        metric=parse_id(body.feature_code, "feature_code"),
        properties=properties,
        occurred_at=None if body.timestamp is None else parse_timestamp(body.timestamp, "timestamp"),
        credit_system=parse_code(body.credit_system_code),
        entity=None if body.entity_id is None else parse_id(body.entity_id, "entity_id"),
    )


async def check(call: Call) -> object:
    checked = await check_use(call.tx, call.org_id, _use(call.body), call.now)
    answer: dict[str, object] = {
        "advisory": True,
        "allowed": checked.allowed,
        **_asked_json(checked.quote),
        "available": to_plain(checked.available),
    }
    if checked.allowed:
        answer["projected_remaining"] = to_plain(checked.remaining)
        answer["projected_deductions"] = [deduction_json(one) for one in checked.deductions]
    return {**answer, **_entity_json(checked), **_denial_json(checked)}


async def track(call: Call) -> object:
    assert call.claim is not None, "the endpoint insists on a key"
    use = _use(call.body)
    for attempt in range(1, _ATTEMPTS + 1):
        async with call.services.database.connection() as connection:
            # Answered before it is looked at whether it could be done today.
            stored = await idempotency.find_answer(connection, call.claim)
            if stored is not None:
                return Reply(raw=stored.response, status=stored.status, headers=REPLAYED)
            now = call.received_at
            if call.principal.mode is not Mode.LIVE:
                now = await get_time(connection, call.org_id, now)
            quote = await quote_use(connection, call.org_id, use, now)
        try:
            return await _track(call, quote)
        except RateChanged:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _track(call: Call, quote: Quote) -> Reply:
    use = quote.use
    return await decide_together(
        call,
        customer=use.customer,
        decide=lambda book, now: decide(quote, book, now),
        to_json=_tracked_json,
        entity=use.entity,
        credit_system=quote.rate.credit_system,
        before=lambda tx: hold_first(tx, quote),
        also=lambda tx, tracked: record(tx, call.services.seams, tracked),
    )


def _tracked_json(tracked: Tracked) -> dict[str, object]:
    return {
        "allowed": tracked.allowed,
        "operation_id": tracked.operation_text,
        **_asked_json(tracked.quote),
        "credits_consumed": to_plain(tracked.quote.credits) if tracked.allowed else "0",
        "available": to_plain(tracked.available),
        "remaining": to_plain(tracked.remaining),
        "deductions": [deduction_json(one) for one in tracked.deductions],
        **_entity_json(tracked),
        **_denial_json(tracked),
    }


def _asked_json(quote: Quote) -> dict[str, object]:
    return {
        "metric_amount": to_plain(quote.metric_amount),
        "credit_system": quote.rate.credit_system,
        "credits_required": to_plain(quote.credits),
    }


def _entity_json(tracked: Tracked) -> Mapping[str, object]:
    if tracked.quote.use.entity is None:
        return {}
    return {"entity_id": tracked.quote.use.entity, "pool_policy": tracked.pool_policy}


def _denial_json(tracked: Tracked) -> Mapping[str, object]:
    return {} if tracked.allowed else _as_text(refusal_json(tracked.reason, tracked.budget))


def _as_text(told: dict[str, object]) -> dict[str, object]:
    budget = told.get("budget")
    if isinstance(budget, dict):
        told["budget"] = {**budget, "limit": to_plain(budget["limit"]), "used": to_plain(budget["used"])}
    return told


_DEDUCTION = shape(
    balance_source_id=STRING, source_type=STRING, source_scope=STRING, amount=STRING, remaining=STRING
)
_SOURCE = "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e"
_REQUEST: dict[str, object] = {
    "customer_id": "cust_123",
    "feature_code": "llm_tokens",
    "credit_system_code": "ai_credits",
    "entity_id": "research-agent",
    "properties": {"tokens": 1500, "model": "gpt-4o"},
    "timestamp": "2026-01-15T10:30:00.000Z",
}
_TAKEN = {
    "balance_source_id": _SOURCE,
    "source_type": "top_up",
    "source_scope": "customer",
    "amount": "3",
    "remaining": "97",
}
_RULES = (
    "The metric is a count (each use is 1) or the sum of a property, which is read from `properties`. It costs what its rate"
    " in the credit system says for the instant of `timestamp` (now, when left out; `occurred_at` is the same): units x"
    " credit_amount / metric_amount, rounded once to 12 decimals. `billable_metric_code` is another name of `feature_code`."
    " With `entity_id` its pool policy says whose credits are spent. What is spent is what is there now, by priority, then"
    " earliest expiry, then oldest. Not enough is a 200 with `allowed: false`; `reason` is insufficient_credits,"
    " budget_exceeded (then `budget` says which) or entity_inactive (also of a deleted one)."
    " 422: metric_not_rated, credit_system_ambiguous (several systems rate it: name one), metric_not_consumable,"
    " missing_property, invalid_property, usage_not_positive. Amounts are decimal strings."
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/usage/check",
        handler=check,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="What a use would cost in credits, and whether it could be paid",
        description="Changes nothing and promises nothing: only `/usage/track` takes credits. " + _RULES,
        tag="Product credits",
        body=UseBody,
        body_aliases=_ALIASES,
        reply_schema=shape(
            advisory=BOOLEAN,
            allowed=BOOLEAN,
            metric_amount=STRING,
            credit_system=STRING,
            credits_required=STRING,
            available=STRING,
        ),
        errors=(404, 422),
        example=Example(
            request=_REQUEST,
            response={
                "advisory": True,
                "allowed": True,
                "metric_amount": "1500",
                "credit_system": "ai_credits",
                "credits_required": "3",
                "available": "100",
                "projected_remaining": "97",
                "projected_deductions": [_TAKEN],
                "entity_id": "research-agent",
                "pool_policy": "entity_then_customer",
            },
        ),
    ),
    Endpoint(
        method="POST",
        path="/usage/track",
        handler=track,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Take credits for a use",
        description=(
            "All or nothing, in one transaction: the deduction, the operation, and a meter event under the id of the"
            " operation, with the property `paid_by: credits`. It counts as usage of the metric, and charges leave it out,"
            " but those that have a filter on `paid_by`. A denial is kept too, takes nothing and makes no event. "
            + _RULES
        ),
        tag="Product credits",
        body=UseBody,
        body_aliases=_ALIASES,
        reply_schema=shape(
            allowed=BOOLEAN,
            operation_id=STRING,
            metric_amount=STRING,
            credit_system=STRING,
            credits_required=STRING,
            credits_consumed=STRING,
            available=STRING,
            remaining=STRING,
            deductions=array(_DEDUCTION),
        ),
        errors=(404, 422),
        idempotent=True,
        key_required=True,
        ledger=True,
        transaction=False,
        own_claims=True,
        example=Example(
            request=_REQUEST,
            response={
                "allowed": True,
                "operation_id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                "metric_amount": "1500",
                "credit_system": "ai_credits",
                "credits_required": "3",
                "credits_consumed": "3",
                "available": "100",
                "remaining": "97",
                "deductions": [_TAKEN],
                "entity_id": "research-agent",
                "pool_policy": "entity_then_customer",
            },
        ),
    ),
)
