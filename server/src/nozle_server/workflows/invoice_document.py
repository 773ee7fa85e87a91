"""What is printed of an invoice: gathers it, its customer, its organization and the names that its lines refer to."""

from collections.abc import Iterable
from uuid import UUID

from nozle_server.catalog.plan_store import plan_names
from nozle_server.core.errors import NotFound
from nozle_server.customers import store as customers
from nozle_server.documents.from_invoice import SubscriptionName, invoice_document
from nozle_server.documents.model import InvoiceDocument
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx
from nozle_server.invoicing import store as invoices
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceStatus
from nozle_server.subscriptions import store as subscriptions

# A closed invoice came to nothing and is not shown anywhere.
_SHOWN = frozenset((InvoiceStatus.DRAFT, InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED, InvoiceStatus.FAILED))
# Only what was once final has a link: a draft's numbers may still change.
_ISSUED = frozenset((InvoiceStatus.FINALIZED, InvoiceStatus.VOIDED))


def is_issued(invoice: Invoice) -> bool:
    """Whether the invoice has a file to be linked to."""
    return invoice.status in _ISSUED


async def get_issued_invoice(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice:
    """A finalized or voided invoice; NotFound `invoice_not_found` for any other, as Lago answers for drafts."""
    return await _get(tx, org_id, invoice_id, _ISSUED)


async def get_shown_invoice(tx: Tx, org_id: UUID, invoice_id: UUID) -> Invoice:
    """An invoice that lists show, drafts and failed ones included; NotFound `invoice_not_found`."""
    return await _get(tx, org_id, invoice_id, _SHOWN)


async def invoice_document_of(tx: Tx, invoice: Invoice) -> InvoiceDocument:
    """What `render_invoice` draws of an invoice with its parts."""
    org_id = invoice.org_id
    customer = await customers.find_by_id(tx, org_id, invoice.customer_id)
    assert customer is not None, "an invoice has a customer"
    numbers: dict[UUID, str] = {}
    for line in invoice.lines:
        if line.adjusts_invoice_id and line.adjusts_invoice_id not in numbers:
            adjusted = await invoices.find(tx, org_id, line.adjusts_invoice_id)
            assert adjusted is not None, "an adjustment refers to an invoice"
            numbers[line.adjusts_invoice_id] = adjusted.number
    return invoice_document(
        invoice,
        customer,
        await get_organization(tx, org_id),
        subscriptions=await subscription_names(tx, org_id, invoice.lines),
        invoice_numbers=numbers,
    )


async def subscription_names(
    tx: Tx, org_id: UUID, lines: Iterable[InvoiceLine]
) -> dict[UUID, SubscriptionName]:
    """What the subscriptions of these lines are called on paper."""
    names: dict[UUID, SubscriptionName] = {}
    for line in lines:
        if line.subscription_id and line.subscription_id not in names:
            subscription = await subscriptions.get(tx, org_id, line.subscription_id)
            _, plan_name = await plan_names(tx, org_id, subscription.plan_id)
            title = subscription.name or plan_name
            names[line.subscription_id] = SubscriptionName(title, subscription.external_id)
    return names


async def _get(tx: Tx, org_id: UUID, invoice_id: UUID, statuses: frozenset[InvoiceStatus]) -> Invoice:
    invoice = await invoices.find(tx, org_id, invoice_id)
    if invoice is None or invoice.status not in statuses:
        raise NotFound("invoice not found", code="invoice_not_found")
    return invoice
