"""Payments, in Core's form."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.instants import read_instant
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import from_text
from nozle_server.customers.queries import get_customer
from nozle_server.customers.store import find_by_id
from nozle_server.payments import store
from nozle_server.payments.model import Payment
from nozle_server.workflows.record_payment import record_payment

_AHEAD = timedelta(days=1)


class NewPayment(msgspec.Struct):
    """`paid_at` is when the money came, by default now."""

    invoice_id: str
    amount_cents: int
    reference: str | None = None
    paid_at: str | None = None


class PaymentBody(msgspec.Struct):
    payment: NewPayment


class CustomerPaymentsQuery(PageQuery):
    invoice_id: str | None = None


class PaymentsQuery(CustomerPaymentsQuery):
    external_customer_id: str | None = None


async def create(call: Call) -> object:
    body: NewPayment = call.body.payment
    payment = await record_payment(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", body.invoice_id, what="invoice"),
        amount_cents=body.amount_cents,
        reference=body.reference,
        paid_at=_paid_at(body.paid_at, call.now),
        now=call.now,
    )
    [shown] = await _shown(call, [payment])
    return {"payment": shown}


async def show(call: Call) -> object:
    payment = await store.find(call.tx, call.org_id, from_text("pay", call.path["id"], what="payment"))
    if payment is None:
        raise NotFound("payment not found", code="payment_not_found")
    [shown] = await _shown(call, [payment])
    return {"payment": shown}


async def index(call: Call) -> object:
    query: PaymentsQuery = call.query
    return await _list(call, query, query.external_customer_id)


async def index_of_customer(call: Call) -> object:
    return await _list(call, call.query, call.path["external_customer_id"])


async def _list(call: Call, query: CustomerPaymentsQuery, external_customer_id: str | None) -> object:
    customer = (
        await get_customer(call.tx, call.org_id, external_customer_id)
        if external_customer_id is not None
        else None
    )
    payments, total = await store.list_payments(
        call.tx,
        call.org_id,
        invoice_id=from_text("inv", query.invoice_id, what="invoice") if query.invoice_id else None,
        customer_id=customer.id if customer else None,
        limit=query.per_page,
        offset=query.offset,
    )
    return {"payments": await _shown(call, payments), "meta": page_meta(query, total)}


def _paid_at(text: str | None, now: datetime) -> datetime:
    paid_at = read_instant(text, "paid_at") or now
    if paid_at > now + _AHEAD:
        raise InvalidInput("paid_at lies ahead", details={"paid_at": ["invalid_date"]})
    return paid_at


async def _shown(call: Call, payments: Sequence[Payment]) -> list[dict[str, object]]:
    names: dict[UUID, str] = {}
    for payment in payments:
        if payment.customer_id not in names:
            customer = await find_by_id(call.tx, call.org_id, payment.customer_id)
            assert customer is not None, "customers are only marked as deleted"
            names[payment.customer_id] = customer.external_id
    numbers = await store.invoice_numbers(call.tx, call.org_id, payments)
    return [
        payment_json(payment, names[payment.customer_id], numbers[payment.invoice_id]) for payment in payments
    ]


def payment_json(payment: Payment, external_customer_id: str, invoice_number: str) -> dict[str, object]:
    """Core's payment object; `created_at` is when it was paid, as Lago. Clients want a reference, be it empty."""
    return {
        "lago_id": payment.id,
        "nozle_id": payment.id,
        "lago_customer_id": payment.customer_id,
        "external_customer_id": external_customer_id,
        "invoice_ids": [payment.invoice_id],
        "invoice_numbers": [invoice_number],
        "lago_payable_id": payment.invoice_id,
        "payable_type": "Invoice",
        "amount_cents": payment.amount_cents,
        "amount_currency": payment.currency,
        "status": payment.payment_status,
        "payment_status": payment.payment_status,
        "type": payment.payment_type,
        "reference": payment.reference or "",
        "payment_provider_code": None,
        "payment_provider_type": None,
        "external_payment_id": payment.provider_payment_id,
        "provider_payment_id": payment.provider_payment_id,
        "provider_customer_id": None,
        "next_action": {},
        "created_at": payment.paid_at,
    }


_UUID = "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e"
_PAYMENT = {
    "lago_id": _UUID,
    "invoice_ids": [_UUID],
    "invoice_numbers": ["NOZ-1234-001-002"],
    "amount_cents": 9900,
    "amount_currency": "USD",
    "payment_status": "succeeded",
    "type": "manual",
    "reference": "wire 4711",
}
_ONE = shape(payment=ANY_OBJECT)
_MANY = shape(payments=array(ANY_OBJECT), meta=PAGE_META)
_LISTED = Example(response={"payments": [_PAYMENT], "meta": page_meta(PageQuery(), 1)})
_TAG = "Payments"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/payments",
        handler=create,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Record a payment",
        description="Money that came in for a final invoice, all of what is due or a part.",
        tag=_TAG,
        body=PaymentBody,
        reply_schema=_ONE,
        errors=(403, 404, 422),
        idempotent=True,
        example=Example(
            request={"payment": {"invoice_id": _UUID, "amount_cents": 9900, "reference": "wire 4711"}},
            response={"payment": _PAYMENT},
        ),
    ),
    Endpoint(
        method="GET",
        path="/payments",
        handler=index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List payments",
        tag=_TAG,
        query=PaymentsQuery,
        reply_schema=_MANY,
        errors=(404, 422),
        snapshot=True,
        example=_LISTED,
    ),
    Endpoint(
        method="GET",
        path="/payments/{id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a payment",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"payment": _PAYMENT}),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_customer_id}/payments",
        handler=index_of_customer,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a customer's payments",
        tag=_TAG,
        query=CustomerPaymentsQuery,
        reply_schema=_MANY,
        errors=(404, 422),
        snapshot=True,
        example=_LISTED,
    ),
)
