"""What a customer has used: one metric for its browser, and Core's current, past and projected usage."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec

from nozle_server.api.core_usage import charge_usage_json, past_json, period_json
from nozle_server.api.endpoint import CORE, SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, NUMBER, PAGE_META, STRING, array, optional, shape
from nozle_server.api.strict_json import read_json
from nozle_server.catalog import feature_store, metric_store
from nozle_server.core.errors import InvalidInput, NotFound, NotPossible, NozleError
from nozle_server.core.rounding import EXACT, divide
from nozle_server.core.text import parse_id
from nozle_server.customers.queries import get_customer
from nozle_server.entitlements.model import Reason
from nozle_server.entitlements.queries import Question, can
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.queries import find_current
from nozle_server.workflows.current_usage import (
    ALL_CHARGES,
    ChargeChoice,
    CurrentUsage,
    current_usage,
    find_running,
    past_usage,
    project_usage,
    used_now,
)
from nozle_server.workflows.lifetime_usage import (
    find_subscription,
    lifetime_usage,
    set_historical_usage,
)


class CurrentUsageQuery(msgspec.Struct):
    """`charge_id`, `charge_code`, `billable_metric_code` and `group[key]` narrow what is shown; the older names begin with
    `filter_by_`, of which `filter_by_group` is a JSON object of pricing group keys to values. `full_usage` looks at the
    subscription's whole life."""

    external_subscription_id: str | None = None
    apply_taxes: bool = True
    filter_by_charge_id: str | None = None
    filter_by_charge_code: str | None = None
    filter_by_metric_code: str | None = None
    filter_by_group: str | None = None
    group: dict[str, str] = msgspec.field(default_factory=dict)
    full_usage: bool = False


class ProjectedUsageQuery(msgspec.Struct):
    external_subscription_id: str | None = None
    apply_taxes: bool = True


class LifetimeUsageDraft(msgspec.Struct):
    external_historical_usage_amount_cents: int


class LifetimeUsageBody(msgspec.Struct):
    lifetime_usage: LifetimeUsageDraft


class PastUsageQuery(PageQuery):
    external_subscription_id: str | None = None
    billable_metric_code: str | None = None
    periods_count: Annotated[int, msgspec.Meta(ge=1)] | None = None


async def show_metric_usage(call: Call) -> object:
    """One metric's usage in the running period, beside the limit of the plan."""
    code = parse_id(call.path["metric_code"], "metric_code")
    customer = await get_customer(call.tx, call.org_id, call.path["customer_id"])
    metric_code = await _metric_code(call, code)
    decided = await can(
        call.services.snapshots,
        call.services.economics,
        org_id=call.org_id,
        question=Question(customer.external_id, code, {}, None),
        with_costs=False,
        real_now=call.received_at,
    )
    decision = decided.decision
    current = await find_current(call.tx, call.org_id, customer.id, call.now)
    used, limit = decision.used, decision.limit
    if decision.reason is Reason.FEATURE_NOT_IN_PLAN and metric_code is not None and current is not None:
        # Counted all the same, though the plan says nothing of it.
        used = await used_now(call.tx, call.services.seams, current, metric_code=metric_code, now=call.now)
    return {
        "customer_id": customer.external_id,
        "metric": code,
        "value": used,
        "total": used,
        "used": used,
        "limit": limit,
        "remaining": decision.remaining,
        "percentage": divide(EXACT.multiply(used, Decimal(100)), limit) if limit else None,
        "period_start": current.current_period_start if current else None,
        "period_end": current.current_period_end if current else None,
    }


async def _metric_code(call: Call, code: str) -> str | None:
    """The metric that a code means: a feature's, else the metric of that code. None for a feature without one."""
    feature = await feature_store.find_feature(call.tx, call.org_id, code)
    if feature is not None:
        return feature.metric_code
    metric = await metric_store.find_metric(call.tx, call.org_id, code)
    if metric is None:
        raise _unknown_metric()
    return metric.code


async def show_current(call: Call) -> object:
    query: CurrentUsageQuery = call.query
    group = {**_group(query.filter_by_group), **{key: [value] for key, value in query.group.items()}}
    usage = await _usage(
        call,
        query.external_subscription_id,
        apply_taxes=query.apply_taxes,
        choice=ChargeChoice(
            _charge_id(query.filter_by_charge_id), query.filter_by_charge_code, query.filter_by_metric_code
        ),
        since_start=query.full_usage,
        wanted=lambda line: _in_group(line, group),
    )
    shown = {
        **period_json(usage),
        "charges_usage": [
            charge_usage_json(one, usage.version.currency, past=False) for one in usage.charges
        ],
    }
    return {"customer_usage": shown}


async def show_projected(call: Call) -> object:
    query: ProjectedUsageQuery = call.query
    usage = await _usage(call, query.external_subscription_id, apply_taxes=query.apply_taxes)
    projections = project_usage(usage, call.now)
    shown = {
        **period_json(usage),
        "projected_amount_cents": sum(one.amount_cents for one in projections.values()),
        "charges_usage": [
            charge_usage_json(one, usage.version.currency, past=False, projections=projections)
            for one in usage.charges
        ],
    }
    return {"customer_projected_usage": shown}


async def list_past(call: Call) -> object:
    query: PastUsageQuery = call.query
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    external_id = _subscription_id(query.external_subscription_id)
    metric = None
    if query.billable_metric_code is not None:
        metric = await metric_store.find_metric(call.tx, call.org_id, query.billable_metric_code)
        if metric is None:
            raise _unknown_metric()
    most = query.periods_count
    periods, total = await past_usage(
        call.tx,
        call.org_id,
        customer.id,
        external_id,
        metric_id=metric.id if metric else None,
        limit=query.per_page if most is None else max(0, min(query.per_page, most - query.offset)),
        offset=query.offset,
    )
    total = total if most is None else min(total, most)
    return {"usage_periods": [past_json(one) for one in periods], "meta": page_meta(query, total)}


async def show_lifetime(call: Call) -> object:
    subscription = await find_subscription(call.tx, call.org_id, call.path["external_id"])
    return await _lifetime(call, subscription)


async def update_lifetime(call: Call) -> object:
    """What is known of the time before is kept for all plans that the customer has under this id."""
    body: LifetimeUsageDraft = call.body.lifetime_usage
    subscription = await set_historical_usage(
        call.tx,
        org_id=call.org_id,
        external_id=call.path["external_id"],
        amount_cents=body.external_historical_usage_amount_cents,
        now=call.now,
    )
    return await _lifetime(call, subscription)


async def _lifetime(call: Call, subscription: Subscription) -> object:
    usage = await lifetime_usage(call.tx, call.services.seams, subscription, now=call.now)
    shown: dict[str, object] = {
        "lago_id": subscription.id,
        "nozle_id": subscription.id,
        "lago_subscription_id": subscription.id,
        "external_subscription_id": subscription.external_id,
        "external_historical_usage_amount_cents": usage.historical_cents,
        "invoiced_usage_amount_cents": usage.invoiced_cents,
        "current_usage_amount_cents": usage.current_cents,
        "from_datetime": subscription.subscription_at,
        "to_datetime": call.now,
    }
    if usage.thresholds:
        shown["usage_thresholds"] = [
            {"amount_cents": amount, "completion_ratio": ratio} for amount, ratio in usage.thresholds
        ]
    return {"lifetime_usage": shown}


async def _usage(
    call: Call,
    external_subscription_id: str | None,
    *,
    apply_taxes: bool,
    choice: ChargeChoice = ALL_CHARGES,
    since_start: bool = False,
    wanted: Callable[[InvoiceLine], bool] | None = None,
) -> CurrentUsage:
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    external_id = _subscription_id(external_subscription_id)
    subscription = await find_running(call.tx, call.org_id, customer.id, external_id, call.now)
    if subscription is None:
        raise NotPossible("the customer has no such active subscription", code="no_active_subscription")
    return await current_usage(
        call.tx,
        call.services.seams,
        subscription,
        now=call.now,
        apply_taxes=apply_taxes,
        choice=choice,
        since_start=since_start,
        wanted=wanted,
    )


def _unknown_metric() -> NotFound:
    return NotFound("billable metric not found", code="billable_metric_not_found")


def _subscription_id(value: str | None) -> str:
    if value is None:
        raise InvalidInput(
            "external_subscription_id is required",
            details={"external_subscription_id": ["value_is_mandatory"]},
        )
    return parse_id(value, "external_subscription_id")


def _charge_id(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise _invalid("filter_by_charge_id") from None


def _group(text: str | None) -> Mapping[str, Sequence[str]]:
    if text is None:
        return {}
    try:
        group = read_json(text.encode())
    except NozleError:
        raise _invalid("filter_by_group") from None
    if not isinstance(group, dict):
        raise _invalid("filter_by_group")
    wanted = {key: value if isinstance(value, list) else [value] for key, value in group.items()}
    if not all(isinstance(value, str) for values in wanted.values() for value in values):
        raise _invalid("filter_by_group")
    return wanted


def _in_group(line: InvoiceLine, group: Mapping[str, Sequence[str]]) -> bool:
    return all(line.grouped_by.get(key) in values for key, values in group.items())


def _invalid(field: str) -> InvalidInput:
    return InvalidInput(f"{field} cannot have this value", details={field: ["value_is_invalid"]})


_LIFETIME = {
    "external_subscription_id": "sub_123",
    "external_historical_usage_amount_cents": 0,
    "invoiced_usage_amount_cents": 10000,
    "current_usage_amount_cents": 123,
    "from_datetime": "2026-01-01T00:00:00Z",
    "to_datetime": "2026-02-05T00:00:00Z",
}
_USAGE = {
    "units": "1000.0",
    "total_aggregated_units": "1000.0",
    "events_count": 10,
    "amount_cents": 123,
    "amount_currency": "USD",
    "charge": {"charge_model": "standard", "invoice_display_name": None},
    "billable_metric": {"name": "Tokens", "code": "llm_tokens", "aggregation_type": "sum_agg"},
    "filters": [],
    "grouped_usage": [],
}
_PERIOD = {
    "from_datetime": "2026-01-01T00:00:00Z",
    "to_datetime": "2026-01-31T23:59:59Z",
    "issuing_date": "2026-02-01",
    "lago_invoice_id": None,
    "currency": "USD",
    "amount_cents": 123,
    "taxes_amount_cents": 0,
    "total_amount_cents": 123,
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/usage/{customer_id}/{metric_code}",
        handler=show_metric_usage,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="How much of a metric a customer has used",
        description="In the running period, beside the limit of the plan (null: unlimited). A feature's code is taken too.",
        tag="Usage",
        reply_schema=shape(
            customer_id=STRING,
            metric=STRING,
            value=NUMBER,
            used=NUMBER,
            limit=optional(NUMBER),
            remaining=optional(NUMBER),
            percentage=optional(NUMBER),
        ),
        errors=(404,),
        customer_data=CustomerData("path", "customer_id", "entitlements:read"),
        example=Example(
            response={
                "customer_id": "cust_123",
                "metric": "llm_tokens",
                "value": 750,
                "total": 750,
                "used": 750,
                "limit": 1000,
                "remaining": 250,
                "percentage": 75,
                "period_start": "2026-01-01T00:00:00Z",
                "period_end": "2026-02-01T00:00:00Z",
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_id}/current_usage",
        handler=show_current,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a subscription's usage of the running period",
        description="Priced as the invoice will price it, minimums aside. 405 `no_active_subscription`.",
        tag="Usage",
        query=CurrentUsageQuery,
        query_aliases={
            "charge_id": "filter_by_charge_id",
            "charge_code": "filter_by_charge_code",
            "billable_metric_code": "filter_by_metric_code",
        },
        reply_schema=shape(customer_usage=ANY_OBJECT),
        errors=(404, 405, 422),
        snapshot=True,
        example=Example(response={"customer_usage": {**_PERIOD, "charges_usage": [_USAGE]}}),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_id}/projected_usage",
        handler=show_projected,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a subscription's usage as it will be when the period ends",
        description="Units grow by local days, today included; the charge's own model prices them.",
        tag="Usage",
        query=ProjectedUsageQuery,
        reply_schema=shape(customer_projected_usage=ANY_OBJECT),
        errors=(404, 405, 422),
        snapshot=True,
        example=Example(
            response={
                "customer_projected_usage": {
                    **_PERIOD,
                    "projected_amount_cents": 246,
                    "charges_usage": [{**_USAGE, "projected_units": "2000.0", "projected_amount_cents": 246}],
                }
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_id}/past_usage",
        handler=list_past,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a subscription's usage of past periods",
        description="As it was invoiced, newest first.",
        tag="Usage",
        query=PastUsageQuery,
        reply_schema=shape(usage_periods=array(ANY_OBJECT), meta=PAGE_META),
        errors=(404, 422),
        snapshot=True,
        example=Example(
            response={
                "usage_periods": [{**_PERIOD, "charges_usage": [_USAGE]}],
                "meta": page_meta(PageQuery(), 1),
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/subscriptions/{external_id}/lifetime_usage",
        handler=show_lifetime,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a subscription's usage of all time",
        description="Before it came to us, invoiced, and of the running period; without tax.",
        tag="Usage",
        reply_schema=shape(lifetime_usage=ANY_OBJECT),
        errors=(404,),
        snapshot=True,
        example=Example(response={"lifetime_usage": _LIFETIME}),
    ),
    Endpoint(
        method="PUT",
        path="/subscriptions/{external_id}/lifetime_usage",
        handler=update_lifetime,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Say what a subscription had used before",
        description="It counts towards usage thresholds and alerts on lifetime usage.",
        tag="Usage",
        body=LifetimeUsageBody,
        reply_schema=shape(lifetime_usage=ANY_OBJECT),
        errors=(404, 422),
        example=Example(
            request={"lifetime_usage": {"external_historical_usage_amount_cents": 5000}},
            response={"lifetime_usage": {**_LIFETIME, "external_historical_usage_amount_cents": 5000}},
        ),
    ),
)
