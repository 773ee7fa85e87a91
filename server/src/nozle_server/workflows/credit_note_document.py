"""What is printed of a credit note: gathers it, its invoice, the lines it takes back, its customer and organization."""

from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.customers import store as customers
from nozle_server.documents.from_credit_note import credit_note_document
from nozle_server.documents.model import CreditNoteDocument
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx
from nozle_server.invoicing import store as invoices
from nozle_server.invoicing.credit_notes import store as notes
from nozle_server.invoicing.credit_notes.model import CreditNote
from nozle_server.workflows.invoice_document import subscription_names


async def get_credit_note(tx: Tx, org_id: UUID, note_id: UUID) -> CreditNote:
    """NotFound `credit_note_not_found`."""
    note = await notes.find(tx, org_id, note_id)
    if note is None:
        raise NotFound("credit note not found", code="credit_note_not_found")
    return note


async def credit_note_document_of(tx: Tx, note: CreditNote) -> CreditNoteDocument:
    """What `render_credit_note` draws of a credit note with its items."""
    org_id = note.org_id
    customer = await customers.find_by_id(tx, org_id, note.customer_id)
    invoice = await invoices.find(tx, org_id, note.invoice_id)
    assert customer is not None, "a credit note has a customer"
    assert invoice is not None, "a credit note has an invoice"
    lines = await notes.lines_by_id(tx, org_id, [item.line_id for item in note.items])
    return credit_note_document(
        note,
        invoice,
        lines,
        customer,
        await get_organization(tx, org_id),
        subscriptions=await subscription_names(tx, org_id, lines.values()),
    )
