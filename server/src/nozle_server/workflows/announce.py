"""Announce what happens to a subscription, with whom it concerns: whoever keeps what a customer may do drops it unasked."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from nozle_server.customers import store as customers_store
from nozle_server.customers.model import Customer
from nozle_server.entitlements.news import CUSTOMERS, ENTITLEMENTS_CHANGED, USAGE_COUNTED, of_customer
from nozle_server.infra.batch import later
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions.model import Subscription


async def announce(
    tx: Tx, seams: Seams, kind: str, subscription: Subscription, payload: Mapping[str, Any] | None = None
) -> None:
    """Something happened to a subscription."""
    org_id = subscription.org_id
    external_id = await customer_of(tx, org_id, subscription.customer_id)
    change = Change(org_id, kind, str(subscription.id), of_customer(external_id, payload))
    await seams.change_bus.publish(tx, change)


async def announce_rights(tx: Tx, seams: Seams, subscription: Subscription) -> None:
    """What a subscription allows, or will allow, is otherwise than it was, and nobody else needs to hear of it."""
    await announce(tx, seams, ENTITLEMENTS_CHANGED, subscription)


async def announce_of_customer(tx: Tx, seams: Seams, kind: str, customer: Customer) -> None:
    """Something happened to a customer."""
    change = Change(customer.org_id, kind, str(customer.id), of_customer(customer.external_id))
    await seams.change_bus.publish(tx, change)


async def announce_usage(tx: Tx, seams: Seams, org_id: UUID, external_customer_ids: Sequence[str]) -> None:
    """What these customers have used in their periods is otherwise than it was; in a batch one fact tells of all."""
    await later(tx, _announce_usage, (seams, org_id, external_customer_ids))


async def _announce_usage(tx: Tx, moved: Sequence[tuple[Seams, UUID, Sequence[str]]]) -> None:
    seams, org_id, _ = moved[0]
    assert all(each == org_id for _, each, _ in moved), "a batch is one organization's"
    await seams.change_bus.publish(tx, usage_counted(org_id, [one for _, _, some in moved for one in some]))


def usage_counted(org_id: UUID, external_customer_ids: Sequence[str]) -> Change:
    """The news that usage of these customers has moved."""
    names = sorted(set(external_customer_ids))
    return Change(org_id, USAGE_COUNTED, names[0], {CUSTOMERS: names})


async def customer_of(tx: Tx, org_id: UUID, customer_id: UUID) -> str:
    """The merchant's id of a customer that something of ours refers to."""
    customer = await customers_store.find_by_id(tx, org_id, customer_id)
    assert customer is not None, "customers are only marked as deleted"
    return customer.external_id
