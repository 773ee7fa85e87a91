"""Use cases that change customers."""

from datetime import datetime
from uuid import UUID
from zoneinfo import available_timezones

from nozle_server.core.errors import Conflict, InvalidInput
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.text import is_email, parse_id, parse_text
from nozle_server.customers import store
from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.customers.queries import lock_customer
from nozle_server.infra.database import Tx


async def upsert_customer(tx: Tx, *, org_id: UUID, changes: CustomerChanges, now: datetime) -> Customer:
    """Create the customer, or update what is given; what is left out stays as stored.

    InvalidInput for a blank or malformed external_id, a malformed email, an unknown currency or time zone.
    """
    _check(changes)
    customer = await store.update(tx, org_id, changes, now)
    if customer is None:
        customer = await store.insert(tx, org_id, new_id(), changes, now)
    if customer is None:  # made by another request between the two statements
        customer = await store.update(tx, org_id, changes, now)
    if customer is None:
        raise Conflict("the customer is being changed by another request, try again", code="customer_busy")
    return customer


async def mark_deleted(tx: Tx, *, org_id: UUID, external_id: str, now: datetime) -> Customer:
    """Delete the customer: nobody finds it by its external id any more, its documents stay. NotFound
    `customer_not_found`."""
    customer = await lock_customer(tx, org_id, external_id)
    return await store.mark_deleted(tx, org_id, customer.id, now)


def _check(changes: CustomerChanges) -> None:
    parse_id(changes.external_id, "external_id")
    values = changes.values
    parse_text(values.get("name"), "name")
    email = parse_text(values.get("email"), "email", max_bytes=320)
    if email and not is_email(email):
        raise InvalidInput("email is not an e-mail address", details={"email": ["invalid_email_format"]})
    currency, timezone = values.get("currency"), values.get("timezone")
    if currency is not None and not is_currency(currency):
        raise InvalidInput("currency is not an ISO 4217 code", details={"currency": ["value_is_invalid"]})
    if timezone is not None and timezone not in available_timezones():
        raise InvalidInput("timezone is not an IANA time zone", details={"timezone": ["value_is_invalid"]})
