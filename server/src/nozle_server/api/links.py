"""Links to files that open in a browser, without a key (`identity/signed_links.py`; served by `routes/files.py`)."""

from collections.abc import Sequence
from uuid import UUID

from nozle_server.api.endpoint import Call
from nozle_server.identity.signed_links import LinkSigner, find_signer
from nozle_server.invoicing.model import Invoice
from nozle_server.workflows.invoice_document import is_issued


async def invoice_file_urls(call: Call, invoices: list[Invoice]) -> dict[UUID, str | None]:
    """Links to invoices' PDFs, by the invoice's id; None for a draft, or where no secret key is left to sign with."""
    signer = await find_signer(call.tx, call.org_id)
    return {
        invoice.id: _url(call, signer, "invoices", invoice.id) if signer and is_issued(invoice) else None
        for invoice in invoices
    }


async def credit_note_file_urls(call: Call, note_ids: Sequence[UUID]) -> dict[UUID, str | None]:
    """Links to credit notes' PDFs, by the note's id; None where no secret key is left to sign with."""
    signer = await find_signer(call.tx, call.org_id)
    return {one: _url(call, signer, "credit_notes", one) if signer else None for one in note_ids}


def file_path(org_id: UUID, kind: str, document_id: UUID) -> str:
    return f"/files/{org_id.hex}/{kind}/{document_id.hex}.pdf"


def _url(call: Call, signer: LinkSigner, kind: str, document_id: UUID) -> str:
    path = file_path(signer.org_id, kind, document_id)
    # What only the operator knows behind a proxy, else the name by which the caller reached us.
    base = call.services.settings.public_url or f"http://{call.headers.get('host', 'localhost')}"
    return f"{base}{path}?{signer.query(path, call.received_at)}"
