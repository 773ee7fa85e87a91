"""The organization itself, in Core's form."""

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.rights import rights_changed
from nozle_server.api.routes.taxes import taxes_json
from nozle_server.api.shapes import ANY_OBJECT, shape
from nozle_server.identity.drafts import DOCUMENT_NUMBERING, TEXTS, OrganizationDraft, to_settings
from nozle_server.identity.model import DOCUMENT_LOCALES, Organization
from nozle_server.identity.operations import update_organization
from nozle_server.identity.queries import get_organization
from nozle_server.taxes.store import taxes_of_organization


class OrganizationBody(msgspec.Struct):
    organization: OrganizationDraft


async def show(call: Call) -> object:
    return await _one(call, await get_organization(call.tx, call.org_id))


async def update(call: Call) -> object:
    settings = to_settings(call.body.organization)
    updated = await update_organization(call.tx, org_id=call.org_id, settings=settings)
    await rights_changed(call)
    return await _one(call, updated)


async def _one(call: Call, organization: Organization) -> object:
    taxes = await taxes_of_organization(call.tx, call.org_id)
    shown = organization_json(organization)
    return {"organization": {**shown, "taxes": await taxes_json(call.tx, call.org_id, taxes)}}


def organization_json(organization: Organization) -> dict[str, object]:
    """Core's organization, without its taxes."""
    details = organization.details
    return {
        **{name: details.get(name) for name in TEXTS},
        "lago_id": organization.id,
        "nozle_id": organization.id,
        "name": organization.name,
        "default_currency": organization.default_currency,
        "timezone": organization.timezone,
        "net_payment_term": organization.net_payment_term,
        "document_numbering": DOCUMENT_NUMBERING,
        "document_number_prefix": organization.document_number_prefix,
        "finalize_zero_amount_invoice": organization.finalize_zero_invoices,
        "email_settings": [],
        "webhook_url": "",
        "webhook_urls": [],
        "billing_configuration": {
            "invoice_footer": details.get("invoice_footer"),
            "invoice_grace_period": organization.invoice_grace_period,
            "document_locale": details.get("document_locale", DOCUMENT_LOCALES[0]),
        },
        "created_at": organization.created_at,
    }


_REPLY = shape(organization=ANY_OBJECT)
_EXAMPLE = {
    "name": "Hooli",
    "default_currency": "USD",
    "timezone": "America/New_York",
    "net_payment_term": 30,
    "document_number_prefix": "HOO",
    "billing_configuration": {"invoice_footer": "Thank you", "invoice_grace_period": 3},
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/organizations",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get the organization",
        tag="Organization",
        reply_schema=_REPLY,
        example=Example(response={"organization": _EXAMPLE}),
    ),
    Endpoint(
        method="PUT",
        path="/organizations",
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Change the organization",
        description=(
            "What is left out stays. Terms reach customers without terms of their own, with the invoices made from then on;"
            " the zone reaches subscriptions that start from then on. Documents are numbered per organization."
        ),
        tag="Organization",
        body=OrganizationBody,
        reply_schema=_REPLY,
        errors=(422,),
        example=Example(request={"organization": _EXAMPLE}, response={"organization": _EXAMPLE}),
    ),
)
