"""Credit notes: what is taken back of a final invoice, fee by fee. Amounts in minor units of the invoice's currency.

    items - coupons_adjustment      = sub_total_excluding_taxes
    sub_total_excluding_taxes + taxes = total = credit + refund + offset

https://getlago.com/docs/guide/invoicing/credit-notes/overview
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from nozle_server.invoicing.model import AppliedTax


class Reason(StrEnum):
    """Why something is taken back."""

    DUPLICATED_CHARGE = "duplicated_charge"
    PRODUCT_UNSATISFACTORY = "product_unsatisfactory"
    ORDER_CHANGE = "order_change"
    ORDER_CANCELLATION = "order_cancellation"
    FRAUDULENT_CHARGE = "fraudulent_charge"
    OTHER = "other"


class CreditStatus(StrEnum):
    """The part that later invoices may use: something is left, nothing is left, or the rest was called off."""

    AVAILABLE = "available"
    CONSUMED = "consumed"
    VOIDED = "voided"


class RefundStatus(StrEnum):
    """Where the money paid back stands; the merchant pays it and says so."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CreditNoteItem:
    """What is taken back of one line, before coupons and taxes; settled beside exact."""

    id: UUID
    line_id: UUID
    position: int
    amount_cents: int
    exact_amount_cents: Decimal
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """The document. `number` is gapless within its invoice. `credit` is for later invoices, of which `balance` is left;
    `refund` is paid back; `offset` settles what is open of the invoice itself. A status is None where there is no such
    part. `coupons_adjustment` is the share of what reduced the invoice before taxes, which is not given back.
    """

    org_id: UUID
    id: UUID
    invoice_id: UUID
    customer_id: UUID
    sequential_id: int
    number: str
    currency: str
    reason: Reason
    description: str | None
    issuing_date: date
    credit_status: CreditStatus | None
    refund_status: RefundStatus | None
    coupons_adjustment_amount_cents: int
    coupons_adjustment_exact_amount_cents: Decimal
    sub_total_excluding_taxes_amount_cents: int
    taxes_amount_cents: int
    taxes_exact_amount_cents: Decimal
    taxes_rate: Decimal
    total_amount_cents: int
    credit_amount_cents: int
    refund_amount_cents: int
    offset_amount_cents: int
    balance_amount_cents: int
    created_at: datetime
    updated_at: datetime
    refunded_at: datetime | None = None
    voided_at: datetime | None = None
    applied_taxes: tuple[AppliedTax, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    items: tuple[CreditNoteItem, ...] = ()


@dataclass(frozen=True, slots=True)
class CreditNoteUse:
    """What an invoice took of a credit note."""

    credit_note_id: UUID
    number: str
    amount_cents: int
