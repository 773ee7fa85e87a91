"""Invoices: portal rows, and Core's objects with their fees."""

from datetime import date

from nozle_server.api.endpoint import CORE, SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.links import invoice_file_url, invoice_file_urls
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput, NotAllowed, NotFound
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.money import to_major
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import get_customer
from nozle_server.customers.store import find_by_id
from nozle_server.identity.model import KeyKind
from nozle_server.invoicing import store
from nozle_server.invoicing.model import Invoice, InvoiceLine, LineKind


class InvoicesQuery(PageQuery):
    """`customer_id` gives portal rows; `external_customer_id` (secret keys) Core's."""

    customer_id: str | None = None
    external_customer_id: str | None = None


class CoreInvoicesQuery(PageQuery):
    external_customer_id: str | None = None


_STATUS = {"draft": "draft", "voided": "void", "failed": "failed"}


async def index(call: Call) -> object:
    query: InvoicesQuery = call.query
    if query.customer_id is None:
        if query.external_customer_id is None:
            raise InvalidInput("customer_id is required", details={"customer_id": ["value_is_mandatory"]})
        if call.principal.kind is not KeyKind.SECRET:
            raise NotAllowed("this form needs a secret key", code="secret_key_required")
        return await _core_index(call, query, query.external_customer_id)
    customer = await get_customer(call.tx, call.org_id, query.customer_id)
    invoices, total = await store.list_invoices(
        call.tx, call.org_id, _shown(customer), limit=query.per_page, offset=query.offset
    )
    urls = await invoice_file_urls(call, invoices)
    rows = [{**portal_row(one), "pdf_url": urls[one.id], "file_url": urls[one.id]} for one in invoices]
    return {"invoices": rows, "meta": page_meta(query, total)}


async def core_index(call: Call) -> object:
    query: CoreInvoicesQuery = call.query
    return await _core_index(call, query, query.external_customer_id)


async def _core_index(call: Call, query: PageQuery, external_customer_id: str | None) -> object:
    customer = (
        await get_customer(call.tx, call.org_id, external_customer_id) if external_customer_id else None
    )
    invoices, total = await store.list_invoices(
        call.tx, call.org_id, _shown(customer), limit=query.per_page, offset=query.offset
    )
    rows = []
    urls = await invoice_file_urls(call, invoices)
    for invoice in invoices:
        owner = customer or await find_by_id(call.tx, call.org_id, invoice.customer_id)
        rows.append({**core_invoice(invoice, owner), "file_url": urls[invoice.id]})
    return {"invoices": rows, "meta": page_meta(query, total)}


async def show(call: Call) -> object:
    invoice = await store.find(call.tx, call.org_id, from_text("inv", call.path["id"], what="invoice"))
    if invoice is None:
        raise NotFound("invoice not found", code="invoice_not_found")
    customer = await find_by_id(call.tx, call.org_id, invoice.customer_id)
    fees = [core_fee(line, invoice) for line in invoice.lines]
    url = await invoice_file_url(call, invoice)
    return {"invoice": {**core_invoice(invoice, customer), "file_url": url, "fees": fees}}


def _shown(customer: Customer | None) -> store.InvoiceFilter:
    return store.InvoiceFilter(
        customer_id=customer.id if customer else None, statuses=("draft", "finalized", "voided", "failed")
    )


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


def date_text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


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


def core_invoice(invoice: Invoice, customer: Customer | None) -> dict[str, object]:
    """Core's invoice object, without its fees."""
    owner = (
        {"lago_id": customer.id, "external_id": customer.external_id, "name": customer.name}
        if customer
        else None
    )
    return {
        "lago_id": invoice.id,
        "nozle_id": invoice.id,
        "sequential_id": invoice.sequential_id,
        "number": invoice.number,
        "issuing_date": date_text(invoice.issuing_date),
        "payment_due_date": date_text(invoice.payment_due_date),
        "payment_overdue": False,
        "invoice_type": invoice.invoice_type,
        "status": invoice.status,
        "payment_status": invoice.payment_status,
        "currency": invoice.currency,
        "fees_amount_cents": invoice.fees_amount_cents,
        "coupons_amount_cents": invoice.coupons_amount_cents,
        "credit_notes_amount_cents": invoice.credit_notes_amount_cents,
        "sub_total_excluding_taxes_amount_cents": invoice.sub_total_excluding_taxes_amount_cents,
        "taxes_amount_cents": invoice.taxes_amount_cents,
        "sub_total_including_taxes_amount_cents": invoice.sub_total_including_taxes_amount_cents,
        "prepaid_credit_amount_cents": invoice.prepaid_credit_amount_cents,
        "progressive_billing_credit_amount_cents": invoice.progressive_billing_credit_amount_cents,
        "total_amount_cents": invoice.total_amount_cents,
        "version_number": 4,
        "file_url": None,
        "customer": owner,
        "billing_periods": [
            {
                "lago_subscription_id": one.subscription_id,
                "subscription_from_datetime": one.period_start,
                "subscription_to_datetime": one.period_end,
                "charges_from_datetime": one.charges_start,
                "charges_to_datetime": one.charges_end,
                "invoicing_reason": one.reason,
            }
            for one in invoice.subscriptions
        ],
        "created_at": invoice.created_at,
    }


def core_fee(line: InvoiceLine, invoice: Invoice) -> dict[str, object]:
    """Core's fee object; precise amounts are decimal strings in major units, as Lago."""
    is_charge = line.kind is LineKind.CHARGE
    return {
        "lago_id": line.id,
        "nozle_id": line.id,
        "lago_invoice_id": invoice.id,
        "lago_subscription_id": line.subscription_id,
        "lago_charge_id": line.charge_id,
        "lago_charge_filter_id": line.charge_filter_id,
        "item": {
            "type": line.kind,
            "code": line.metric_code if is_charge else None,
            "name": line.description,
            "lago_item_id": line.metric_id if is_charge else line.subscription_id,
            "item_type": "BillableMetric" if is_charge else "Subscription",
        },
        "amount_cents": line.amount_cents,
        "precise_amount": format(to_major(line.exact_amount_cents, invoice.currency), "f"),
        "amount_currency": invoice.currency,
        "taxes_amount_cents": 0,
        "total_amount_cents": line.amount_cents,
        "total_amount_currency": invoice.currency,
        "units": format(line.units, "f"),
        "events_count": line.events_count,
        "payment_status": invoice.payment_status,
        "from_date": line.period_start,
        "to_date": line.period_end,
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
        errors=(404,),
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
