"""Use cases that change organizations and keys."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import available_timezones

from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.text import parse_text
from nozle_server.identity import store
from nozle_server.identity.model import ApiKey, KeyKind, Mode, Organization
from nozle_server.identity.tokens import hash_secret, hint_of, new_key_text
from nozle_server.infra.database import Tx

_CHOICES = {
    "publishable_key_access": ("open", "customer_session", "catalog_only"),
    "margin_enforcement": ("observe", "warn", "deny"),
}

MAX_DAYS = 3_660
_PREFIX = re.compile(r"[A-Z0-9][A-Z0-9-]{0,9}")
"""As in Lago, at most ten characters."""


async def create_organization(
    tx: Tx, *, name: str, mode: Mode, now: datetime
) -> tuple[Organization, str, str]:
    """A new organization with a first key of each kind: it, the secret and the publishable key's text.

    The texts exist only here; what is stored cannot be turned back into them.
    """
    organization = await store.insert_organization(tx, new_id(), _checked_name(name), mode, now)
    _, secret = await create_key(tx, organization=organization, kind=KeyKind.SECRET, now=now)
    _, publishable = await create_key(tx, organization=organization, kind=KeyKind.PUBLISHABLE, now=now)
    return organization, secret, publishable


async def create_key(
    tx: Tx, *, organization: Organization, kind: KeyKind, now: datetime, name: str = ""
) -> tuple[ApiKey, str]:
    """A new key of the organization, and its text, which is shown this once."""
    text = new_key_text(kind, organization.mode)
    key = ApiKey(new_id(), organization.id, kind, hint_of(text), parse_text(name, "name") or "", now, None)
    await store.insert_key(tx, key, hash_secret(text))
    return key, text


async def revoke_key(tx: Tx, *, org_id: UUID, key_id: UUID, now: datetime) -> ApiKey:
    """End a key for ever: every process refuses it within a second. Again is harmless. NotFound
    `key_not_found`.
    """
    key = await store.revoke_key(tx, org_id, key_id, now)
    if key is None:
        raise NotFound("key not found", code="key_not_found")
    return key


async def update_organization(tx: Tx, *, org_id: UUID, settings: Mapping[str, object]) -> Organization:
    """Change the given settings (`store.SETTINGS`) and nothing else; the mode is fixed for ever. Of `details` the given
    keys change.

    InvalidInput for a setting we do not have or a value it cannot take; processes follow within a second.
    """
    for name, value in settings.items():
        _check_setting(name, value)
    if not settings:
        return await lock_organization(tx, org_id)
    organization = await store.update_organization(tx, org_id, settings)
    if organization is None:
        raise unknown_organization()
    return organization


async def lock_organization(tx: Tx, org_id: UUID) -> Organization:
    """The organization, held until the transaction ends: one turn of its clock at a time."""
    organization = await store.find_organization(tx, org_id, lock=True)
    if organization is None:
        raise unknown_organization()
    return organization


def unknown_organization() -> NotFound:
    return NotFound("organization not found", code="organization_not_found")


def _check_setting(name: str, value: object) -> None:
    match name:
        case "name":
            _checked_name(value)
        case "default_currency":
            _require(name, isinstance(value, str) and is_currency(value))
        case "timezone":
            _require(name, value in available_timezones())
        case "publishable_key_access" | "margin_enforcement":
            _require(name, value in _CHOICES[name])
        case "show_margin_to_publishable_keys" | "workspace_channel_for_publishable_keys":
            _require(name, isinstance(value, bool))
        case "min_margin_percent":
            _require(
                name, value is None or (isinstance(value, Decimal) and value.is_finite() and value <= 100)
            )
        case "net_payment_term" | "invoice_grace_period":
            _require(name, isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_DAYS)
        case "finalize_zero_invoices":
            _require(name, isinstance(value, bool))
        case "document_number_prefix":
            _require(name, isinstance(value, str) and _PREFIX.fullmatch(value) is not None)
        case "details":
            _require(name, isinstance(value, Mapping))
        case _:
            raise InvalidInput("an organization has no such setting", code="unknown_setting")


def _checked_name(name: object) -> str:
    _require("name", isinstance(name, str) and bool(name.strip()))
    assert isinstance(name, str)
    return parse_text(name, "name", max_bytes=255) or ""


def _require(field: str, holds: bool) -> None:
    if not holds:
        raise InvalidInput(f"{field} cannot have this value", details={field: ["value_is_invalid"]})
