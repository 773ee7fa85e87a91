"""Which changes of the bus may change what a customer may do, and whom they concern."""

from dataclasses import dataclass
from uuid import UUID

from nozle_server.entitlements.news import ENTITLEMENTS_CHANGED, USAGE_COUNTED
from nozle_server.infra import watches
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.watch_kinds import EVERYBODY, REALTIME
from nozle_server.realtime import store

# Words of those who announce them; the subject is the subscription's or the customer's id.
_OF_SUBSCRIPTIONS = "subscription."
_OF_CUSTOMERS = ("customer.created", "customer.updated", "customer.deleted")
_OF_EVERYBODY = (ENTITLEMENTS_CHANGED, "caches.reloaded")


@dataclass(frozen=True, slots=True)
class Whom:
    """These customers; everybody when there are none."""

    subscriptions: tuple[UUID, ...] = ()
    customers: tuple[UUID, ...] = ()


def whom_it_concerns(change: Change) -> Whom | None:
    """None: nobody's rights depend on it."""
    if change.kind.startswith(_OF_SUBSCRIPTIONS):
        return Whom(subscriptions=(UUID(change.subject),))
    if change.kind in _OF_CUSTOMERS:
        return Whom(customers=(UUID(change.subject),))
    if change.kind == USAGE_COUNTED:
        return Whom(customers=tuple(UUID(one) for one in change.payload["customers"]))
    return Whom() if change.kind in _OF_EVERYBODY else None


async def find_customers(tx: Tx, org_id: UUID, whom: Whom) -> list[str] | None:
    """The merchant's ids of them; None: everybody."""
    if whom.subscriptions:
        return await store.customers_of_subscriptions(tx, org_id, whom.subscriptions)
    if whom.customers:
        return await store.customers_by_id(tx, org_id, whom.customers)
    return None


async def watch_everybody(tx: Tx, org_id: UUID) -> None:
    """Have the usage of all customers told."""
    await watches.watch(tx, org_id, REALTIME, EVERYBODY)
