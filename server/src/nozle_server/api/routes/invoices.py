"""Invoices: portal rows, and Core's objects with their fees. What changes them: `invoice_actions.py`."""

from dataclasses import replace
from datetime import date, datetime
from typing import Literal
from uuid import UUID

import msgspec

from nozle_server.api.core_invoices import date_text, invoice_json, invoices_json
from nozle_server.api.endpoint import CORE, SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.links import invoice_file_urls
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput, NotAllowed
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.text import parse_id
from nozle_server.customers.queries import get_customer
from nozle_server.identity.model import KeyKind
from nozle_server.invoicing import store
from nozle_server.invoicing.credit_notes.operations import unknown_invoice
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceType
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.subscriptions import store as subscriptions_store


class InvoicesQuery(PageQuery):
    """`customer_id` gives portal rows; `external_customer_id` (secret keys) Core's."""

    customer_id: str | None = None
    external_customer_id: str | None = None


Status = Literal["draft", "finalized", "voided", "failed", "pending"]
PaymentStatus = Literal["pending", "succeeded", "failed"]


class InvoiceListQuery(PageQuery):
    """Dates are issuing dates, both included. Filters of several values may be repeated, as `name` or `name[]`."""

    status: list[Status] = msgspec.field(default_factory=list)
    statuses: list[Status] = msgspec.field(default_factory=list)
    payment_status: list[PaymentStatus] = msgspec.field(default_factory=list)
    payment_statuses: list[PaymentStatus] = msgspec.field(default_factory=list)
    invoice_type: list[InvoiceType] = msgspec.field(default_factory=list)
    invoice_types: list[InvoiceType] = msgspec.field(default_factory=list)
    payment_overdue: bool | None = None
    payment_dispute_lost: bool | None = None
    currency: str | None = None
    issuing_date_from: date | None = None
    issuing_date_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    search_term: str | None = None
    subscription_id: str | None = None
    external_subscription_id: str | None = None


class CoreInvoicesQuery(InvoiceListQuery):
    external_customer_id: str | None = None


SHOWN = ("draft", "finalized", "voided", "failed")
_STATUS = {"draft": "draft", "voided": "void", "failed": "failed"}


async def index(call: Call) -> object:
    query: InvoicesQuery = call.query
    if query.customer_id is None:
        if query.external_customer_id is None:
            raise InvalidInput("customer_id is required", details={"customer_id": ["value_is_mandatory"]})
        if call.principal.kind is not KeyKind.SECRET:
            raise NotAllowed("this form needs a secret key", code="secret_key_required")
        wanted = InvoiceFilter(
            customer_id=await _customer_id(call, query.external_customer_id), statuses=SHOWN
        )
        return await _core_page(call, query, wanted)
    customer = await get_customer(call.tx, call.org_id, query.customer_id)
    invoices, total = await store.list_invoices(
        call.tx,
        call.org_id,
        InvoiceFilter(customer_id=customer.id, statuses=SHOWN),
        limit=query.per_page,
        offset=query.offset,
    )
    urls = await invoice_file_urls(call, invoices)
    rows = [{**portal_row(one), "pdf_url": urls[one.id], "file_url": urls[one.id]} for one in invoices]
    return {"invoices": rows, "meta": page_meta(query, total)}


async def core_index(call: Call) -> object:
    query: CoreInvoicesQuery = call.query
    return await _core_list(call, query, query.external_customer_id)


async def index_of_customer(call: Call) -> object:
    return await _core_list(call, call.query, call.path["external_customer_id"])


async def _core_list(call: Call, query: InvoiceListQuery, external_customer_id: str | None) -> object:
    wanted = replace(
        _filter(query, call.now),
        customer_id=await _customer_id(call, external_customer_id),
        subscription_ids=await _subscription_ids(call, query),
    )
    return await _core_page(call, query, wanted)


async def _core_page(call: Call, query: PageQuery, wanted: InvoiceFilter) -> object:
    invoices, total = await store.list_invoices(
        call.tx, call.org_id, wanted, limit=query.per_page, offset=query.offset
    )
    rows = await invoices_json(call, invoices, whole=False)
    return {"invoices": rows, "meta": page_meta(query, total)}


async def _customer_id(call: Call, external_customer_id: str | None) -> UUID | None:
    if external_customer_id is None:
        return None
    return (await get_customer(call.tx, call.org_id, external_customer_id)).id


async def _subscription_ids(call: Call, query: InvoiceListQuery) -> tuple[UUID, ...] | None:
    """Of that external id, whichever plans it was on; None where none is named."""
    if query.subscription_id is not None:
        return (from_text("sub", query.subscription_id, what="subscription"),)
    if query.external_subscription_id is None:
        return None
    found = await subscriptions_store.list_of_external_id(
        call.tx, call.org_id, parse_id(query.external_subscription_id, "external_subscription_id")
    )
    return tuple(one.id for one in found)


def _filter(query: InvoiceListQuery, now: datetime) -> InvoiceFilter:
    return InvoiceFilter(
        statuses=(*query.status, *query.statuses) or SHOWN,
        payment_statuses=(*query.payment_status, *query.payment_statuses),
        invoice_types=(*query.invoice_type, *query.invoice_types),
        currency=query.currency,
        issued_from=query.issuing_date_from,
        issued_to=query.issuing_date_to,
        amount_from=query.amount_from,
        amount_to=query.amount_to,
        overdue=query.payment_overdue,
        now=now,
        dispute_lost=query.payment_dispute_lost,
        search=query.search_term,
    )


async def show(call: Call) -> object:
    invoice = await store.find(call.tx, call.org_id, from_text("inv", call.path["id"], what="invoice"))
    if invoice is None or invoice.status not in SHOWN:
        raise unknown_invoice()
    return {"invoice": await invoice_json(call, invoice)}


def portal_row(invoice: Invoice) -> dict[str, object]:
    """Contract 1.16, with the lines. `amount` is minor units; `date` the issuing date."""
    first = invoice.subscriptions[0] if invoice.subscriptions else None
    status = _STATUS.get(invoice.status) or ("paid" if invoice.payment_status == "succeeded" else "open")
    return {
        "id": to_text("inv", invoice.id),
        "lago_id": invoice.id,
        "nozle_id": invoice.id,
        "number": invoice.number,
        "date": date_text(invoice.issuing_date),
        "issuing_date": date_text(invoice.issuing_date),
        "due_date": date_text(invoice.payment_due_date),
        "amount": invoice.total_amount_cents,
        "fees_amount_cents": invoice.fees_amount_cents,
        "coupons_amount_cents": invoice.coupons_amount_cents,
        "taxes_amount_cents": invoice.taxes_amount_cents,
        "credit_notes_amount_cents": invoice.credit_notes_amount_cents,
        "prepaid_credit_amount_cents": invoice.prepaid_credit_amount_cents,
        "total_paid_amount_cents": invoice.total_paid_amount_cents,
        "total_amount_cents": invoice.total_amount_cents,
        "currency": invoice.currency,
        "status": status,
        "payment_status": invoice.payment_status,
        "billing_reason": first.reason if first else None,
        "period_start": first.period_start if first else None,
        "period_end": first.period_end if first else None,
        "pdf_url": None,
        "file_url": None,
        "lines": [line_json(line) for line in invoice.lines],
    }


def line_json(line: InvoiceLine) -> dict[str, object]:
    """A line; `exact_amount_cents` stands beside what was settled, `steps` is the walk that made it."""
    return {
        "id": to_text("line", line.id),
        "kind": line.kind,
        "description": line.description,
        "metric_code": line.metric_code,
        "units": line.units,
        "events_count": line.events_count,
        "exact_amount_cents": line.exact_amount_cents,
        "amount_cents": line.amount_cents,
        "period_start": line.period_start,
        "period_end": line.period_end,
        "steps": line.steps,
    }


_PORTAL_EXAMPLE = {
    "id": "inv_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "number": "INV-001",
    "date": "2026-02-15",
    "amount": 9900,
    "currency": "USD",
    "status": "open",
    "lines": [{"kind": "subscription", "description": "Pro, monthly fee", "amount_cents": 9900}],
}
_CORE_EXAMPLE = {"number": "INV-001", "status": "finalized", "total_amount_cents": 9900, "currency": "USD"}
_LIST = shape(invoices=array(ANY_OBJECT), meta=PAGE_META)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/invoices",
        handler=index,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List a customer's invoices",
        description="Newest first, with their lines. `external_customer_id` with a secret key gives Core's form.",
        tag="Invoices",
        query=InvoicesQuery,
        query_aliases={"customerId": "customer_id"},
        reply_schema=_LIST,
        errors=(404,),
        snapshot=True,
        customer_data=CustomerData("query", "customer_id", "billing:read"),
        example=Example(response={"invoices": [_PORTAL_EXAMPLE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/invoices",
        handler=core_index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List invoices",
        tag="Invoices",
        query=CoreInvoicesQuery,
        reply_schema=_LIST,
        errors=(404, 422),
        snapshot=True,
        example=Example(response={"invoices": [_CORE_EXAMPLE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_customer_id}/invoices",
        handler=index_of_customer,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a customer's invoices, in Core's form",
        tag="Invoices",
        query=InvoiceListQuery,
        reply_schema=_LIST,
        errors=(404, 422),
        snapshot=True,
        example=Example(response={"invoices": [_CORE_EXAMPLE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/invoices/{id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get an invoice with its fees",
        tag="Invoices",
        reply_schema=shape(invoice=ANY_OBJECT),
        errors=(404,),
        snapshot=True,
        example=Example(response={"invoice": {**_CORE_EXAMPLE, "fees": []}}),
    ),
)
