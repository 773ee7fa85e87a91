"""What a merchant does to an invoice by hand, apart from voiding it: notes, and drafts and failures made anew."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import NotPossible
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import metadata, store
from nozle_server.invoicing.credit_notes.operations import lock_invoice, unknown_invoice
from nozle_server.invoicing.metadata import Entry
from nozle_server.invoicing.model import Invoice, InvoiceStatus
from nozle_server.workflows.bill import refresh_draft
from nozle_server.workflows.close_period import finalize_draft


async def set_metadata(
    tx: Tx, *, org_id: UUID, invoice_id: UUID, entries: Sequence[Entry], now: datetime
) -> Invoice:
    """Replace an invoice's metadata; errors as `invoicing.metadata.merged`."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    await store.set_metadata(tx, org_id, invoice.id, metadata.merged(invoice.metadata, entries, now), now)
    return await _again(tx, invoice)


async def finalize_invoice(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> Invoice:
    """End the grace of a draft now; NotFound `invoice_not_found` for anything else, as Lago."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    if invoice.status is not InvoiceStatus.DRAFT:
        raise unknown_invoice()
    await finalize_draft(tx, seams, org_id=org_id, invoice_id=invoice.id, now=now)
    return await _again(tx, invoice)


async def refresh_invoice(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> Invoice:
    """A draft with what is stored now; any other invoice as it is."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    if invoice.status is InvoiceStatus.DRAFT:
        await refresh_draft(tx, seams, invoice, now=now, final=False)
    return await _again(tx, invoice)


async def retry_invoice(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> Invoice:
    """Make a failed invoice again: final where its grace was over, else as it would have been. NotPossible
    `invalid_status` for any other."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    if invoice.status is not InvoiceStatus.FAILED:
        raise NotPossible("only a failed invoice is made again", code="invalid_status")
    final = invoice.finalize_at is not None and invoice.finalize_at <= now
    await refresh_draft(tx, seams, invoice, now=now, final=final)
    return await _again(tx, invoice)


async def _again(tx: Tx, invoice: Invoice) -> Invoice:
    found = await store.find(tx, invoice.org_id, invoice.id)
    assert found is not None, "invoices are never deleted"
    return found
