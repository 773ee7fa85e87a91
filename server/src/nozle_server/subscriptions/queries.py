"""Use cases that only look at subscriptions."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription


async def find_current(tx: Tx, org_id: UUID, customer_id: UUID, now: datetime) -> Subscription | None:
    """The subscription that counts for the customer at `now`: an active one, else the one that ended last."""
    subscriptions = await store.list_of_customer(tx, org_id, customer_id)
    for one in subscriptions:
        if one.status is Status.ACTIVE and one.is_active_at(now):
            return one
    return subscriptions[0] if subscriptions else None
