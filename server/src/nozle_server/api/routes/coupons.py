"""Coupons as they are defined, in Core's form."""

from datetime import datetime
from decimal import Decimal

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import Call
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.core.numbers import to_decimal_text
from nozle_server.coupons import definitions, store
from nozle_server.coupons.drafts import CouponChanges, CouponDraft
from nozle_server.coupons.model import Coupon
from nozle_server.coupons.queries import get_coupon


class CouponBody(msgspec.Struct):
    coupon: CouponDraft


class CouponChangesBody(msgspec.Struct):
    coupon: CouponChanges


def rate_text(rate: Decimal | None) -> str | None:
    """A percentage as Lago writes it: text with a decimal at least."""
    return None if rate is None else to_decimal_text(rate)


def coupon_json(coupon: Coupon, now: datetime) -> dict[str, object]:
    return {
        "lago_id": coupon.id,
        "nozle_id": coupon.id,
        "name": coupon.name,
        "code": coupon.code,
        "description": coupon.description,
        "coupon_type": coupon.coupon_type,
        "amount_cents": coupon.terms.amount_cents,
        "amount_currency": coupon.terms.currency,
        "percentage_rate": rate_text(coupon.terms.percentage_rate),
        "frequency": coupon.terms.frequency,
        "frequency_duration": coupon.terms.frequency_duration,
        "reusable": coupon.reusable,
        "limited_plans": coupon.limits.limited_plans,
        "limited_billable_metrics": coupon.limits.limited_billable_metrics,
        "plan_codes": coupon.limits.plan_codes,
        "billable_metric_codes": coupon.limits.metric_codes,
        "created_at": coupon.created_at,
        "expiration": "time_limit" if coupon.expiration_at else "no_expiration",
        "expiration_at": coupon.expiration_at,
        "terminated_at": coupon.terminated_at(now),
    }


async def create_coupon(call: Call) -> object:
    coupon = await definitions.create_coupon(
        call.tx, org_id=call.org_id, draft=call.body.coupon, now=call.now
    )
    return {"coupon": coupon_json(coupon, call.now)}


async def update_coupon(call: Call) -> object:
    coupon = await definitions.update_coupon(
        call.tx, org_id=call.org_id, code=call.path["code"], changes=call.body.coupon, now=call.now
    )
    return {"coupon": coupon_json(coupon, call.now)}


async def show_coupon(call: Call) -> object:
    return {"coupon": coupon_json(await get_coupon(call.tx, call.org_id, call.path["code"]), call.now)}


async def delete_coupon(call: Call) -> object:
    coupon = await definitions.delete_coupon(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return {"coupon": coupon_json(coupon, call.now)}


async def list_coupons(call: Call) -> object:
    query: PageQuery = call.query
    coupons, total = await store.list_coupons(call.tx, call.org_id, limit=query.per_page, offset=query.offset)
    return {"coupons": [coupon_json(one, call.now) for one in coupons], "meta": page_meta(query, total)}


ENDPOINTS = (
    *core_resource(
        path="/coupons",
        name="coupon",
        plural="coupons",
        words="coupon",
        body=CouponBody,
        update_body=CouponChangesBody,
        tag="Coupons",
        example={
            "code": "startup_deal",
            "name": "Startup Deal",
            "coupon_type": "fixed_amount",
            "amount_cents": 5000,
            "amount_currency": "USD",
            "frequency": "recurring",
            "frequency_duration": 6,
            "expiration": "time_limit",
            "expiration_at": "2027-08-08T23:59:59Z",
            "reusable": True,
            "applies_to": {"plan_codes": ["pro"]},
        },
        create=create_coupon,
        index=list_coupons,
        show=show_coupon,
        update=update_coupon,
        delete=delete_coupon,
    ),
)
