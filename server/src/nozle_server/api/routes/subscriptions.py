"""Subscriptions: subscribe, where a customer stands, Core's list."""

import msgspec

from nozle_server.api.endpoint import BOTH, SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, PAGE_META, STRING, array, optional, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.periods import BillingTime
from nozle_server.core.text import parse_id
from nozle_server.customers.queries import get_customer
from nozle_server.identity.queries import get_organization
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.metering.timestamps import parse_timestamp
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.subscriptions.queries import find_current
from nozle_server.workflows.billing_status import PlanFacts, plan_facts
from nozle_server.workflows.subscribe import subscribe

_CUSTOMER_ALIASES = {"customerId": "customer_id", "external_customer_id": "customer_id"}
_PLAN_ALIASES = {"planCode": "plan_code", "planId": "plan_code", "plan_id": "plan_code"}


class SubscribeBody(msgspec.Struct):
    """`billing_time` is anniversary or calendar; `ending_at` ends the subscription by itself."""

    customer_id: str
    plan_code: str
    billing_time: str = "anniversary"
    ending_at: object = None


class CustomerQuery(msgspec.Struct):
    customer_id: str


class SubscriptionsQuery(PageQuery):
    external_customer_id: str | None = None
    plan_code: str | None = None
    status: list[str] = msgspec.field(default_factory=list)


async def create(call: Call) -> object:
    body: SubscribeBody = call.body
    try:
        billing_time = BillingTime(body.billing_time)
    except ValueError:
        raise InvalidInput(
            "billing_time must be anniversary or calendar", details={"billing_time": ["value_is_invalid"]}
        ) from None
    organization = await get_organization(call.tx, call.org_id)
    subscription = await subscribe(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        customer_id=body.customer_id,
        plan_code=parse_id(body.plan_code, "plan_code"),
        billing_time=billing_time,
        organization_timezone=organization.timezone,
        ending_at=None if body.ending_at is None else parse_timestamp(body.ending_at, "ending_at"),
        now=call.now,
    )
    return {"subscription_id": subscription.external_id, "status": subscription.status}


async def billing_status(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.query.customer_id)
    subscription = await find_current(call.tx, call.org_id, customer.id, call.now)
    plan = await plan_facts(call.tx, subscription) if subscription else None
    invoices, _ = await invoicing_store.list_invoices(
        call.tx,
        call.org_id,
        InvoiceFilter(customer_id=customer.id, statuses=("finalized",)),
        limit=1,
        offset=0,
    )
    return {
        "customer_id": customer.external_id,
        "payment_status": invoices[0].payment_status if invoices else None,
        **_standing(subscription, plan, call),
    }


def _standing(subscription: Subscription | None, plan: PlanFacts | None, call: Call) -> dict[str, object]:
    """Contract 1.12: outside the words of the dashboards, inside `subscription` Core's."""
    if subscription is None or plan is None:
        fields = (
            "id subscription_id plan plan_code plan_slug plan_name planName tier interval amount_cents amount_currency"
            " current_period_start current_period_end next_billing_date nextBillingDate ends_at trial_ends_at"
            " pending_plan subscription"
        )
        return {
            **dict.fromkeys(fields.split()),
            "status": "none",
            "subscription_status": "none",
            "cancel_at_period_end": False,
        }
    active = subscription.is_active_at(call.now)
    status = "active" if active else "pending" if subscription.started_at > call.now else "canceled"
    period = subscription.period_at(call.now, plan.version.usage_interval) if active else None
    start = period.start if period else subscription.current_period_start
    end = period.end if period else subscription.current_period_end
    next_billing = end if active else None
    return {
        "id": subscription.external_id,
        "subscription_id": subscription.external_id,
        "status": status,
        "subscription_status": status,
        "plan": plan.code,
        "plan_code": plan.code,
        "plan_slug": plan.code,
        "plan_name": plan.name,
        "planName": plan.name,
        "tier": plan.code,
        "interval": plan.version.interval,
        "amount_cents": plan.version.amount_cents,
        "amount_currency": plan.version.currency,
        "current_period_start": start,
        "current_period_end": end,
        "next_billing_date": next_billing,
        "nextBillingDate": next_billing,
        "cancel_at_period_end": False,
        "ends_at": subscription.terminated_at or subscription.ending_at,
        "trial_ends_at": None,
        "pending_plan": None,
        "subscription": {
            "id": subscription.external_id,
            "external_id": subscription.external_id,
            "status": subscription.status,
            "plan_code": plan.code,
            "started_at": subscription.started_at,
            "ending_at": subscription.ending_at,
        },
    }


async def index(call: Call) -> object:
    query: SubscriptionsQuery = call.query
    known = {status.value for status in Status}
    if not set(query.status) <= known | {"incomplete"}:
        raise InvalidInput("status is not one we have", details={"status": ["value_is_invalid"]})
    rows, total = await store.list_filtered(
        call.tx,
        call.org_id,
        external_customer_id=query.external_customer_id,
        plan_code=query.plan_code,
        statuses=query.status or ["active"],
        limit=query.per_page,
        offset=query.offset,
    )
    return {"subscriptions": [core_subscription(*row) for row in rows], "meta": page_meta(query, total)}


def core_subscription(
    subscription: Subscription, external_customer_id: str, plan_code: str
) -> dict[str, object]:
    """Core's subscription object."""
    return {
        "lago_id": subscription.id,
        "nozle_id": subscription.id,
        "external_id": subscription.external_id,
        "lago_customer_id": subscription.customer_id,
        "external_customer_id": external_customer_id,
        "plan_code": plan_code,
        "status": subscription.status,
        "name": subscription.name,
        "billing_time": subscription.billing_time,
        "subscription_at": subscription.started_at,
        "started_at": subscription.started_at,
        "ending_at": subscription.ending_at,
        "terminated_at": subscription.terminated_at,
        "canceled_at": subscription.canceled_at,
        "previous_plan_code": None,
        "next_plan_code": None,
        "downgrade_plan_date": None,
        "trial_ended_at": None,
        "current_billing_period_started_at": subscription.current_period_start,
        "current_billing_period_ending_at": subscription.current_period_end,
        "created_at": subscription.created_at,
    }


_STATUS_EXAMPLE = {
    "customer_id": "cust_123",
    "id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "status": "active",
    "plan": "pro",
    "plan_name": "Pro",
    "interval": "monthly",
    "amount_cents": 9900,
    "amount_currency": "USD",
    "current_period_start": "2026-01-15T10:30:00Z",
    "current_period_end": "2026-02-15T00:00:00Z",
}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/subscribe",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Subscribe a customer to a plan",
        description=(
            "Starts now, with the plan's credits and, for a plan paid in advance, its first invoice. On that plan already:"
            " the same subscription; on another: 409 `subscription_exists`."
        ),
        tag="Subscriptions",
        body=SubscribeBody,
        body_aliases={**_CUSTOMER_ALIASES, **_PLAN_ALIASES},
        reply_schema=shape(subscription_id=STRING, status=STRING),
        errors=(404, 409, 422),
        idempotent=True,
        example=Example(
            request={"customer_id": "cust_123", "plan_code": "pro"},
            response={"subscription_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e", "status": "active"},
        ),
    ),
    *(
        Endpoint(
            method="GET",
            path=path,
            handler=billing_status,
            scope=Scope.ANY_KEY,
            mounts=SEED,
            summary="Get where a customer stands",
            description=f'The same as `{alias}`. A customer without a subscription has `status: "none"`.',
            tag="Subscriptions",
            query=CustomerQuery,
            query_aliases=_CUSTOMER_ALIASES,
            reply_schema=shape(
                customer_id=STRING,
                status=STRING,
                plan=optional(STRING),
                current_period_start=optional(INSTANT),
                current_period_end=optional(INSTANT),
                subscription=optional(ANY_OBJECT),
            ),
            errors=(404,),
            customer_data=CustomerData("query", "customer_id", "billing:read"),
            example=Example(response=_STATUS_EXAMPLE),
        )
        for path, alias in (
            ("/billing/status", "/subscriptions/current"),
            ("/subscriptions/current", "/billing/status"),
        )
    ),
    Endpoint(
        method="GET",
        path="/subscriptions",
        handler=index,
        scope=Scope.SECRET,
        mounts=BOTH,
        summary="List subscriptions",
        description="Active ones unless `status[]` says otherwise.",
        tag="Subscriptions",
        query=SubscriptionsQuery,
        reply_schema=shape(subscriptions=array(ANY_OBJECT), meta=PAGE_META),
        example=Example(
            response={
                "subscriptions": [
                    {"external_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e", "status": "active"}
                ],
                "meta": page_meta(PageQuery(), 1),
            }
        ),
    ),
)
