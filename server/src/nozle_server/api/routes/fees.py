"""Fees (invoice lines by themselves), in Core's form."""

from typing import Literal

import msgspec

from nozle_server.api.core_fees import fees_json
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.instants import read_instant
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.ids import from_text
from nozle_server.invoicing import fee_operations, fee_store
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.fee_store import FeeFilter
from nozle_server.invoicing.model import LineKind

PaymentStatus = Literal["pending", "succeeded", "failed", "refunded"]


class FeesQuery(PageQuery):
    """Instants are both included."""

    fee_type: LineKind | None = None
    payment_status: PaymentStatus | None = None
    external_subscription_id: str | None = None
    external_customer_id: str | None = None
    billable_metric_code: str | None = None
    currency: str | None = None
    event_transaction_id: str | None = None
    created_at_from: str | None = None
    created_at_to: str | None = None
    succeeded_at_from: str | None = None
    succeeded_at_to: str | None = None
    failed_at_from: str | None = None
    failed_at_to: str | None = None
    refunded_at_from: str | None = None
    refunded_at_to: str | None = None


class FeeChanges(msgspec.Struct):
    payment_status: PaymentStatus


class FeeBody(msgspec.Struct):
    fee: FeeChanges


async def index(call: Call) -> object:
    query: FeesQuery = call.query
    wanted = FeeFilter(
        kind=query.fee_type,
        payment_status=query.payment_status,
        external_subscription_id=query.external_subscription_id,
        external_customer_id=query.external_customer_id,
        metric_code=query.billable_metric_code,
        currency=query.currency,
        event_transaction_id=query.event_transaction_id,
        created_from=read_instant(query.created_at_from, "created_at_from"),
        created_to=read_instant(query.created_at_to, "created_at_to"),
        succeeded_from=read_instant(query.succeeded_at_from, "succeeded_at_from"),
        succeeded_to=read_instant(query.succeeded_at_to, "succeeded_at_to"),
        failed_from=read_instant(query.failed_at_from, "failed_at_from"),
        failed_to=read_instant(query.failed_at_to, "failed_at_to"),
        refunded_from=read_instant(query.refunded_at_from, "refunded_at_from"),
        refunded_to=read_instant(query.refunded_at_to, "refunded_at_to"),
    )
    lines, total = await fee_store.list_fees(
        call.tx, call.org_id, wanted, limit=query.per_page, offset=query.offset
    )
    return {"fees": await fees_json(call.tx, call.org_id, lines), "meta": page_meta(query, total)}


async def show(call: Call) -> object:
    line = await invoicing_store.find_line(
        call.tx, call.org_id, from_text("line", call.path["id"], what="fee")
    )
    if line is None:
        raise fee_operations.unknown_fee()
    [shown] = await fees_json(call.tx, call.org_id, [line])
    return {"fee": shown}


async def update(call: Call) -> object:
    line = await fee_operations.set_fee_payment_status(
        call.tx,
        org_id=call.org_id,
        line_id=from_text("line", call.path["id"], what="fee"),
        status=call.body.fee.payment_status,
        now=call.now,
    )
    [shown] = await fees_json(call.tx, call.org_id, [line])
    return {"fee": shown}


async def delete(call: Call) -> object:
    line = await fee_operations.delete_fee(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        line_id=from_text("line", call.path["id"], what="fee"),
    )
    [shown] = await fees_json(call.tx, call.org_id, [line])
    return {"fee": shown}


_FEE = {
    "lago_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e",
    "item": {"type": "charge", "code": "llm_tokens", "name": "LLM tokens", "item_type": "BillableMetric"},
    "amount_cents": 1200,
    "amount_currency": "USD",
    "precise_amount": "12",
    "units": "1200",
    "precise_unit_amount": "0.01",
    "payment_status": "pending",
}
_ONE = shape(fee=ANY_OBJECT)
_SHOWN = Example(response={"fee": _FEE})
_TAG = "Fees"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/fees",
        handler=index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List fees",
        tag=_TAG,
        query=FeesQuery,
        reply_schema=shape(fees=array(ANY_OBJECT), meta=PAGE_META),
        errors=(422,),
        snapshot=True,
        example=Example(response={"fees": [_FEE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/fees/{id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a fee",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404,),
        snapshot=True,
        example=_SHOWN,
    ),
    Endpoint(
        method="PUT",
        path="/fees/{id}",
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Say where the payment of a fee stands",
        description="Only of a fee paid in advance that is never invoiced; any other is paid with its invoice.",
        tag=_TAG,
        body=FeeBody,
        reply_schema=_ONE,
        errors=(404, 405, 422),
        idempotent=True,
        example=Example(request={"fee": {"payment_status": "succeeded"}}, response={"fee": _FEE}),
    ),
    Endpoint(
        method="DELETE",
        path="/fees/{id}",
        handler=delete,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Delete a fee",
        description="Only of a fee paid in advance that is on no invoice.",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404, 405),
        idempotent=True,
        example=_SHOWN,
    ),
)
