"""The coupons that customers have, in Core's form."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.routes.coupons import rate_text
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.ids import from_text
from nozle_server.coupons import applied_store, operations
from nozle_server.coupons.drafts import AppliedCouponDraft
from nozle_server.coupons.model import AppliedCoupon, CouponUse
from nozle_server.coupons.queries import uses_of
from nozle_server.customers.queries import get_customer

Status = Literal["active", "terminated"]


class AppliedCouponBody(msgspec.Struct):
    applied_coupon: AppliedCouponDraft


class CustomerQuery(PageQuery):
    status: Status | UnsetType = UNSET
    coupon_code: list[str] = msgspec.field(default_factory=list)


class AppliedCouponsQuery(CustomerQuery):
    external_customer_id: str | None = None


def applied_coupon_json(applied: AppliedCoupon) -> dict[str, object]:
    coupon = applied.coupon
    return {
        "lago_id": applied.id,
        "nozle_id": applied.id,
        "lago_coupon_id": coupon.id,
        "coupon_code": coupon.code,
        "coupon_name": coupon.name,
        "lago_customer_id": applied.customer_id,
        "external_customer_id": applied.external_customer_id,
        "status": applied.status,
        "amount_cents": applied.terms.amount_cents,
        "amount_cents_remaining": applied.remaining_cents,
        "amount_currency": applied.terms.currency,
        "percentage_rate": rate_text(applied.terms.percentage_rate),
        "frequency": applied.terms.frequency,
        "frequency_duration": applied.terms.frequency_duration,
        "frequency_duration_remaining": applied.frequency_duration_remaining,
        "expiration_at": coupon.expiration_at,
        "created_at": applied.created_at,
        "terminated_at": applied.terminated_at,
    }


def credit_json(applied: AppliedCoupon, use: CouponUse) -> dict[str, object]:
    coupon = applied.coupon
    return {
        "lago_id": use.id,
        "nozle_id": use.id,
        "amount_cents": use.amount_cents,
        "amount_currency": use.currency,
        "before_taxes": True,
        "item": {
            "lago_item_id": coupon.id,
            "type": "coupon",
            "code": coupon.code,
            "name": coupon.name,
            "description": coupon.description,
        },
        "invoice": {"lago_id": use.invoice_id, "payment_status": use.payment_status},
    }


async def apply_coupon(call: Call) -> object:
    applied = await operations.apply_coupon(
        call.tx, org_id=call.org_id, draft=call.body.applied_coupon, now=call.now
    )
    return {"applied_coupon": applied_coupon_json(applied)}


async def list_applied_coupons(call: Call) -> object:
    query: AppliedCouponsQuery = call.query
    return await _list(call, query, query.external_customer_id)


async def list_applied_coupons_of_customer(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["external_customer_id"])
    return await _list(call, call.query, customer.external_id)


async def remove_applied_coupon(call: Call) -> object:
    applied = await operations.remove_applied_coupon(
        call.tx,
        org_id=call.org_id,
        external_customer_id=call.path["external_customer_id"],
        applied_coupon_id=from_text("ac", call.path["applied_coupon_id"], what="applied coupon"),
        now=call.now,
    )
    return {"applied_coupon": applied_coupon_json(applied)}


async def _list(call: Call, query: CustomerQuery, external_customer_id: str | None) -> object:
    found, total = await applied_store.list_applied(
        call.tx,
        call.org_id,
        external_customer_id=external_customer_id,
        coupon_codes=query.coupon_code,
        status=None if query.status is UNSET else query.status,
        limit=query.per_page,
        offset=query.offset,
    )
    return {"applied_coupons": await _with_credits(call, found), "meta": page_meta(query, total)}


async def _with_credits(call: Call, found: Sequence[AppliedCoupon]) -> list[dict[str, object]]:
    uses = await uses_of(call.tx, call.org_id, found)
    return [
        {**applied_coupon_json(one), "credits": [credit_json(one, use) for use in uses[one.id]]}
        for one in found
    ]


_ONE = shape(applied_coupon=ANY_OBJECT)
_MANY = shape(applied_coupons=array(ANY_OBJECT), meta=PAGE_META)
_EXAMPLE: dict[str, object] = {
    "external_customer_id": "cust_123",
    "coupon_code": "startup_deal",
    "status": "active",
    "amount_cents": 2000,
    "amount_currency": "USD",
    "frequency": "recurring",
    "frequency_duration": 3,
    "frequency_duration_remaining": 3,
}
_LISTED = Example(
    response={"applied_coupons": [{**_EXAMPLE, "credits": []}], "meta": page_meta(PageQuery(), 1)}
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/applied_coupons",
        handler=apply_coupon,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Give a coupon to a customer",
        description="Amount, rate, frequency and duration stand above the coupon's own. A customer without a currency gets"
        " the coupon's.",
        tag="Coupons",
        body=AppliedCouponBody,
        reply_schema=_ONE,
        errors=(404, 422),
        idempotent=True,
        example=Example(
            request={
                "applied_coupon": {
                    "external_customer_id": "cust_123",
                    "coupon_code": "startup_deal",
                    "amount_cents": 2000,
                    "amount_currency": "USD",
                    "frequency": "recurring",
                    "frequency_duration": 3,
                }
            },
            response={"applied_coupon": _EXAMPLE},
        ),
    ),
    Endpoint(
        method="GET",
        path="/applied_coupons",
        handler=list_applied_coupons,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List applied coupons",
        description="Newest first, each with what invoices took of it.",
        tag="Coupons",
        query=AppliedCouponsQuery,
        reply_schema=_MANY,
        errors=(422,),
        example=_LISTED,
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_customer_id}/applied_coupons",
        handler=list_applied_coupons_of_customer,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a customer's coupons",
        tag="Coupons",
        query=CustomerQuery,
        reply_schema=_MANY,
        errors=(404, 422),
        example=_LISTED,
    ),
    Endpoint(
        method="DELETE",
        path="/customers/{external_customer_id}/applied_coupons/{applied_coupon_id}",
        handler=remove_applied_coupon,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Take a coupon away from a customer",
        tag="Coupons",
        reply_schema=_ONE,
        errors=(404,),
        example=Example(
            response={
                "applied_coupon": {
                    **_EXAMPLE,
                    "status": "terminated",
                    "terminated_at": "2026-03-01T00:00:00Z",
                }
            }
        ),
    ),
)
