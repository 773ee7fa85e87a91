"""Organizations (the merchants), their API keys, and who a request speaks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

DOCUMENT_LOCALES = ("en",)
"""The languages that documents are written in."""


class Mode(Enum):
    """Fixed when an organization is made: test organizations have a clock that can be turned, live ones do not."""

    TEST = "test"
    LIVE = "live"


class KeyKind(Enum):
    """What a key may do. The row decides; the prefix of the key only shows it (contract Decision 8)."""

    SECRET = "secret"
    PUBLISHABLE = "publishable"


@dataclass(frozen=True, slots=True)
class Organization:
    """The merchant using Nozle; `workspace_id` on the wire.

    `test_now` is the test clock's instant, or None while the organization lives on real time. Customers without terms of
    their own pay within `net_payment_term` days, and get drafts for `invoice_grace_period` days before an invoice is
    final. `details` holds the further fields of Core's organization (legal name, address, ...).
    """

    id: UUID
    name: str
    mode: Mode
    default_currency: str
    timezone: str
    publishable_key_access: str
    show_margin_to_publishable_keys: bool
    workspace_channel_for_publishable_keys: bool
    margin_enforcement: str
    min_margin_percent: Decimal | None
    test_now: datetime | None
    created_at: datetime
    net_payment_term: int
    invoice_grace_period: int
    finalize_zero_invoices: bool
    document_number_prefix: str
    details: Mapping[str, Any]

    def now(self, real_now: datetime) -> datetime:
        """The organization's time: its test clock if it has been set, else real time."""
        return self.test_now or real_now


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed: everything but the secret itself, of which only a hash is kept."""

    id: UUID
    org_id: UUID
    kind: KeyKind
    hint: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request speaks for: a key of an organization, and the rights that come with it."""

    org_id: UUID
    key_id: UUID
    kind: KeyKind
    mode: Mode
    publishable_key_access: str
    show_margin_to_publishable_keys: bool

    @property
    def may_see_margin(self) -> bool:
        """Cost, revenue and margin fields are null for a publishable key unless the organization shows them."""
        return self.kind is KeyKind.SECRET or self.show_margin_to_publishable_keys


@dataclass(frozen=True, slots=True)
class CustomerSession:
    """A browser's short-lived right to one customer's data, within the scopes it was made for."""

    org_id: UUID
    customer_id: UUID
    scopes: tuple[str, ...]
    expires_at: datetime
