"""A customer's credits: an account, its grants, the ledger entries that moved them, what is held and what is budgeted."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from nozle_server.entities.model import PoolPolicy

ZERO = Decimal(0)

# What is made for each deduction is a Struct: as frozen as the dataclasses, and made in a fifth of their time.


class AccountKind(StrEnum):
    """What an account holds: units of usage, or money (major units of a wallet's currency)."""

    CREDITS = "credits"
    MONEY = "money"


class GrantSource(StrEnum):
    """Where a grant came from. A refund gives back what a voided invoice had taken; an allocation is a top-up that the
    customer gave to one of its entities; what was rolled over was left of a plan's grant of the period before."""

    PLAN = "plan"
    MANUAL = "manual"
    TOP_UP = "top_up"
    PROMOTION = "promotion"
    REFUND = "refund"
    ROLLOVER = "rollover"
    ADJUSTMENT = "adjustment"
    TRANSFER = "transfer"
    ALLOCATION = "allocation"


class EntryType(StrEnum):
    """What an entry did to the balance. `grant`, `release` and `refund` add to it, `adjustment` and `transfer` may do
    either, the others take. A `hold` takes what is set aside, a `release` puts it back."""

    GRANT = "grant"
    DEDUCT = "deduct"
    EXPIRE = "expire"
    VOID = "void"
    HOLD = "hold"
    RELEASE = "release"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    TRANSFER = "transfer"


class HoldStatus(StrEnum):
    """`open` until it is settled or released, or its time is over."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Refusal(StrEnum):
    """Why a deduction or a hold was refused."""

    INSUFFICIENT_CREDITS = "insufficient_credits"
    BUDGET_EXCEEDED = "budget_exceeded"
    ENTITY_INACTIVE = "entity_inactive"


class BudgetInterval(StrEnum):
    """Within which windows a budget counts: local hours, days and months of the customer; `run`: one without end."""

    RUN = "run"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Account:
    """One customer's credits of one credit system, or the money of one wallet.

    `balance` is the sum of its entries and never negative; it is what can be spent: what is `held` is not in it.
    `granted`, `consumed`, `expired`, `voided` and `refunded` are the positive sums of the entries of these types,
    `adjusted` and `transferred` signed ones. `receivable` was settled beyond the balance and is still to be paid.
    `version` rises with everything that changes what is decided over the account.
    """

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
    held: Decimal
    refunded: Decimal
    adjusted: Decimal
    transferred: Decimal
    receivable: Decimal
    last_sequence: int
    version: int


@dataclass(frozen=True, slots=True)
class Grant:
    """One allocation of credits and what is left of it; `expires_at` None: never expires.

    `entity_id` None: the customer's, for every entity that may draw on the customer's. `parent_id`: the top-up that an
    entity's allocation came from.
    """

    id: UUID
    amount: Decimal
    remaining: Decimal
    priority: int
    source: GrantSource
    reference: str | None
    description: str | None
    expires_at: datetime | None
    created_at: datetime
    entity_id: UUID | None = None
    parent_id: UUID | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it may be spent at `now`: an expiry at exactly `now` has passed (periods are half-open)."""
        return self.remaining > 0 and (self.expires_at is None or self.expires_at > now)


class Draw(Struct, frozen=True, gc=False):
    """`amount` credits taken from one grant."""

    grant_id: UUID
    amount: Decimal


class Entry(Struct, frozen=True, gc=False):
    """One signed, immutable movement of an account's balance."""

    id: UUID
    sequence: int
    type: EntryType
    amount: Decimal
    balance_after: Decimal
    feature: str | None
    description: str | None
    entity_id: UUID | None
    occurred_at: datetime
    hold_id: UUID | None = None
    refunds_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for work under way: `draws` say from which grants, `pools` whose grants settling beyond it draws
    on (None: the customer's), `windows` in which windows of budgets it counts. While it is open nobody else can spend
    them, and they do not expire."""

    id: UUID
    amount: Decimal
    feature: str | None
    entity_id: UUID | None
    expires_at: datetime
    created_at: datetime
    draws: tuple[Draw, ...]
    pools: tuple[UUID | None, ...]
    windows: tuple[tuple[UUID, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold as it is looked at, whether it is open or how it ended; `entity` is the merchant's id of whose it is. What was
    `settled` includes what of it stayed `uncovered` then."""

    id: UUID
    credit_system: str
    amount: Decimal
    feature: str | None
    entity: str | None
    status: HoldStatus
    settled: Decimal
    uncovered: Decimal
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Receivable:
    """What the settlement of a hold took beyond hold and balance, and what of it no grant has paid yet; for which feature
    and entity the hold was."""

    id: UUID
    hold_id: UUID
    feature: str | None
    entity_id: UUID | None
    open: Decimal


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit` credits may be spent of an account within a window of `interval`, by one entity and all below
    it; by the customer with all its entities when `entity_id` is None."""

    id: UUID
    entity_id: UUID | None
    interval: BudgetInterval
    limit: Decimal


@dataclass(frozen=True, slots=True)
class Level:
    """What decides over an entity's spending: its id and the merchant's id for it, whether it may spend at all, whose
    grants it spends, and the levels above it, nearest first."""

    id: UUID
    external_id: str
    active: bool
    policy: PoolPolicy
    above: tuple[tuple[UUID, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedBudget:
    """The budget that refused, as it stood: `used` of its window, until `resets_at` (None: never)."""

    budget: Budget
    entity: str | None
    used: Decimal
    resets_at: datetime | None


class Deduction(Struct, frozen=True):
    """The answer of check-and-deduct: what remains after it, or what there is when it was refused, and why."""

    allowed: bool
    remaining: Decimal
    entry: Entry | None = None
    reason: Refusal | None = None
    budget: RefusedBudget | None = None
    draws: tuple[Draw, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to asking for a hold: the hold, or None and why not."""

    hold: Hold | None
    remaining: Decimal
    reason: Refusal | None = None
    budget: RefusedBudget | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling or releasing a hold took: `settled` in all, `uncovered` of it beyond hold and balance."""

    settled: Decimal
    uncovered: Decimal
    remaining: Decimal


@dataclass(frozen=True, slots=True)
class Balance:
    """What a customer can spend at `as_of`, and what has become of its credits so far (as of `Account`).

    `available` is everybody's: the customer's own credits and what was given to its entities; `shared` only the
    former."""

    credit_system: str
    account_id: UUID | None
    as_of: datetime
    available: Decimal = ZERO
    shared: Decimal = ZERO
    held: Decimal = ZERO
    receivable: Decimal = ZERO
    granted: Decimal = ZERO
    consumed: Decimal = ZERO
    expired: Decimal = ZERO
    voided: Decimal = ZERO
    refunded: Decimal = ZERO
    adjusted: Decimal = ZERO
    transferred: Decimal = ZERO
