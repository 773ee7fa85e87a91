"""What a caller writes to change the organization, with Lago's names. What is left out stays; null clears what may be
empty. https://getlago.com/docs/api-reference/organizations/update
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.countries import is_country
from nozle_server.core.errors import InvalidInput, not_supported
from nozle_server.core.text import is_email, parse_text
from nozle_server.identity.model import DOCUMENT_LOCALES

Text = str | UnsetType | None

TEXTS = (
    "email",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "address_line1",
    "address_line2",
    "city",
    "state",
    "zipcode",
    "country",
)
MAX_FOOTER = 600
DOCUMENT_NUMBERING = "per_organization"


class OrganizationBillingDraft(msgspec.Struct, kw_only=True):
    invoice_footer: Text = UNSET
    invoice_grace_period: int | UnsetType = UNSET
    document_locale: str | UnsetType = UNSET


class OrganizationDraft(msgspec.Struct, kw_only=True):
    """Core's organization."""

    name: str | UnsetType = UNSET
    default_currency: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    net_payment_term: int | UnsetType = UNSET
    finalize_zero_amount_invoice: bool | UnsetType = UNSET
    document_number_prefix: str | UnsetType = UNSET
    document_numbering: str | UnsetType = UNSET
    email: Text = UNSET
    legal_name: Text = UNSET
    legal_number: Text = UNSET
    tax_identification_number: Text = UNSET
    address_line1: Text = UNSET
    address_line2: Text = UNSET
    city: Text = UNSET
    state: Text = UNSET
    zipcode: Text = UNSET
    country: Text = UNSET
    billing_configuration: OrganizationBillingDraft | UnsetType | None = UNSET
    webhook_url: str | None = None
    webhook_urls: list[str] | None = None
    email_settings: list[str] | None = None


def to_settings(draft: OrganizationDraft) -> dict[str, Any]:
    """The settings that the draft changes, as `update_organization` takes them. InvalidInput names the field."""
    for name in ("webhook_url", "webhook_urls", "email_settings"):
        if getattr(draft, name):
            raise not_supported(name)
    if draft.document_numbering not in (UNSET, DOCUMENT_NUMBERING):
        raise not_supported("document_numbering")
    settings: dict[str, Any] = {
        name: value
        for name in ("name", "default_currency", "timezone", "net_payment_term", "document_number_prefix")
        if (value := getattr(draft, name)) is not UNSET
    }
    if "document_number_prefix" in settings:
        settings["document_number_prefix"] = settings["document_number_prefix"].upper()
    if draft.finalize_zero_amount_invoice is not UNSET:
        settings["finalize_zero_invoices"] = draft.finalize_zero_amount_invoice
    details = {name: _text(name, value) for name in TEXTS if (value := getattr(draft, name)) is not UNSET}
    if isinstance(draft.billing_configuration, OrganizationBillingDraft):
        _configure(draft.billing_configuration, settings, details)
    if details:
        settings["details"] = details
    return settings


def _configure(
    wanted: OrganizationBillingDraft, settings: dict[str, Any], details: dict[str, str | None]
) -> None:
    if wanted.invoice_grace_period is not UNSET:
        settings["invoice_grace_period"] = wanted.invoice_grace_period
    if wanted.invoice_footer is not UNSET:
        footer = parse_text(wanted.invoice_footer, "billing_configuration.invoice_footer")
        if footer is not None and len(footer) > MAX_FOOTER:
            raise _invalid("billing_configuration.invoice_footer", "value_is_too_long")
        details["invoice_footer"] = footer
    if wanted.document_locale is not UNSET:
        if wanted.document_locale not in DOCUMENT_LOCALES:
            raise not_supported("billing_configuration.document_locale")
        details["document_locale"] = wanted.document_locale


def _text(name: str, value: str | None) -> str | None:
    value = parse_text(value, name)
    if value is not None and name == "country":
        value = value.upper()
        if not is_country(value):
            raise _invalid(name, "not_a_valid_country_code")
    if value and name == "email" and not is_email(value):
        raise _invalid(name, "invalid_email_format")
    return value


def _invalid(field: str, code: str) -> InvalidInput:
    return InvalidInput(f"{field} cannot have this value", details={field: [code]})
