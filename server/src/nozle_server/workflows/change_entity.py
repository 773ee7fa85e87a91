"""Change the entities of a customer: what they are, and with it who spends which credits.

What has been decided about the customer's accounts with the entities as they were is void from the same transaction on,
because each change raises the accounts' versions.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.credits.operations.entity_credits import close_entities
from nozle_server.credits.operations.grants import touch_accounts
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import lock_customer
from nozle_server.entities import operations
from nozle_server.entities.drafts import Snapshot
from nozle_server.entities.model import EntityChange
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.workflows.grant_plan_credits import grant_to_entities


async def put_entities(
    tx: Tx, seams: Seams, *, org_id: UUID, customer_id: str, snapshots: Sequence[Snapshot], now: datetime
) -> tuple[Customer, tuple[EntityChange, ...]]:
    """As `entities.operations.put_entities`, for the customer with this external id. NotFound `customer_not_found`.

    Who becomes active gets what the customer's plans grant to each; who is suspended or deleted loses its credits:
    top-ups go back to the customer, what was granted expires.
    """
    customer = await lock_customer(tx, org_id, customer_id)
    changes = await operations.put_entities(
        tx, seams.change_bus, customer=customer, snapshots=snapshots, now=now
    )
    closed = [one.entity.id for one in changes if one.closes]
    # Subscriptions are held before accounts.
    if closed:
        await _hold_subscriptions(tx, org_id, customer.id)
    if opened := [one.entity.id for one in changes if one.opens]:
        await grant_to_entities(tx, seams, org_id=org_id, customer_id=customer.id, entity_ids=opened, now=now)
    if closed:
        await close_entities(
            tx, seams.change_bus, org_id=org_id, customer_id=customer.id, entity_ids=closed, now=now
        )
    elif any(one.moves_credits for one in changes):
        await touch_accounts(tx, org_id, customer.id)
    return customer, changes


async def _hold_subscriptions(tx: Tx, org_id: UUID, customer_id: UUID) -> None:
    """Whoever grants a plan's credits to entities holds the subscription: what it grants is there before they are closed, or
    it sees them closed."""
    for one in await subscriptions_store.list_of_customer(tx, org_id, customer_id):
        if one.status is Status.ACTIVE:
            await subscriptions_store.hold(tx, org_id, one.id)


async def delete_all_entities(tx: Tx, seams: Seams, *, customer: Customer, now: datetime) -> None:
    """Delete the entities of a customer that is held, with what that brings."""
    gone = await operations.delete_entities(tx, seams.change_bus, customer=customer, now=now)
    if gone:
        await close_entities(
            tx,
            seams.change_bus,
            org_id=customer.org_id,
            customer_id=customer.id,
            entity_ids=[one.id for one in gone],
            now=now,
        )
