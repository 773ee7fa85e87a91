"""A migration of a plan's subscribers to another version, as it is told: derived from the subscriptions it moved."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class MigrationStatus(StrEnum):
    """`running` until every subscription that it moves has moved, or will not any more."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class ItemStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class MigrationItem:
    """One subscription. `effective_at` is when it moves or moved, None when it does not."""

    external_subscription_id: str
    external_customer_id: str
    status: ItemStatus
    skip_reason: str | None
    effective_at: datetime | None


@dataclass(frozen=True, slots=True)
class VersionMigration:
    """`from_version` None: from every other version."""

    org_id: UUID
    id: UUID
    plan_id: UUID
    plan_code: str
    from_version: int | None
    to_version: int
    created_at: datetime
    canceled_at: datetime | None
    matched_count: int
    pending_count: int
    succeeded_count: int
    skipped_count: int
    last_effective_at: datetime | None

    @property
    def status(self) -> MigrationStatus:
        if self.canceled_at is not None:
            return MigrationStatus.CANCELED
        return MigrationStatus.RUNNING if self.pending_count else MigrationStatus.SUCCEEDED

    @property
    def finished_at(self) -> datetime | None:
        """When the last subscription moved; at once when none had to."""
        if self.status is not MigrationStatus.SUCCEEDED:
            return self.canceled_at
        return max(self.last_effective_at or self.created_at, self.created_at)
