"""A customer's credits: an account, its grants, and the ledger entries that moved them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

DEFAULT_CREDIT_SYSTEM = "credits"


class AccountKind(StrEnum):
    """What an account holds: units of usage, or money (major units of a wallet's currency)."""

    CREDITS = "credits"
    MONEY = "money"


class GrantSource(StrEnum):
    """Where a grant came from; a refund gives back what a voided invoice had taken."""

    PLAN = "plan"
    MANUAL = "manual"
    TOP_UP = "top_up"
    PROMOTION = "promotion"
    REFUND = "refund"


class EntryType(StrEnum):
    """What an entry did to the balance: only `grant` is positive."""

    GRANT = "grant"
    DEDUCT = "deduct"
    EXPIRE = "expire"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Account:
    """One customer's credits of one credit system, or the money of one wallet. `balance` is the sum of its entries;
    never negative. `granted`, `consumed`, `expired` and `voided` are the sums by type, all positive."""

    org_id: UUID
    id: UUID
    customer_id: UUID
    kind: AccountKind
    credit_system: str
    balance: Decimal
    granted: Decimal
    consumed: Decimal
    expired: Decimal
    voided: Decimal
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Grant:
    """One allocation of credits and what is left of it; `expires_at` None: never expires."""

    id: UUID
    amount: Decimal
    remaining: Decimal
    priority: int
    source: GrantSource
    reference: str | None
    description: str | None
    expires_at: datetime | None
    created_at: datetime

    def is_live(self, now: datetime) -> bool:
        """Whether it may be spent at `now`: an expiry at exactly `now` has passed (periods are half-open)."""
        return self.remaining > 0 and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True, slots=True)
class Draw:
    """`amount` credits taken from one grant."""

    grant_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Entry:
    """One signed, immutable movement of an account's balance."""

    id: UUID
    sequence: int
    type: EntryType
    amount: Decimal
    balance_after: Decimal
    feature: str | None
    description: str | None
    entity_id: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Deduction:
    """The answer of check-and-deduct: what remains after it, or what there is when it was refused."""

    allowed: bool
    remaining: Decimal
    entry_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What a customer can spend at `as_of`, and what has been granted, spent and has expired so far."""

    available: Decimal
    granted: Decimal
    consumed: Decimal
    expired: Decimal
    account_id: UUID | None
    as_of: datetime
