"""Subscriptions in the seed's form: subscribe, and where a customer stands."""

from typing import Annotated

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, STRING, optional, shape
from nozle_server.api.subscription_fields import billing_time_of, optional_instant
from nozle_server.api.subscription_shapes import standing_json
from nozle_server.core.text import parse_id
from nozle_server.customers.queries import get_customer
from nozle_server.identity.queries import get_organization
from nozle_server.workflows.subscribe import subscribe

CUSTOMER_ALIASES = {"customerId": "customer_id", "external_customer_id": "customer_id"}
PLAN_ALIASES = {"planCode": "plan_code", "planId": "plan_code", "plan_id": "plan_code"}


class SubscribeBody(msgspec.Struct):
    """`billing_time` is anniversary or calendar. `subscription_at` is when it starts, now unless given, later or in the
    past; `ending_at` ends it by itself. `plan_version` is a version of the plan other than the current one."""

    customer_id: str
    plan_code: str
    billing_time: str = "anniversary"
    subscription_at: object = None
    ending_at: object = None
    plan_version: Annotated[int, msgspec.Meta(ge=1)] | None = None


class CustomerQuery(msgspec.Struct):
    customer_id: str


async def create(call: Call) -> object:
    body: SubscribeBody = call.body
    organization = await get_organization(call.tx, call.org_id)
    subscription = await subscribe(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        customer_id=body.customer_id,
        plan_code=parse_id(body.plan_code, "plan_code"),
        billing_time=billing_time_of(body.billing_time),
        organization_timezone=organization.timezone,
        subscription_at=optional_instant(body.subscription_at, "subscription_at"),
        ending_at=optional_instant(body.ending_at, "ending_at"),
        plan_version=body.plan_version,
        now=call.now,
    )
    return {"subscription_id": subscription.external_id, "status": subscription.status}


async def billing_status(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.query.customer_id)
    return await standing_json(call.tx, customer, call.now)


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
        body_aliases={**CUSTOMER_ALIASES, **PLAN_ALIASES},
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
            query_aliases=CUSTOMER_ALIASES,
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
)
