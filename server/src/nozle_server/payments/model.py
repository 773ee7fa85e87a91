"""Payments of invoices."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class PaymentType(StrEnum):
    """Recorded by the merchant, or taken by a payment provider."""

    MANUAL = "manual"
    PROVIDER = "provider"


class PaymentStatus(StrEnum):
    """Where a payment stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money for one invoice, in minor units of its currency. An invoice's payments that succeeded sum to what is paid of
    it. `paid_at` is when the money came, `created_at` when we heard of it."""

    org_id: UUID
    id: UUID
    invoice_id: UUID
    customer_id: UUID
    amount_cents: int
    currency: str
    payment_type: PaymentType
    payment_status: PaymentStatus
    reference: str | None
    provider_payment_id: str | None
    paid_at: datetime
    created_at: datetime
