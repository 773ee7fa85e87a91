"""Whom the merchant bills."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of an organization, known to the merchant by `external_id`.

    `details` holds the further fields of Core's customer object (legal_name, country, metadata ...) as sent. Billing terms
    (days to pay, days of grace for drafts, whether invoices of zero are made) are None where the organization's hold.
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


@dataclass(frozen=True, slots=True)
class CustomerChanges:
    """What an upsert sets; a field that is None stays as stored."""

    external_id: str
    name: str | None = None
    email: str | None = None
    currency: str | None = None
    timezone: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
