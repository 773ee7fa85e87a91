"""Rates of tax, and to whom they apply."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Tax:
    """A tax of `rate` percent. `applied_to_organization` makes it one of those that customers without taxes of their
    own pay."""

    org_id: UUID
    id: UUID
    code: str
    name: str
    description: str | None
    rate: Decimal
    applied_to_organization: bool
    created_at: datetime
    updated_at: datetime
