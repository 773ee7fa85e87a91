"""Whom the merchant bills."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of an organization, known to the merchant by `external_id`.

    `details` holds the further fields of Core's customer object (legal_name, country, metadata ...). Billing terms
    (days to pay, days of grace for drafts, whether invoices of zero are made) are None where the organization's hold.
    A deleted customer keeps its documents; its `external_id` may be another customer's from then on.
    """

    org_id: UUID
    id: UUID
    external_id: str
    sequential_id: int
    name: str | None
    email: str | None
    currency: str | None
    timezone: str | None
    details: Mapping[str, Any]
    net_payment_term: int | None
    invoice_grace_period: int | None
    finalize_zero_invoices: bool | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CustomerChanges:
    """What an upsert sets: `values` by column, `details` by key. What is left out stays as stored, None clears."""

    external_id: str
    values: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFilter:
    """Which customers a list shows; None, () and {} do not restrict. `metadata` wants each key with its value, or, for
    an empty value, customers without that key."""

    search_term: str | None = None
    currencies: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    zipcodes: tuple[str, ...] = ()
    has_tax_identification_number: bool | None = None
    customer_type: str | None = None
    has_customer_type: bool | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
