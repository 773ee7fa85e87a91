"""Delete a customer: what it has ends now, with the last invoices; its documents and events stay.

As Lago: https://getlago.com/docs/guide/customers/manage-customers
"""

from datetime import datetime
from uuid import UUID

from nozle_server.coupons import applied_store
from nozle_server.credits.operations.grants import touch_accounts
from nozle_server.customers.model import Customer
from nozle_server.customers.operations import mark_deleted
from nozle_server.customers.queries import lock_customer
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.model import InvoiceStatus
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.wallets import store as wallets_store
from nozle_server.wallets.operations.wallets import terminate_wallet
from nozle_server.workflows.announce import announce_of_customer
from nozle_server.workflows.catch_up import catch_up
from nozle_server.workflows.change_entity import delete_all_entities
from nozle_server.workflows.close_period import finalize_draft
from nozle_server.workflows.end_subscription import end_now

CUSTOMER_DELETED = "customer.deleted"

_PAGE = 100


async def delete_customer(tx: Tx, seams: Seams, *, org_id: UUID, external_id: str, now: datetime) -> Customer:
    """End the customer's subscriptions, make its drafts final, end its coupons, wallets and entities, and forget its
    external id.

    In this order, so that the last invoices still take what coupons and wallets have. NotFound `customer_not_found`.
    """
    customer = await lock_customer(tx, org_id, external_id)
    for one in await subscriptions_store.list_of_customer(tx, org_id, customer.id):
        if one.status not in (Status.ACTIVE, Status.PENDING):
            continue
        running = await catch_up(tx, seams, org_id=org_id, subscription_id=one.id, now=now)
        if running.status in (Status.ACTIVE, Status.PENDING):
            await end_now(tx, seams, subscription=running, now=now)
    await _finalize_drafts(tx, seams, customer, now)
    for applied in await applied_store.active_of_customer(tx, org_id, customer.id):
        await applied_store.end_applied(
            tx, org_id, customer_id=customer.id, applied_coupon_id=applied.id, now=now
        )
    for wallet in await wallets_store.list_active(tx, org_id, customer.id):
        await terminate_wallet(tx, seams.change_bus, wallet=wallet, now=now)
    await delete_all_entities(tx, seams, customer=customer, now=now)
    await touch_accounts(tx, org_id, customer.id)
    deleted = await mark_deleted(tx, org_id=org_id, external_id=external_id, now=now)
    await announce_of_customer(tx, seams, CUSTOMER_DELETED, customer)
    return deleted


async def _finalize_drafts(tx: Tx, seams: Seams, customer: Customer, now: datetime) -> None:
    drafts_only = InvoiceFilter(customer_id=customer.id, statuses=(InvoiceStatus.DRAFT,))
    while True:
        drafts, _ = await invoicing_store.list_invoices(
            tx, customer.org_id, drafts_only, limit=_PAGE, offset=0
        )
        if not drafts:
            return
        for draft in sorted(drafts, key=lambda one: (one.created_at, one.id)):
            await finalize_draft(tx, seams, org_id=customer.org_id, invoice_id=draft.id, now=now)
