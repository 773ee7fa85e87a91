"""A credit note by hand; of bought credits that are refunded, the wallet loses them."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import InvalidInput, NotPossible
from nozle_server.core.money import to_major
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.credit_notes.model import CreditNote
from nozle_server.invoicing.credit_notes.operations import CreditNoteDraft, issue_note, lock_invoice
from nozle_server.invoicing.model import Invoice, InvoiceType
from nozle_server.wallets.operations.transactions import void_money
from nozle_server.wallets.queries import get_transaction, is_live, lock_wallet


async def issue_credit_note(
    tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, draft: CreditNoteDraft, now: datetime
) -> CreditNote:
    """As `create_credit_note`. Of an invoice of bought credits, NotPossible `invalid_type_or_status` once their wallet has
    ended, and InvalidInput `higher_than_wallet_balance` for more than is left in it."""
    invoice = await lock_invoice(tx, org_id, invoice_id)
    note = await issue_note(tx, seams, invoice, draft, now=now)
    if invoice.invoice_type is InvoiceType.CREDIT and note.refund_amount_cents:
        await _take_credits(tx, seams, invoice, note, now)
    return note


async def _take_credits(tx: Tx, seams: Seams, invoice: Invoice, note: CreditNote, now: datetime) -> None:
    bought = next((line.wallet_transaction_id for line in invoice.lines if line.wallet_transaction_id), None)
    assert bought is not None, "an invoice of bought credits names what was bought"
    transaction = await get_transaction(tx, invoice.org_id, bought)
    wallet = await lock_wallet(tx, invoice.org_id, transaction.wallet_id)
    if not is_live(wallet, now):
        raise NotPossible("the wallet has ended", code="invalid_type_or_status")
    amount = to_major(Decimal(note.refund_amount_cents), invoice.currency)
    if await void_money(tx, seams.change_bus, wallet, amount, now=now, credit_note_id=note.id) is None:
        raise InvalidInput("the wallet holds less", details={"amount_cents": ["higher_than_wallet_balance"]})
