"""Credit systems, what units of a metric cost in them, and what a plan grants of them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

DEFAULT_CREDIT_SYSTEM = "credits"
"""Every organization has it from the start; it cannot be archived."""


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
