"""Entities: the teams, users, agents and runs of a customer, who spend its credits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class EntityStatus(StrEnum):
    """Only an active entity spends. A deleted one stays as it was for ever."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class PoolPolicy(StrEnum):
    """Whose credits an entity spends: its own and its parents', these first and then the customer's, or the customer's."""

    ENTITY_ONLY = "entity_only"
    ENTITY_THEN_CUSTOMER = "entity_then_customer"
    CUSTOMER_ONLY = "customer_only"


DEFAULT_POOL_POLICY = PoolPolicy.ENTITY_THEN_CUSTOMER


class Action(StrEnum):
    """What became of an entity; of several that apply, the change of status."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    ACTIVATED = "activated"
    REACTIVATED = "reactivated"
    """Made anew under the external id of one that was deleted, whatever its status: another entity."""
    SUSPENDED = "suspended"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity, known to the merchant by `external_id` within its customer.

    `number` counts the customer's entities; of several with one external id the last is meant, the others are deleted.
    `parent_external_id` is that of `parent_id`.
    """

    org_id: UUID
    id: UUID
    customer_id: UUID
    number: int
    external_id: str
    name: str | None
    status: EntityStatus
    metadata: Mapping[str, Any]
    parent_id: UUID | None
    parent_external_id: str | None
    pool_policy: PoolPolicy
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Whether it still exists: active or suspended."""
        return self.status is not EntityStatus.DELETED


@dataclass(frozen=True, slots=True)
class EntityChange:
    """What was done to an entity, and how it is now; `before` is None for a new one."""

    action: Action
    entity: Entity
    before: Entity | None

    @property
    def moves_credits(self) -> bool:
        """Whether who spends which credits may be another now."""
        if self.before is None:
            return True
        return (self.before.status, self.before.parent_id, self.before.pool_policy) != (
            self.entity.status,
            self.entity.parent_id,
            self.entity.pool_policy,
        )

    @property
    def opens(self) -> bool:
        """Whether it may spend from now on, and might not before."""
        active = self.before is not None and self.before.status is EntityStatus.ACTIVE
        return self.entity.status is EntityStatus.ACTIVE and not active

    @property
    def closes(self) -> bool:
        """Whether it may no longer spend from now on."""
        return self.action in (Action.SUSPENDED, Action.DELETED)
