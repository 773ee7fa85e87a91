"""Use cases that only look at subscriptions."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription


async def find_current(tx: Tx, org_id: UUID, customer_id: UUID, now: datetime) -> Subscription | None:
    """The subscription that counts for the customer at `now`: an active one, else one that is to begin, else the one that
    ended last, else one that never began."""
    subscriptions = await store.list_of_customer(tx, org_id, customer_id)
    return min(subscriptions, key=lambda one: _rank(one, now), default=None)


async def find_pending(tx: Tx, subscription: Subscription) -> Subscription | None:
    """The change of plan that is to follow a subscription."""
    successor = await store.find_successor(tx, subscription.org_id, subscription.id)
    return successor if successor is not None and successor.status is Status.PENDING else None


def _rank(subscription: Subscription, now: datetime) -> int:
    if subscription.status is Status.ACTIVE and subscription.is_active_at(now):
        return 0
    return {Status.PENDING: 1, Status.CANCELED: 3}.get(subscription.status, 2)
