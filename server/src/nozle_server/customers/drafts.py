"""What a caller writes to make or change a customer, with Lago's names, and what of it is stored where.

What is left out stays as stored; null clears. https://getlago.com/docs/api-reference/customers/create
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.countries import is_country
from nozle_server.core.errors import InvalidInput, NotFound, not_supported
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_text
from nozle_server.customers.model import CustomerChanges
from nozle_server.identity.model import DOCUMENT_LOCALES

Text = str | UnsetType | None

MAX_METADATA = 5
MAX_METADATA_KEY = 20
MAX_METADATA_VALUE = 100
MAX_DAYS = 3_660
CUSTOMER_TYPES = ("company", "individual")
ZERO_INVOICES: Mapping[str, bool | None] = {"inherit": None, "finalize": True, "skip": False}
ONLY_BILLING_ENTITY = "default"
"""Core's name for the organization as the one that issues the documents; there is no second."""

_ADDRESS = ("address_line1", "address_line2", "city", "zipcode", "state", "country")
TEXTS = (
    "firstname",
    "lastname",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "logo_url",
    "url",
    "phone",
    "external_salesforce_id",
    *_ADDRESS,
)
PROVIDER = ("payment_provider", "payment_provider_code", "provider_customer_id", "provider_payment_methods")


class CustomerAddressDraft(msgspec.Struct, kw_only=True):
    address_line1: Text = UNSET
    address_line2: Text = UNSET
    city: Text = UNSET
    zipcode: Text = UNSET
    state: Text = UNSET
    country: Text = UNSET


class CustomerMetadataDraft(msgspec.Struct, kw_only=True):
    key: str
    value: str
    display_in_invoice: bool = False


class CustomerBillingDraft(msgspec.Struct, kw_only=True):
    """How the customer pays and gets its documents. The provider's fields are kept for whoever takes the payments."""

    invoice_grace_period: int | UnsetType | None = UNSET
    document_locale: Text = UNSET
    payment_provider: Text = UNSET
    payment_provider_code: Text = UNSET
    provider_customer_id: Text = UNSET
    provider_payment_methods: list[str] | UnsetType | None = UNSET
    sync: bool | None = None
    sync_with_provider: bool | None = None


class CustomerDraft(msgspec.Struct, kw_only=True):
    """Core's customer."""

    external_id: str
    name: Text = UNSET
    firstname: Text = UNSET
    lastname: Text = UNSET
    email: Text = UNSET
    currency: Text = UNSET
    timezone: Text = UNSET
    country: Text = UNSET
    legal_name: Text = UNSET
    legal_number: Text = UNSET
    tax_identification_number: Text = UNSET
    logo_url: Text = UNSET
    phone: Text = UNSET
    url: Text = UNSET
    address_line1: Text = UNSET
    address_line2: Text = UNSET
    city: Text = UNSET
    state: Text = UNSET
    zipcode: Text = UNSET
    external_salesforce_id: Text = UNSET
    customer_type: Text = UNSET
    account_type: Text = UNSET
    billing_entity_code: Text = UNSET
    net_payment_term: int | UnsetType | None = UNSET
    finalize_zero_amount_invoice: Text = UNSET
    billing_configuration: CustomerBillingDraft | UnsetType | None = UNSET
    shipping_address: CustomerAddressDraft | UnsetType | None = UNSET
    metadata: list[CustomerMetadataDraft] | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    integration_customers: list[dict[str, Any]] | None = None
    skip_invoice_custom_sections: bool | None = None
    invoice_custom_section_codes: list[str] | None = None


def to_changes(draft: CustomerDraft, stored: Mapping[str, Any], now: datetime) -> CustomerChanges:
    """What the draft sets; `stored` are the details of the customer so far. InvalidInput names the field."""
    _refuse_unsupported(draft)
    values: dict[str, Any] = {
        name: getattr(draft, name)
        for name in ("name", "email", "currency", "timezone", "net_payment_term")
        if getattr(draft, name) is not UNSET
    }
    _check_days(values, "net_payment_term")
    if draft.finalize_zero_amount_invoice is not UNSET:
        wish = draft.finalize_zero_amount_invoice or "inherit"
        if wish not in ZERO_INVOICES:
            raise _invalid("finalize_zero_amount_invoice", "invalid_value")
        values["finalize_zero_invoices"] = ZERO_INVOICES[wish]
    details = _texts(draft, TEXTS, "")
    if draft.customer_type is not UNSET:
        if draft.customer_type not in (None, *CUSTOMER_TYPES):
            raise _invalid("customer_type", "value_is_invalid")
        details["customer_type"] = draft.customer_type
    if isinstance(draft.shipping_address, CustomerAddressDraft):
        given = _texts(draft.shipping_address, _ADDRESS, "shipping_address.")
        details["shipping_address"] = {**stored.get("shipping_address", {}), **given}
    if isinstance(draft.metadata, list):
        details["metadata"] = _metadata(draft.metadata, stored.get("metadata", ()), now)
    if isinstance(draft.billing_configuration, CustomerBillingDraft):
        _configure(draft.billing_configuration, stored, values, details)
    return CustomerChanges(draft.external_id, values, details)


def _refuse_unsupported(draft: CustomerDraft) -> None:
    if draft.account_type not in (UNSET, None, "customer"):
        raise not_supported("account_type")
    if draft.billing_entity_code not in (UNSET, None, ONLY_BILLING_ENTITY):
        raise NotFound("billing entity not found", code="billing_entity_not_found")
    for name in ("integration_customers", "skip_invoice_custom_sections", "invoice_custom_section_codes"):
        if getattr(draft, name):
            raise not_supported(name)


def _texts(draft: msgspec.Struct, names: Sequence[str], place: str) -> dict[str, Any]:
    texts: dict[str, Any] = {}
    for name in names:
        value = getattr(draft, name)
        if value is UNSET:
            continue
        value = parse_text(value, place + name)
        if name == "country" and value is not None:
            value = value.upper()
            if not is_country(value):
                raise _invalid(place + name, "not_a_valid_country_code")
        texts[name] = value
    return texts


def _metadata(
    wanted: Sequence[CustomerMetadataDraft], stored: Sequence[Any], now: datetime
) -> list[dict[str, Any]]:
    """The entries wanted, in their order; one whose key was there keeps its id."""
    if len(wanted) > MAX_METADATA:
        raise _invalid("metadata", "invalid_count")
    known = {one["key"]: one for one in stored}
    entries: dict[str, dict[str, Any]] = {}
    for one in wanted:
        if not one.key.strip():
            raise _invalid("metadata.key", "value_is_mandatory")
        if one.key in entries:
            raise _invalid("metadata.key", "value_already_exist")
        for name, text, limit in (
            ("key", one.key, MAX_METADATA_KEY),
            ("value", one.value, MAX_METADATA_VALUE),
        ):
            parse_text(text, f"metadata.{name}")
            if len(text) > limit:
                raise _invalid(f"metadata.{name}", "value_is_too_long")
        before = known.get(one.key, {})
        entries[one.key] = {
            "lago_id": before.get("lago_id", str(new_id())),
            "key": one.key,
            "value": one.value,
            "display_in_invoice": one.display_in_invoice,
            "created_at": before.get("created_at", now.isoformat().replace("+00:00", "Z")),
        }
    return list(entries.values())


def _configure(
    wanted: CustomerBillingDraft,
    stored: Mapping[str, Any],
    values: dict[str, Any],
    details: dict[str, Any],
) -> None:
    if wanted.sync or wanted.sync_with_provider:
        raise not_supported("billing_configuration.sync_with_provider")
    if wanted.invoice_grace_period is not UNSET:
        values["invoice_grace_period"] = wanted.invoice_grace_period
        _check_days(values, "invoice_grace_period")
    if wanted.document_locale is not UNSET:
        if wanted.document_locale not in (None, *DOCUMENT_LOCALES):
            raise not_supported("billing_configuration.document_locale")
        details["document_locale"] = wanted.document_locale
    given = {name: getattr(wanted, name) for name in PROVIDER if getattr(wanted, name) is not UNSET}
    if given:
        for name, value in given.items():
            for text in value if isinstance(value, list) else [value]:
                parse_text(text, f"billing_configuration.{name}", max_bytes=255)
        details["provider"] = {**stored.get("provider", {}), **given}


def _check_days(values: Mapping[str, Any], name: str) -> None:
    days = values.get(name)
    if days is not None and not 0 <= days <= MAX_DAYS:
        raise _invalid(name, "value_is_out_of_range")


def _invalid(field: str, code: str) -> InvalidInput:
    return InvalidInput(f"{field} cannot have this value", details={field: [code]})
