"""Customers: create or update, in the flat form and in Core's; list, get, delete."""

from collections.abc import Sequence

import msgspec

from nozle_server.api.endpoint import CORE, SEED, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.routes.taxes import taxes_json
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, STRING, array, optional, shape
from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.customers import store
from nozle_server.customers.drafts import (
    ONLY_BILLING_ENTITY,
    PROVIDER,
    TEXTS,
    ZERO_INVOICES,
    CustomerDraft,
)
from nozle_server.customers.model import Customer, CustomerChanges, CustomerFilter
from nozle_server.customers.queries import get_customer
from nozle_server.identity.queries import get_organization
from nozle_server.taxes.queries import taxes_of_customers
from nozle_server.workflows.delete_customer import delete_customer
from nozle_server.workflows.upsert_customer import upsert_core_customer, upsert_seed_customer


class CustomerBody(msgspec.Struct):
    """The flat form."""

    external_id: str
    name: str | None = None
    email: str | None = None


class CoreCustomerBody(msgspec.Struct):
    customer: CustomerDraft


class CustomersQuery(PageQuery):
    """`metadata[key]=value` wants that entry, `metadata[key]=` customers without the key."""

    search_term: str | None = None
    currencies: list[str] = msgspec.field(default_factory=list)
    countries: list[str] = msgspec.field(default_factory=list)
    states: list[str] = msgspec.field(default_factory=list)
    zipcodes: list[str] = msgspec.field(default_factory=list)
    account_type: list[str] = msgspec.field(default_factory=list)
    billing_entity_codes: list[str] = msgspec.field(default_factory=list)
    customer_type: str | None = None
    has_customer_type: bool | None = None
    has_tax_identification_number: bool | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


_ADDRESS = ("address_line1", "address_line2", "city", "zipcode", "state", "country")
_ZERO_WORDS = {value: word for word, value in ZERO_INVOICES.items()}


async def upsert(call: Call) -> object:
    if isinstance(call.body, CoreCustomerBody):
        return await upsert_core(call)
    body: CustomerBody = call.body
    given = {name: value for name in ("name", "email") if (value := getattr(body, name)) is not None}
    changes = CustomerChanges(parse_id(body.external_id, "external_id"), given)
    customer = await upsert_seed_customer(
        call.tx, call.services.seams, org_id=call.org_id, changes=changes, now=call.now
    )
    return {"external_id": customer.external_id, "name": customer.name, "email": customer.email}


async def upsert_core(call: Call) -> object:
    customer = await upsert_core_customer(
        call.tx, call.services.seams, org_id=call.org_id, draft=call.body.customer, now=call.now
    )
    return {"customer": await customer_json(call, customer)}


async def show(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    return {"customer": await customer_json(call, customer)}


async def delete(call: Call) -> object:
    customer = await delete_customer(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        external_id=call.path["external_id"],
        now=call.now,
    )
    return {"customer": await customer_json(call, customer)}


async def index(call: Call) -> object:
    query: CustomersQuery = call.query
    if set(query.billing_entity_codes) - {ONLY_BILLING_ENTITY}:
        raise NotFound("billing entity not found", code="billing_entity_not_found")
    wanted = CustomerFilter(
        search_term=query.search_term or None,
        currencies=tuple(query.currencies),
        countries=tuple(query.countries),
        states=tuple(query.states),
        zipcodes=tuple(query.zipcodes),
        customer_type=query.customer_type,
        has_customer_type=query.has_customer_type,
        has_tax_identification_number=query.has_tax_identification_number,
        metadata=query.metadata,
    )
    if query.account_type and "customer" not in query.account_type:
        customers: list[Customer] = []
        total = 0  # every customer of ours is of that type
    else:
        customers, total = await store.list_customers(
            call.tx, call.org_id, wanted, limit=query.per_page, offset=query.offset
        )
    return {
        "customers": await customers_json(call, customers),
        "meta": page_meta(query, total),
    }


async def customer_json(call: Call, customer: Customer) -> dict[str, object]:
    """Core's customer object with the customer's own taxes, as its own endpoints show it."""
    [shown] = await customers_json(call, [customer])
    return shown


async def customers_json(call: Call, customers: Sequence[Customer]) -> list[dict[str, object]]:
    """As `customer_json`, in the order given: as many queries for a page of them as for one."""
    organization = await get_organization(call.tx, call.org_id)
    own = await taxes_of_customers(call.tx, call.org_id, [one.id for one in customers])
    different = {tax.id: tax for taxes in own.values() for tax in taxes}
    shown = await taxes_json(call.tx, call.org_id, list(different.values()))
    by_id = dict(zip(different, shown, strict=True))
    return [
        core_customer(one, organization.timezone, [by_id[tax.id] for tax in own[one.id]]) for one in customers
    ]


def core_customer(
    customer: Customer, organization_timezone: str, taxes: Sequence[dict[str, object]] | None = None
) -> dict[str, object]:
    """Core's customer object; with `taxes` as its own endpoints show it, without as other objects embed it."""
    details = customer.details
    shipping = details.get("shipping_address", {})
    provider = details.get("provider", {})
    shown: dict[str, object] = {
        **{name: details.get(name) for name in TEXTS},
        "lago_id": customer.id,
        "nozle_id": customer.id,
        "billing_entity_code": ONLY_BILLING_ENTITY,
        "external_id": customer.external_id,
        "account_type": "customer",
        "customer_type": details.get("customer_type"),
        "name": customer.name,
        "sequential_id": customer.sequential_id,
        "slug": f"CUS-{customer.sequential_id:03d}",
        "email": customer.email,
        "currency": customer.currency,
        "timezone": customer.timezone,
        "applicable_timezone": customer.timezone or organization_timezone,
        "net_payment_term": customer.net_payment_term,
        "finalize_zero_amount_invoice": _ZERO_WORDS[customer.finalize_zero_invoices],
        "billing_configuration": {
            "invoice_grace_period": customer.invoice_grace_period,
            "document_locale": details.get("document_locale"),
            **{name: provider.get(name) for name in PROVIDER},
        },
        "shipping_address": {name: shipping.get(name) for name in _ADDRESS},
        "skip_invoice_custom_sections": False,
        "metadata": details.get("metadata", []),
        "created_at": customer.created_at,
        "updated_at": customer.updated_at,
    }
    if taxes is not None:
        shown |= {
            "taxes": taxes,
            "integration_customers": [],
            "applicable_invoice_custom_sections": [],
        }
    return shown


_CORE_REPLY = shape(customer=ANY_OBJECT)
_SHOWN = {"external_id": "cust_123", "name": "Acme Corp", "applicable_timezone": "Europe/Berlin"}
_CORE_EXAMPLE = Example(
    request={
        "customer": {
            "external_id": "cust_123",
            "name": "Acme Corp",
            "timezone": "Europe/Berlin",
            "net_payment_term": 30,
            "billing_configuration": {"invoice_grace_period": 3},
            "metadata": [{"key": "Purchase order", "value": "PO-123", "display_in_invoice": True}],
        }
    },
    response={"customer": _SHOWN},
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
        errors=(404, 422),
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
        description=(
            "Upsert by `external_id`: what is left out stays as stored, null clears. `tax_codes` and `metadata` replace"
            " what was there. The currency cannot change once something is billed in it; a new time zone holds for"
            " subscriptions that start from then on."
        ),
        tag="Customers",
        body=CoreCustomerBody,
        reply_schema=_CORE_REPLY,
        errors=(404, 422),
        idempotent=True,
        example=_CORE_EXAMPLE,
    ),
    Endpoint(
        method="GET",
        path="/customers",
        handler=index,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List customers",
        description="Newest first. Lists may be repeated, as `currencies[]=USD&currencies[]=EUR`.",
        tag="Customers",
        query=CustomersQuery,
        reply_schema=shape(customers=array(ANY_OBJECT), meta=PAGE_META),
        errors=(404,),
        example=Example(response={"customers": [_SHOWN], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a customer",
        tag="Customers",
        reply_schema=_CORE_REPLY,
        errors=(404,),
        example=Example(response={"customer": _SHOWN}),
    ),
    Endpoint(
        method="DELETE",
        path="/customers/{external_id}",
        handler=delete,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Delete a customer",
        description=(
            "Ends its subscriptions now, with their last invoices. Documents and events stay; the `external_id` may be used"
            " for a new customer."
        ),
        tag="Customers",
        reply_schema=_CORE_REPLY,
        errors=(404,),
        idempotent=True,
        example=Example(response={"customer": _SHOWN}),
    ),
)
