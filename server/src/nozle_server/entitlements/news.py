"""What is announced when rights may have changed; whoever keeps decisions decides anew.

Everything that a commit changes of what `can()` reads is announced by it, in one of two ways: for the organization, or for
customers by the merchant's ids, so that nobody has to look up whom the news concern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from nozle_server.infra.change_bus import Change

ENTITLEMENTS_CHANGED = "entitlements.changed"
"""What plans, features or a subscription allow has changed: of one customer, where the payload names it, else of any."""

USAGE_COUNTED = "usage.counted"
"""Usage of these customers (payload `external_customer_ids`) has moved, or a period of it has begun."""

CACHES_RELOADED = "caches.reloaded"
"""Somebody asked every process to read everything of the organization afresh."""

CUSTOMER = "external_customer_id"
"""In the payload of what concerns one customer."""
CUSTOMERS = "external_customer_ids"

_CONCERNING = (ENTITLEMENTS_CHANGED, CACHES_RELOADED, USAGE_COUNTED, "subscription.", "customer.", "entity.")


@dataclass(frozen=True, slots=True)
class Organization:
    """Any customer of the organization."""


@dataclass(frozen=True, slots=True)
class Customers:
    """These, by the merchant's ids; there may be none of such a name yet, or any more."""

    external_ids: Sequence[str]


def concerned(change: Change) -> Organization | Customers | None:
    """Whose rights a change may have changed; None: nobody's depend on it.

    News that do not say whose they are, as those of an older release, are everybody's.
    """
    if not change.kind.startswith(_CONCERNING):
        return None
    if CUSTOMER in change.payload:
        return Customers((change.payload[CUSTOMER],))
    return Customers(tuple(change.payload[CUSTOMERS])) if CUSTOMERS in change.payload else Organization()


def rights_of_everybody(org_id: UUID) -> Change:
    """The news that any customer of the organization may be allowed something else than before."""
    return Change(org_id, ENTITLEMENTS_CHANGED, str(org_id))


def rights_of(org_id: UUID, external_customer_id: str) -> Change:
    """The news that this customer may be allowed something else than before."""
    return Change(org_id, ENTITLEMENTS_CHANGED, external_customer_id, of_customer(external_customer_id))


def of_customer(external_id: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The payload of news that concern one customer."""
    return {**(payload or {}), CUSTOMER: external_id}
