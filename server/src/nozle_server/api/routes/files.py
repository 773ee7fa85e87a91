"""Documents as files: the PDF of an invoice or a credit note, by key or by a signed link that a browser opens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import msgspec

from nozle_server.api.core_invoices import invoice_json
from nozle_server.api.endpoint import CORE, SEED, Call, CustomerData, Endpoint, Example, Mount, Reply, Scope
from nozle_server.api.links import file_path
from nozle_server.api.shapes import ANY_OBJECT, shape
from nozle_server.core.errors import NotAllowed
from nozle_server.core.ids import from_text
from nozle_server.documents.model import CreditNoteDocument, InvoiceDocument
from nozle_server.documents.render import render_credit_note, render_invoice
from nozle_server.identity.signed_links import check_link
from nozle_server.infra.database import Tx
from nozle_server.workflows.credit_note_document import credit_note_document_of, get_credit_note
from nozle_server.workflows.invoice_document import (
    get_issued_invoice,
    get_shown_invoice,
    invoice_document_of,
)

_PDF = "application/pdf"


class LinkQuery(msgspec.Struct):
    """What signs a link."""

    expires: int
    key: str
    signature: str


async def download_invoice(call: Call) -> object:
    invoice = await get_issued_invoice(
        call.tx, call.org_id, from_text("inv", call.path["id"], what="invoice")
    )
    return {"invoice": await invoice_json(call, invoice)}


async def invoice_pdf(call: Call) -> object:
    invoice = await get_shown_invoice(call.tx, call.org_id, from_text("inv", call.path["id"], what="invoice"))
    call.require_customer(invoice.customer_id)
    return await _pdf(await invoice_document_of(call.tx, invoice))


async def linked_invoice(call: Call) -> object:
    async with _opened(call, "invoices") as (tx, org_id, invoice_id):
        document = await invoice_document_of(tx, await get_issued_invoice(tx, org_id, invoice_id))
    return await _pdf(document)


async def linked_credit_note(call: Call) -> object:
    async with _opened(call, "credit_notes") as (tx, org_id, note_id):
        document = await credit_note_document_of(tx, await get_credit_note(tx, org_id, note_id))
    return await _pdf(document)


@asynccontextmanager
async def _opened(call: Call, kind: str) -> AsyncIterator[tuple[Tx, UUID, UUID]]:
    """The organization and document that a link names, once its signature is checked.

    Outside the request's transaction, so that no connection is held while the page is drawn.
    """
    query: LinkQuery = call.query
    org_id, document_id = _hex(call.path["workspace"]), _hex(call.path["file"].removesuffix(".pdf"))
    async with call.services.database.snapshot() as tx:
        await check_link(
            tx,
            org_id=org_id,
            key_id=_hex(query.key),
            path=file_path(org_id, kind, document_id),
            expires=query.expires,
            signature=query.signature,
            real_now=call.received_at,
        )
        yield tx, org_id, document_id


async def _pdf(document: InvoiceDocument | CreditNoteDocument) -> Reply:
    # A browser shows it in its tab and saves it under the invoice's number, reduced to what every system takes as a name.
    name = "".join(
        one if one.isascii() and (one.isalnum() or one in "-_.") else "-" for one in document.number
    )
    headers = {
        "content-disposition": f'inline; filename="{name or "invoice"}.pdf"',
        "cache-control": "private, no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    draw = (
        partial(render_invoice, document)
        if isinstance(document, InvoiceDocument)
        else partial(render_credit_note, document)
    )
    return Reply(raw=await asyncio.to_thread(draw), headers=headers)


def _hex(text: str) -> UUID:
    try:
        if len(text) != 32:
            raise ValueError(text)
        return UUID(text)
    except ValueError:
        raise NotAllowed("this link was not made here, or was withdrawn", code="link_invalid") from None


_BYTES = {"type": "string", "format": "binary"}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/invoices/{id}/download",
        handler=download_invoice,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a link to an invoice's PDF",
        description=(
            "`file_url` opens without a key, in a browser too, for two days or until the secret key that signed it is"
            " revoked. Of finalized and voided invoices; a draft is 404."
        ),
        tag="Invoices",
        reply_schema=shape(invoice=ANY_OBJECT),
        errors=(404,),
        example=Example(
            response={
                "invoice": {
                    "number": "NOZ-1F3A-001-027",
                    "status": "finalized",
                    "file_url": "https://billing.example/files/…/invoices/….pdf?expires=…&key=…&signature=…",
                }
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/invoices/{id}/pdf",
        handler=invoice_pdf,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="An invoice as PDF",
        description="Drafts, voided and failed invoices too, each marked across the page.",
        tag="Invoices",
        media_type=_PDF,
        reply_schema=_BYTES,
        errors=(404,),
        snapshot=True,
        customer_data=CustomerData("handler", "id", "billing:read"),
    ),
    Endpoint(
        method="GET",
        path="/files/{workspace}/invoices/{file}",
        handler=linked_invoice,
        scope=Scope.PUBLIC,
        mounts=(Mount.ROOT,),
        summary="Open a signed link to an invoice's PDF",
        tag="Invoices",
        query=LinkQuery,
        media_type=_PDF,
        reply_schema=_BYTES,
        errors=(403, 404),
        transaction=False,
    ),
    Endpoint(
        method="GET",
        path="/files/{workspace}/credit_notes/{file}",
        handler=linked_credit_note,
        scope=Scope.PUBLIC,
        mounts=(Mount.ROOT,),
        summary="Open a signed link to a credit note's PDF",
        tag="Credit notes",
        query=LinkQuery,
        media_type=_PDF,
        reply_schema=_BYTES,
        errors=(403, 404),
        transaction=False,
    ),
)
