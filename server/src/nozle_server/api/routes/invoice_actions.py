"""What is done with invoices, in Core's form: one-off invoices, notes, drafts made final, voiding, disputes."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.api.core_invoices import invoice_json
from nozle_server.api.endpoint import CORE, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.instants import read_instant
from nozle_server.api.shapes import ANY_OBJECT, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text
from nozle_server.invoicing import store
from nozle_server.invoicing.credit_notes.operations import unknown_invoice
from nozle_server.invoicing.metadata import Entry
from nozle_server.invoicing.model import InvoiceStatus
from nozle_server.payments.model import PaymentStatus
from nozle_server.workflows import edit_invoice
from nozle_server.workflows.issue_one_off import OneOffFee, issue_one_off
from nozle_server.workflows.record_payment import set_payment_status
from nozle_server.workflows.void_invoice import VoidingCredit, lose_dispute, void_invoice


class OneOffFeeBody(msgspec.Struct):
    """An add-on sold. Without a price it has the add-on's; `to_datetime` is the last second of its period."""

    add_on_code: str
    unit_amount_cents: Amount | None = None
    units: Amount | None = None
    invoice_display_name: str | None = None
    description: str | None = None
    tax_codes: list[str] | None = None
    from_datetime: str | None = None
    to_datetime: str | None = None


class OneOff(msgspec.Struct):
    external_customer_id: str
    fees: list[OneOffFeeBody]
    currency: str | None = None
    net_payment_term: int | None = None
    skip_psp: bool | None = None


class OneOffBody(msgspec.Struct):
    invoice: OneOff


class InvoiceMetadataBody(msgspec.Struct):
    key: str
    value: str
    id: str | None = None


class InvoiceChanges(msgspec.Struct):
    payment_status: Literal["pending", "succeeded", "failed"] | UnsetType = UNSET
    metadata: list[InvoiceMetadataBody] | UnsetType = UNSET


class InvoiceChangesBody(msgspec.Struct):
    invoice: InvoiceChanges


class VoidBody(msgspec.Struct):
    """With `generate_credit_note` the customer gets these amounts, taxes included, by a credit note."""

    generate_credit_note: bool = False
    credit_amount: int = 0
    refund_amount: int = 0


async def create_one_off(call: Call) -> object:
    body: OneOff = call.body.invoice
    invoice = await issue_one_off(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        external_customer_id=body.external_customer_id,
        currency=body.currency,
        fees=[_fee(fee) for fee in body.fees],
        net_payment_term=body.net_payment_term,
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def update(call: Call) -> object:
    body: InvoiceChanges = call.body.invoice
    invoice_id = from_text("inv", call.path["id"], what="invoice")
    if body.payment_status is not UNSET:
        await set_payment_status(
            call.tx,
            call.services.seams,
            org_id=call.org_id,
            invoice_id=invoice_id,
            status=PaymentStatus(body.payment_status),
            now=call.now,
        )
    if body.metadata is not UNSET:
        entries = [Entry(one.id, one.key, one.value) for one in body.metadata]
        await edit_invoice.set_metadata(
            call.tx, org_id=call.org_id, invoice_id=invoice_id, entries=entries, now=call.now
        )
    invoice = await store.find(call.tx, call.org_id, invoice_id)
    if invoice is None or invoice.status is InvoiceStatus.CLOSED:
        raise unknown_invoice()
    return {"invoice": await invoice_json(call, invoice)}


async def finalize(call: Call) -> object:
    invoice = await edit_invoice.finalize_invoice(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", call.path["id"], what="invoice"),
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def refresh(call: Call) -> object:
    invoice = await edit_invoice.refresh_invoice(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", call.path["id"], what="invoice"),
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def retry(call: Call) -> object:
    invoice = await edit_invoice.retry_invoice(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", call.path["id"], what="invoice"),
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def void(call: Call) -> object:
    body: VoidBody = call.body or VoidBody()
    credit = VoidingCredit(body.credit_amount, body.refund_amount) if body.generate_credit_note else None
    invoice = await void_invoice(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", call.path["id"], what="invoice"),
        credit=credit,
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def lose(call: Call) -> object:
    invoice = await lose_dispute(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        invoice_id=from_text("inv", call.path["id"], what="invoice"),
        now=call.now,
    )
    return {"invoice": await invoice_json(call, invoice)}


async def without_provider(call: Call) -> object:
    """No payment provider can be linked yet, so there is nobody to ask for the payment."""
    invoice_id = from_text("inv", call.path["id"], what="invoice")
    invoice = await store.find(call.tx, call.org_id, invoice_id)
    if invoice is None or invoice.status is InvoiceStatus.CLOSED:
        raise unknown_invoice()
    raise InvalidInput("no payment provider is linked", details={"base": ["no_linked_payment_provider"]})


def _fee(fee: OneOffFeeBody) -> OneOffFee:
    return OneOffFee(
        add_on_code=fee.add_on_code,
        unit_amount_cents=fee.unit_amount_cents,
        units=Amount(1) if fee.units is None else fee.units,
        invoice_display_name=fee.invoice_display_name,
        description=fee.description,
        tax_codes=tuple(fee.tax_codes or ()),
        from_datetime=read_instant(fee.from_datetime, "from_datetime"),
        to_datetime=read_instant(fee.to_datetime, "to_datetime"),
    )


_INVOICE: dict[str, object] = {
    "lago_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e",
    "number": "INV-001",
    "invoice_type": "subscription",
    "status": "finalized",
    "payment_status": "pending",
    "total_amount_cents": 9900,
    "currency": "USD",
}
_ONE = shape(invoice=ANY_OBJECT)


def _action(
    method: str, name: str, handler: object, summary: str, description: str = "", **more: object
) -> Endpoint:
    wanted: dict[str, object] = {
        "errors": (404,),
        "idempotent": True,
        "example": Example(response={"invoice": _INVOICE}),
        **more,
    }
    return Endpoint(
        method=method,
        path=f"/invoices/{{id}}/{name}",
        handler=handler,  # type: ignore[arg-type]
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        description=description,
        tag="Invoices",
        reply_schema=_ONE,
        **wanted,  # type: ignore[arg-type]
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/invoices",
        handler=create_one_off,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Issue a one-off invoice",
        description="Add-ons sold at once. Coupons do not reduce it; taxes, credit notes and wallets do as ever.",
        tag="Invoices",
        body=OneOffBody,
        reply_schema=_ONE,
        errors=(404, 422),
        idempotent=True,
        example=Example(
            request={
                "invoice": {
                    "external_customer_id": "cust_123",
                    "currency": "USD",
                    "fees": [{"add_on_code": "setup", "unit_amount_cents": 12000, "units": 2}],
                }
            },
            response={"invoice": {**_INVOICE, "invoice_type": "one_off", "total_amount_cents": 24000}},
        ),
    ),
    Endpoint(
        method="PUT",
        path="/invoices/{id}",
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Change an invoice's payment status or metadata",
        description="`succeeded` records what is due as paid. Of a final invoice nothing else can change.",
        tag="Invoices",
        body=InvoiceChangesBody,
        reply_schema=_ONE,
        errors=(404, 422),
        idempotent=True,
        example=Example(
            request={
                "invoice": {"payment_status": "succeeded", "metadata": [{"key": "po", "value": "4711"}]}
            },
            response={"invoice": {**_INVOICE, "payment_status": "succeeded"}},
        ),
    ),
    _action(
        "PUT",
        "finalize",
        finalize,
        "Finalize a draft",
        "Its grace ends now, and with it the time in which usage may still be added.",
    ),
    _action("PUT", "refresh", refresh, "Refresh a draft", "Makes it anew from what is stored now."),
    _action("POST", "retry", retry, "Retry a failed invoice", errors=(404, 405)),
    _action(
        "POST",
        "void",
        void,
        "Void an invoice",
        "It is owed no more. Without `generate_credit_note` nothing of it may be paid or credited, and what it took of"
        " coupons, credit notes and wallets comes back; with it the customer gets `credit_amount` and `refund_amount` by a"
        " credit note.",
        body=VoidBody,
        body_optional=True,
        errors=(404, 405, 422),
        example=Example(
            request={"generate_credit_note": True, "credit_amount": 4900, "refund_amount": 0},
            response={"invoice": {**_INVOICE, "status": "voided"}},
        ),
    ),
    # Lago's clients send PUT, its documentation says POST.
    *(
        _action(method, "lose_dispute", lose, "Mark an invoice's payment dispute as lost", errors=(404, 405))
        for method in ("POST", "PUT")
    ),
    _action(
        "POST",
        "retry_payment",
        without_provider,
        "Retry an invoice's payment",
        "422 `no_linked_payment_provider` while no payment provider is linked.",
        errors=(404, 422),
    ),
    _action(
        "POST",
        "payment_url",
        without_provider,
        "Get a link to pay an invoice",
        "422 `no_linked_payment_provider` while no payment provider is linked.",
        errors=(404, 422),
    ),
)
