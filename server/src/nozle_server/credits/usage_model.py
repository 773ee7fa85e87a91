"""Operations of product credits: what is asked for in units of a metric, and what became of it.

An operation that was done is an entry of the ledger, under the same id; what the ledger does not say of it (which usage was
paid, at which rate) and what was denied is kept as a `UsageOperation`. `CreditOperation` is any of them, as it is shown.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import EntryType, Grant, GrantSource


class OperationType(StrEnum):
    """What an operation is to those who spend product credits (contract 4.3)."""

    CONSUME = "consume"
    GRANT = "grant"
    ADJUSTMENT = "adjustment"
    EXPIRE = "expire"
    REVOKE = "revoke"
    REFUND = "refund"
    TRANSFER = "transfer"


OPERATION_OF = {
    EntryType.DEDUCT: OperationType.CONSUME,
    EntryType.GRANT: OperationType.GRANT,
    EntryType.ADJUSTMENT: OperationType.ADJUSTMENT,
    EntryType.EXPIRE: OperationType.EXPIRE,
    EntryType.VOID: OperationType.REVOKE,
    EntryType.REFUND: OperationType.REFUND,
    EntryType.TRANSFER: OperationType.TRANSFER,
}
"""What an entry is shown as. Holds and their releases are none: what a hold comes to is the deduction that settles it."""


class OperationStatus(StrEnum):
    """A deduction is reversed when all of it was refunded."""

    SUCCEEDED = "succeeded"
    DENIED = "denied"
    REVERSED = "reversed"


class SourceType(StrEnum):
    """What a grant is to those who spend product credits (contract 4.3)."""

    SUBSCRIPTION_GRANT = "subscription_grant"
    TOP_UP = "top_up"
    MANUAL_GRANT = "manual_grant"
    ADJUSTMENT = "adjustment"
    ALLOCATED_TOP_UP = "allocated_top_up"


SOURCE_OF = {
    GrantSource.PLAN: SourceType.SUBSCRIPTION_GRANT,
    GrantSource.ROLLOVER: SourceType.SUBSCRIPTION_GRANT,
    GrantSource.TOP_UP: SourceType.TOP_UP,
    GrantSource.MANUAL: SourceType.MANUAL_GRANT,
    GrantSource.PROMOTION: SourceType.MANUAL_GRANT,
    GrantSource.ADJUSTMENT: SourceType.ADJUSTMENT,
    GrantSource.REFUND: SourceType.ADJUSTMENT,
    GrantSource.TRANSFER: SourceType.ADJUSTMENT,
    GrantSource.ALLOCATION: SourceType.ALLOCATED_TOP_UP,
}


@dataclass(frozen=True, slots=True)
class RateUsed:
    """`metric_amount` units of usage of a metric, at a rate of `per_amount` units for `credit_amount` credits."""

    metric_id: UUID
    metric_amount: Decimal
    rate_id: UUID
    per_amount: Decimal
    credit_amount: Decimal


@dataclass(frozen=True, slots=True)
class UsageOperation:
    """What was asked for at `created_at`, about something that happened at `occurred_at`; `reason` why it was denied, None
    when it was done. `rate` None: a transfer."""

    org_id: UUID
    id: UUID
    customer_id: UUID
    credit_system: str
    type: OperationType
    reason: str | None
    entity_id: UUID | None
    rate: RateUsed | None
    credit_amount: Decimal
    occurred_at: datetime
    created_at: datetime

    @property
    def status(self) -> OperationStatus:
        return OperationStatus.SUCCEEDED if self.reason is None else OperationStatus.DENIED


@dataclass(frozen=True, slots=True)
class SourceMove:
    """What something did to one grant: what was left of it before and after. `created`: it made the grant."""

    grant: Grant
    before: Decimal
    after: Decimal
    created: bool = False

    @property
    def amount(self) -> Decimal:
        """How much it took or gave."""
        return EXACT.subtract(self.after, self.before).copy_abs()


@dataclass(frozen=True, slots=True)
class CreditOperation:
    """An operation as it is shown. `entity` is the merchant's id of it; `metric_code` the metric whose usage was paid;
    `label` what the caller named a deduction. `credit_amount` is positive, whichever way the credits went."""

    id: UUID
    entity: str | None
    credit_system: str
    type: OperationType
    status: OperationStatus
    label: str | None
    metric_code: str | None
    metric_amount: Decimal | None
    rate_id: UUID | None
    rate_metric_amount: Decimal | None
    rate_credit_amount: Decimal | None
    credit_amount: Decimal
    reason: str | None
    description: str | None
    occurred_at: datetime
    allocations: "tuple[OperationAllocation, ...]" = ()


@dataclass(frozen=True, slots=True)
class OperationAllocation:
    """What an operation did to one grant, whose `entity` it is (the merchant's id; None: the customer's)."""

    grant_id: UUID
    entity: str | None
    source: GrantSource
    delta: Decimal
    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a customer's operations a page begins: below which sequence in each account, in the order in which these were
    opened, and before which id among what was denied."""

    denial: UUID
    sequences: tuple[int, ...]
