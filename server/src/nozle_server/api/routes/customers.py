"""Customers: create or update, in the flat form and in Core's."""

from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, SEED, Call, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, STRING, optional, shape
from nozle_server.core.text import parse_id
from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.identity.queries import get_organization


class CustomerBody(msgspec.Struct):
    """The flat form."""

    external_id: str
    name: str | None = None
    email: str | None = None


class CoreCustomer(msgspec.Struct):
    """Core's customer; further fields are stored and given back as sent."""

    external_id: str
    name: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    email: str | None = None
    currency: str | None = None
    timezone: str | None = None
    country: str | None = None
    legal_name: str | None = None
    legal_number: str | None = None
    phone: str | None = None
    url: str | None = None
    address_line1: str | None = None
    address_line2: str | None = None
    city: str | None = None
    state: str | None = None
    zipcode: str | None = None
    tax_identification_number: str | None = None
    customer_type: str | None = None
    metadata: list[dict[str, Any]] | None = None


class CoreCustomerBody(msgspec.Struct):
    customer: CoreCustomer


_OWN = ("external_id", "name", "email", "currency", "timezone")
_DETAILS = tuple(field.name for field in msgspec.structs.fields(CoreCustomer) if field.name not in _OWN)


async def upsert(call: Call) -> object:
    if isinstance(call.body, CoreCustomerBody):
        return await upsert_core(call)
    body: CustomerBody = call.body
    changes = CustomerChanges(parse_id(body.external_id, "external_id"), name=body.name, email=body.email)
    customer = await upsert_customer(call.tx, org_id=call.org_id, changes=changes, now=call.now)
    return {"external_id": customer.external_id, "name": customer.name, "email": customer.email}


async def upsert_core(call: Call) -> object:
    body: CoreCustomer = call.body.customer
    details = {name: value for name in _DETAILS if (value := getattr(body, name)) is not None}
    changes = CustomerChanges(
        parse_id(body.external_id, "external_id"),
        name=body.name,
        email=body.email,
        currency=body.currency,
        timezone=body.timezone,
        details=details,
    )
    customer = await upsert_customer(call.tx, org_id=call.org_id, changes=changes, now=call.now)
    organization = await get_organization(call.tx, call.org_id)
    return {"customer": core_customer(customer, organization.timezone)}


def core_customer(customer: Customer, organization_timezone: str) -> dict[str, object]:
    """Core's customer object."""
    empty: dict[str, object] = dict.fromkeys(_DETAILS)
    return {
        **empty,
        **customer.details,
        "lago_id": customer.id,
        "nozle_id": customer.id,
        "sequential_id": customer.sequential_id,
        "slug": f"CUS-{customer.sequential_id:03d}",
        "external_id": customer.external_id,
        "name": customer.name,
        "email": customer.email,
        "currency": customer.currency,
        "timezone": customer.timezone,
        "applicable_timezone": customer.timezone or organization_timezone,
        "metadata": customer.details.get("metadata", []),
        "created_at": customer.created_at,
        "updated_at": customer.updated_at,
    }


_CORE_REPLY = shape(customer=ANY_OBJECT)
_CORE_EXAMPLE = Example(
    request={"customer": {"external_id": "cust_123", "name": "Acme Corp", "timezone": "Europe/Berlin"}},
    response={
        "customer": {"external_id": "cust_123", "name": "Acme Corp", "applicable_timezone": "Europe/Berlin"}
    },
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/customers",
        handler=upsert,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Create or update a customer",
        description='Upsert by `external_id`; what is left out stays as stored. With `{"customer": ...}` it is Core\'s form.',
        tag="Customers",
        body=CustomerBody,
        body_aliases={"externalId": "external_id"},
        wrapped_key="customer",
        wrapped_body=CoreCustomerBody,
        reply_schema={
            "anyOf": [shape(external_id=STRING, name=optional(STRING), email=optional(STRING)), _CORE_REPLY]
        },
        idempotent=True,
        example=Example(
            request={"external_id": "cust_123", "name": "Acme Corp", "email": "billing@acme.com"},
            response={"external_id": "cust_123", "name": "Acme Corp", "email": "billing@acme.com"},
        ),
    ),
    Endpoint(
        method="POST",
        path="/customers",
        handler=upsert_core,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Create or update a customer",
        tag="Customers",
        body=CoreCustomerBody,
        reply_schema=_CORE_REPLY,
        idempotent=True,
        example=_CORE_EXAMPLE,
    ),
)
