"""Credit systems, what units of a metric cost in them, and what a plan grants of them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from nozle_server.core.periods import Interval

DEFAULT_CREDIT_SYSTEM = "credits"
"""Every organization has it from the start; it cannot be archived."""

DEFAULT_PRIORITY = 50
"""Of a grant; a lower number is spent earlier."""


class SystemStatus(StrEnum):
    """What is archived grants and rates nothing new; what customers have of it they keep."""

    ACTIVE = "active"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class CreditSystem:
    """A kind of credits that an organization gives and takes, counted in `unit_name`.

    `features` are labels whose check-and-deduct draws on it when it names no system; a label is one system's at most.
    """

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    unit_name: str
    status: SystemStatus
    features: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CreditRate:
    """`metric_amount` units of a metric cost `credit_amount` credits of a system, from `effective_from` up to but not
    including `effective_to` (None: until another follows). From = to: replaced before it began."""

    org_id: UUID
    id: UUID
    credit_system_id: UUID
    credit_system: str
    metric_id: UUID
    metric_amount: Decimal
    credit_amount: Decimal
    effective_from: datetime
    effective_to: datetime | None
    created_at: datetime

    def holds_at(self, instant: datetime) -> bool:
        return self.effective_from <= instant and (self.effective_to is None or instant < self.effective_to)


class Cadence(StrEnum):
    """How often a plan grants: each period of its own, each month or year counted from the subscription's anchor, or once
    in the life of a chain of subscriptions."""

    PERIOD = "period"
    MONTH = "month"
    YEAR = "year"
    LIFETIME = "lifetime"


class GrantScope(StrEnum):
    """Who gets it: the customer, or each of its entities."""

    CUSTOMER = "customer"
    ENTITY = "entity"


@dataclass(frozen=True, slots=True)
class Rollover:
    """What is left at the end of a period is carried into the next one, at most `limit` (None: all of it)."""

    limit: Decimal | None

    def within(self, other: "Rollover") -> "Rollover":
        """What both allow."""
        limits = [one.limit for one in (self, other) if one.limit is not None]
        return Rollover(min(limits, default=None))


@dataclass(frozen=True, slots=True)
class PlanGrant:
    """Credits that a plan includes: `amount` of a system, which expire with the period that they are for."""

    credit_system: str
    amount: Decimal
    cadence: Cadence = Cadence.PERIOD
    scope: GrantScope = GrantScope.CUSTOMER
    priority: int = DEFAULT_PRIORITY
    rollover: Rollover | None = None

    def interval(self, of_plan: Interval) -> Interval | None:
        """How long what it grants lasts, in a plan of that interval; None: for ever."""
        match self.cadence:
            case Cadence.PERIOD:
                return of_plan
            case Cadence.MONTH:
                return Interval.MONTHLY
            case Cadence.YEAR:
                return Interval.YEARLY
            case Cadence.LIFETIME:
                return None
