"""Credit notes, in Core's form."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.api.core_credit_notes import credit_note_json, credit_notes_json, estimate_json
from nozle_server.api.endpoint import CORE, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text
from nozle_server.customers.queries import get_customer
from nozle_server.invoicing.credit_notes import store
from nozle_server.invoicing.credit_notes.model import CreditStatus, Reason, RefundStatus
from nozle_server.invoicing.credit_notes.operations import (
    CreditNoteDraft,
    estimate_credit_note,
    unknown_note,
    update_credit_note,
    void_credit_note,
)
from nozle_server.invoicing.credit_notes.store import CreditNoteFilter
from nozle_server.workflows.issue_credit_note import issue_credit_note

MAX_ITEMS = 1_000
MAX_METADATA = 50


class ItemBody(msgspec.Struct):
    """A fee, and how much of it before coupons and taxes."""

    fee_id: str
    amount_cents: Amount = Amount(0)


class NewCreditNote(msgspec.Struct):
    invoice_id: str
    items: list[ItemBody]
    reason: Reason = Reason.OTHER
    description: str | None = None
    credit_amount_cents: int | None = None
    refund_amount_cents: int | None = None
    offset_amount_cents: int | None = None
    metadata: dict[str, Any] | None = None


class NewCreditNoteBody(msgspec.Struct):
    credit_note: NewCreditNote


class CreditNoteChanges(msgspec.Struct):
    refund_status: RefundStatus | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


class CreditNoteChangesBody(msgspec.Struct):
    credit_note: CreditNoteChanges


class EstimateRequest(msgspec.Struct):
    invoice_id: str
    items: list[ItemBody]


class EstimateBody(msgspec.Struct):
    credit_note: EstimateRequest


class CustomerCreditNotesQuery(PageQuery):
    """Dates are issuing dates, both included."""

    reason: list[Reason] = msgspec.field(default_factory=list)
    credit_status: list[CreditStatus] = msgspec.field(default_factory=list)
    refund_status: list[RefundStatus] = msgspec.field(default_factory=list)
    currency: str | None = None
    invoice_number: str | None = None
    issuing_date_from: date | None = None
    issuing_date_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    search_term: str | None = None


class CreditNotesQuery(CustomerCreditNotesQuery):
    external_customer_id: str | None = None


async def create(call: Call) -> object:
    body: NewCreditNote = call.body.credit_note
    draft = CreditNoteDraft(
        reason=body.reason,
        description=body.description,
        items=_items(body.items),
        credit_amount_cents=body.credit_amount_cents or 0,
        refund_amount_cents=body.refund_amount_cents or 0,
        offset_amount_cents=body.offset_amount_cents or 0,
        metadata=check_metadata(body.metadata or {}),
    )
    note = await issue_credit_note(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", body.invoice_id, what="invoice"),
        draft=draft,
        now=call.now,
    )
    return {"credit_note": await credit_note_json(call, note)}


async def show(call: Call) -> object:
    note = await store.find(call.tx, call.org_id, from_text("cn", call.path["id"], what="credit note"))
    if note is None:
        raise unknown_note()
    return {"credit_note": await credit_note_json(call, note)}


async def index(call: Call) -> object:
    query: CreditNotesQuery = call.query
    return await _list(call, query, query.external_customer_id)


async def index_of_customer(call: Call) -> object:
    return await _list(call, call.query, call.path["external_customer_id"])


async def update(call: Call) -> object:
    body: CreditNoteChanges = call.body.credit_note
    note = await update_credit_note(
        call.tx,
        org_id=call.org_id,
        note_id=from_text("cn", call.path["id"], what="credit note"),
        refund_status=None if body.refund_status is UNSET else body.refund_status,
        metadata=None if body.metadata is UNSET else check_metadata(body.metadata or {}),
        now=call.now,
    )
    return {"credit_note": await credit_note_json(call, note)}


async def void(call: Call) -> object:
    note = await void_credit_note(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        note_id=from_text("cn", call.path["id"], what="credit note"),
        now=call.now,
    )
    return {"credit_note": await credit_note_json(call, note)}


async def download(call: Call) -> object:
    """The note with the link to its PDF, which is always there."""
    return await show(call)


async def estimate(call: Call) -> object:
    body: EstimateRequest = call.body.credit_note
    estimated = await estimate_credit_note(
        call.tx,
        org_id=call.org_id,
        invoice_id=from_text("inv", body.invoice_id, what="invoice"),
        items=_items(body.items),
    )
    return {"estimated_credit_note": estimate_json(estimated)}


async def _list(call: Call, query: CustomerCreditNotesQuery, external_customer_id: str | None) -> object:
    customer = (
        await get_customer(call.tx, call.org_id, external_customer_id)
        if external_customer_id is not None
        else None
    )
    wanted = CreditNoteFilter(
        customer_id=customer.id if customer else None,
        reasons=tuple(query.reason),
        credit_statuses=tuple(query.credit_status),
        refund_statuses=tuple(query.refund_status),
        currency=query.currency,
        invoice_number=query.invoice_number,
        issued_from=query.issuing_date_from,
        issued_to=query.issuing_date_to,
        amount_from=query.amount_from,
        amount_to=query.amount_to,
        search=query.search_term,
    )
    notes, total = await store.list_notes(
        call.tx, call.org_id, wanted, limit=query.per_page, offset=query.offset
    )
    return {"credit_notes": await credit_notes_json(call, notes), "meta": page_meta(query, total)}


def _items(items: Sequence[ItemBody]) -> list[Any]:
    if len(items) > MAX_ITEMS:
        raise InvalidInput("there are too many items", details={"items": ["value_is_too_long"]})
    return [(from_text("line", item.fee_id, what="fee"), item.amount_cents) for item in items]


def check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Core's rule: at most 50 keys of at most 40 characters, values null or text of at most 255."""
    for key, value in metadata.items():
        fits = value is None or (isinstance(value, str) and len(value) <= 255)
        if not key or len(key) > 40 or not fits or "\x00" in f"{key}{value}":
            raise InvalidInput("the metadata does not fit", details={"metadata": ["value_is_invalid"]})
    if len(metadata) > MAX_METADATA:
        raise InvalidInput("there is too much metadata", details={"metadata": ["value_is_too_long"]})
    return metadata


_ONE = shape(credit_note=ANY_OBJECT)
_MANY = shape(credit_notes=array(ANY_OBJECT), meta=PAGE_META)
_UUID = "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e"
_ITEMS = [{"fee_id": _UUID, "amount_cents": 1000}]
_NOTE: dict[str, object] = {
    "lago_id": _UUID,
    "number": "INV-001-CN001",
    "lago_invoice_id": _UUID,
    "invoice_number": "INV-001",
    "credit_status": "available",
    "refund_status": None,
    "reason": "product_unsatisfactory",
    "currency": "USD",
    "total_amount_cents": 1200,
    "taxes_amount_cents": 200,
    "credit_amount_cents": 1200,
    "balance_amount_cents": 1200,
}
_LISTED = Example(response={"credit_notes": [_NOTE], "meta": page_meta(PageQuery(), 1)})
_TAG = "Credit notes"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/credit_notes",
        handler=create,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Issue a credit note",
        description="Takes fees of a final invoice back, with their share of coupons and taxes. What it comes to is split"
        " into `credit_amount_cents` for later invoices, `refund_amount_cents` of what was paid and `offset_amount_cents`"
        " of what is open of the invoice; `/credit_notes/estimate` tells the amounts.",
        tag=_TAG,
        body=NewCreditNoteBody,
        reply_schema=_ONE,
        errors=(404, 405, 422),
        idempotent=True,
        example=Example(
            request={
                "credit_note": {
                    "invoice_id": _UUID,
                    "reason": "product_unsatisfactory",
                    "credit_amount_cents": 1200,
                    "items": _ITEMS,
                }
            },
            response={"credit_note": _NOTE},
        ),
    ),
    Endpoint(
        method="GET",
        path="/credit_notes",
        handler=index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List credit notes",
        tag=_TAG,
        query=CreditNotesQuery,
        reply_schema=_MANY,
        errors=(404, 422),
        snapshot=True,
        example=_LISTED,
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_customer_id}/credit_notes",
        handler=index_of_customer,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a customer's credit notes",
        tag=_TAG,
        query=CustomerCreditNotesQuery,
        reply_schema=_MANY,
        errors=(404, 422),
        snapshot=True,
        example=_LISTED,
    ),
    Endpoint(
        method="POST",
        path="/credit_notes/estimate",
        handler=estimate,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Estimate a credit note",
        description="What a note of these items would come to, and how much of it could be credited, refunded or set off.",
        tag=_TAG,
        body=EstimateBody,
        reply_schema=shape(estimated_credit_note=ANY_OBJECT),
        errors=(404, 405, 422),
        example=Example(
            request={"credit_note": {"invoice_id": _UUID, "items": _ITEMS}},
            response={
                "estimated_credit_note": {
                    "invoice_number": "INV-001",
                    "currency": "USD",
                    "taxes_amount_cents": 200,
                    "sub_total_excluding_taxes_amount_cents": 1000,
                    "max_creditable_amount_cents": 1200,
                    "max_refundable_amount_cents": 0,
                    "max_offsettable_amount_cents": 1200,
                }
            },
        ),
    ),
    Endpoint(
        method="GET",
        path="/credit_notes/{id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a credit note",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404,),
        snapshot=True,
        example=Example(response={"credit_note": _NOTE}),
    ),
    Endpoint(
        method="PUT",
        path="/credit_notes/{id}",
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Say where the refund of a credit note stands",
        tag=_TAG,
        body=CreditNoteChangesBody,
        reply_schema=_ONE,
        errors=(404, 422),
        idempotent=True,
        example=Example(
            request={"credit_note": {"refund_status": "succeeded"}}, response={"credit_note": _NOTE}
        ),
    ),
    Endpoint(
        method="PUT",
        path="/credit_notes/{id}/void",
        handler=void,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Void a credit note",
        description="What is left of its credit cannot be used any more.",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404, 405),
        idempotent=True,
        example=Example(
            response={"credit_note": {**_NOTE, "credit_status": "voided", "balance_amount_cents": 0}}
        ),
    ),
    Endpoint(
        method="POST",
        path="/credit_notes/{id}/download",
        handler=download,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a credit note with the link to its PDF",
        tag=_TAG,
        reply_schema=_ONE,
        errors=(404,),
        snapshot=True,
        example=Example(response={"credit_note": _NOTE}),
    ),
)
