"""Create or change a customer in Core's form: its own fields, its taxes, and a currency that its documents agree with."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET

from nozle_server.catalog import plan_store
from nozle_server.core.errors import InvalidInput
from nozle_server.core.text import parse_id
from nozle_server.coupons import applied_store
from nozle_server.credits.operations.grants import touch_accounts
from nozle_server.customers import store as customers_store
from nozle_server.customers.drafts import CustomerDraft, to_changes
from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.taxes.operations import set_customer_taxes
from nozle_server.wallets import store as wallets_store
from nozle_server.workflows.announce import announce_of_customer

CUSTOMER_CREATED = "customer.created"
CUSTOMER_UPDATED = "customer.updated"


async def upsert_seed_customer(
    tx: Tx, seams: Seams, *, org_id: UUID, changes: CustomerChanges, now: datetime
) -> Customer:
    """As `upsert_customer`, and tells of it."""
    known = await customers_store.find(tx, org_id, changes.external_id)
    customer = await upsert_customer(tx, org_id=org_id, changes=changes, now=now)
    kind = CUSTOMER_CREATED if known is None else CUSTOMER_UPDATED
    await announce_of_customer(tx, seams, kind, customer)
    return customer


async def upsert_core_customer(
    tx: Tx, seams: Seams, *, org_id: UUID, draft: CustomerDraft, now: datetime
) -> Customer:
    """As `upsert_customer`, with every field of Core's. InvalidInput `currencies_does_not_match` for a currency other
    than what was billed already, NotFound `tax_not_found`."""
    before = await customers_store.lock(tx, org_id, parse_id(draft.external_id, "external_id"))
    changes = to_changes(draft, before.details if before else {}, now)
    currency = changes.values.get("currency", before.currency if before else None)
    if before is not None and currency != before.currency:
        await _check_currency(tx, before, currency)
    customer = await upsert_customer(tx, org_id=org_id, changes=changes, now=now)
    if before is not None and customer.timezone != before.timezone:
        await touch_accounts(
            tx, org_id, customer.id
        )  # days and months of its budgets begin at other instants
    if draft.tax_codes is not UNSET:
        await set_customer_taxes(tx, org_id, customer.id, draft.tax_codes or ())
    kind = CUSTOMER_CREATED if before is None else CUSTOMER_UPDATED
    await announce_of_customer(tx, seams, kind, customer)
    return customer


async def _check_currency(tx: Tx, customer: Customer, wanted: str | None) -> None:
    """A customer is billed in one currency: once something is, it cannot become another."""
    billed = set()
    for subscription in await subscriptions_store.list_of_customer(tx, customer.org_id, customer.id):
        version = await plan_store.get_plan_version(tx, customer.org_id, subscription.plan_version_id)
        billed.add(version.currency)
    invoices, _ = await invoicing_store.list_invoices(
        tx, customer.org_id, InvoiceFilter(customer_id=customer.id), limit=1, offset=0
    )
    wallets, _ = await wallets_store.list_wallets(
        tx, customer.org_id, customer_id=customer.id, currency=None, limit=1, offset=0
    )
    coupons = await applied_store.active_of_customer(tx, customer.org_id, customer.id)
    billed |= {invoice.currency for invoice in invoices} | {wallet.currency for wallet in wallets}
    billed |= {one.terms.currency for one in coupons if one.terms.currency is not None}
    if billed - {wanted}:
        raise InvalidInput(
            "the customer is billed in another currency",
            details={"currency": ["currencies_does_not_match"]},
        )
