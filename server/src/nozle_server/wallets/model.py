"""Monetary wallets: prepaid money that pays invoices, and what moved it.

Money is exact, in major units of the wallet's currency; credits are that money divided by the wallet's rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from nozle_server.core.periods import Interval

LOWEST_PRIORITY = 50
"""Priorities run from 1, spent first, to this."""

FEE_TYPES = ("charge", "subscription", "commitment")
"""The kinds of invoice lines that a wallet can be limited to."""


class WalletStatus(StrEnum):
    """A terminated wallet pays nothing any more."""

    ACTIVE = "active"
    TERMINATED = "terminated"


class Direction(StrEnum):
    """Whether a transaction fills the wallet or takes from it."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Status(StrEnum):
    """A pending transaction waits for its payment and has moved nothing; a failed one never will."""

    PENDING = "pending"
    SETTLED = "settled"
    FAILED = "failed"


class Reason(StrEnum):
    """Why money moved: bought or given (inbound), taken back or spent on an invoice (outbound)."""

    PURCHASED = "purchased"
    GRANTED = "granted"
    VOIDED = "voided"
    INVOICED = "invoiced"


class Source(StrEnum):
    """Who asked for a transaction: a person or program, or a recurring rule by its trigger."""

    MANUAL = "manual"
    INTERVAL = "interval"
    THRESHOLD = "threshold"


class Trigger(StrEnum):
    """When a recurring rule tops up: at each interval, or when the ongoing balance is at or below a threshold."""

    INTERVAL = "interval"
    THRESHOLD = "threshold"


class Method(StrEnum):
    """How much a recurring rule tops up: fixed credits, or what is missing to a target."""

    FIXED = "fixed"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class RecurringRule:
    """Tops a wallet up by itself. Amounts are credits; `target_ongoing_balance` is there when the method is target,
    `interval` and `next_top_up_at` when the trigger is interval."""

    id: UUID
    wallet_id: UUID
    trigger: Trigger
    method: Method
    interval: Interval | None
    paid_credits: Decimal
    granted_credits: Decimal
    threshold_credits: Decimal
    target_ongoing_balance: Decimal | None
    invoice_requires_successful_payment: bool
    ignore_paid_top_up_limits: bool
    transaction_name: str | None
    transaction_metadata: Sequence[Mapping[str, str]]
    started_at: datetime | None
    expiration_at: datetime | None
    next_top_up_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def is_live(self, now: datetime) -> bool:
        """Whether it has not expired; at exactly its expiration it has."""
        return self.expiration_at is None or self.expiration_at > now


@dataclass(frozen=True, slots=True)
class Wallet:
    """One customer's money for invoices of one currency.

    `balance` and `consumed_amount` are major units; `rate_amount` is major units per credit. `fee_types` and
    `metric_ids` limit what it pays for, when there are any. `rule` is the recurring rule that is not terminated.
    """

    org_id: UUID
    id: UUID
    customer_id: UUID
    external_customer_id: str
    account_id: UUID
    code: str
    name: str | None
    priority: int
    rate_amount: Decimal
    currency: str
    status: WalletStatus
    balance: Decimal
    consumed_amount: Decimal
    invoice_requires_successful_payment: bool
    paid_top_up_min_amount_cents: int | None
    paid_top_up_max_amount_cents: int | None
    fee_types: tuple[str, ...]
    metric_ids: tuple[UUID, ...]
    metric_codes: tuple[str, ...]
    metadata: Mapping[str, Any] | None
    expiration_at: datetime | None
    last_synced_at: datetime | None
    last_consumed_credit_at: datetime | None
    terminated_at: datetime | None
    created_at: datetime
    updated_at: datetime
    rule: RecurringRule | None

    @property
    def is_limited(self) -> bool:
        return bool(self.fee_types or self.metric_ids)

    def pays_for(self, line: "WalletLine") -> bool:
        """Whether the wallet's limits let it pay for a line: by its kind, or, of a charge, by its metric."""
        return (
            not self.is_limited
            or line.kind in self.fee_types
            or (line.kind == "charge" and line.metric_id in self.metric_ids)
        )

    def live_rule(self, now: datetime) -> RecurringRule | None:
        return self.rule if self.rule is not None and self.rule.is_live(now) else None


@dataclass(frozen=True, slots=True)
class WalletTransaction:
    """One movement of a wallet's money, or the wish for one. `amount` is in major units; `remaining`, of a settled
    inbound one, what no other has drawn yet."""

    org_id: UUID
    id: UUID
    wallet_id: UUID
    direction: Direction
    reason: Reason
    status: Status
    source: Source
    amount: Decimal
    credit_amount: Decimal
    priority: int
    name: str | None
    metadata: Sequence[Mapping[str, str]]
    invoice_requires_successful_payment: bool
    invoice_id: UUID | None
    voided_invoice_id: UUID | None
    credit_note_id: UUID | None
    grant_id: UUID | None
    entry_id: UUID | None
    settled_at: datetime | None
    failed_at: datetime | None
    created_at: datetime
    remaining: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Funding:
    """`amount` of an outbound transaction's money that came from an inbound one; `other` is the one of the two that was
    asked for."""

    id: UUID
    amount: Decimal
    created_at: datetime
    other: WalletTransaction


@dataclass(frozen=True, slots=True)
class WalletLine:
    """What an invoice asks for one kind of thing: `kind` is an invoice line's (charge, subscription, commitment ...),
    `metric_id` a charge's metric, `amount_cents` minor units with tax."""

    kind: str
    metric_id: UUID | None
    amount_cents: int


@dataclass(frozen=True, slots=True)
class WalletUse:
    """What one wallet pays of an invoice, in minor units."""

    wallet_id: UUID
    wallet_transaction_id: UUID
    amount_cents: int
