"""Use cases that only look at customers."""

from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.customers import store
from nozle_server.customers.model import Customer
from nozle_server.infra.database import Tx


async def get_customer(tx: Tx, org_id: UUID, external_id: str) -> Customer:
    """The customer, by the merchant's id for it; NotFound `customer_not_found`."""
    customer = await store.find(tx, org_id, parse_id(external_id, "customer_id"))
    if customer is None:
        raise unknown_customer()
    return customer


async def lock_customer(tx: Tx, org_id: UUID, external_id: str) -> Customer:
    """As `get_customer`, held until the transaction ends."""
    customer = await store.lock(tx, org_id, parse_id(external_id, "customer_id"))
    if customer is None:
        raise unknown_customer()
    return customer


def unknown_customer() -> NotFound:
    return NotFound("customer not found", code="customer_not_found")
