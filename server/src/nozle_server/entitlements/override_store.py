"""All SQL of what single subscriptions may use otherwise than their plan says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class SubscriptionEntitlement:
    """A subscription's right to a feature: what its plan says (None: nothing) and what it has of its own."""

    feature_code: str
    of_plan: Mapping[str, Any] | None
    own: Mapping[str, Any]

    @property
    def privileges(self) -> Mapping[str, Any]:
        return {**(self.of_plan or {}), **self.own}


async def list_of_subscription(tx: Tx, org_id: UUID, subscription_id: UUID) -> list[SubscriptionEntitlement]:
    """The features that a subscription has, by code; those taken away from it are not among them."""
    rows = await tx.fetch(
        """
        select f.code, e.privileges as of_plan, own.privileges as own
        from subscriptions s
        join features f on f.org_id = s.org_id and f.deleted_at is null
        left join plan_entitlements e on e.org_id = s.org_id and e.plan_id = s.plan_id and e.feature_id = f.id
        left join subscription_entitlements own
            on own.org_id = s.org_id and own.subscription_id = s.id and own.feature_id = f.id
        where s.org_id = $1 and s.id = $2 and (e.feature_id is not null or own.feature_id is not null)
          and own.removed is not true
        order by f.code
        """,
        org_id,
        subscription_id,
    )
    return [SubscriptionEntitlement(row["code"], row["of_plan"], row["own"] or {}) for row in rows]


async def merge(
    tx: Tx, org_id: UUID, subscription_id: UUID, feature_id: UUID, privileges: Mapping[str, Any]
) -> None:
    """Give a subscription a feature, with these privileges of its own beside those it has."""
    await tx.execute(
        """
        insert into subscription_entitlements as own (org_id, subscription_id, feature_id, privileges)
        values ($1, $2, $3, $4)
        on conflict (org_id, subscription_id, feature_id)
        do update set privileges = own.privileges || excluded.privileges, removed = false
        """,
        org_id,
        subscription_id,
        feature_id,
        dict(privileges),
    )


async def remove(tx: Tx, org_id: UUID, subscription_id: UUID, feature_id: UUID) -> None:
    """Take a feature away from a subscription, whatever its plan says."""
    await tx.execute(
        """
        insert into subscription_entitlements (org_id, subscription_id, feature_id, removed)
        values ($1, $2, $3, true)
        on conflict (org_id, subscription_id, feature_id) do update set privileges = '{}', removed = true
        """,
        org_id,
        subscription_id,
        feature_id,
    )


async def drop_privilege(
    tx: Tx, org_id: UUID, subscription_id: UUID, feature_id: UUID, privilege_code: str
) -> None:
    """Let a privilege be what the plan says again."""
    await tx.execute(
        """
        update subscription_entitlements set privileges = privileges - $4::text
        where org_id = $1 and subscription_id = $2 and feature_id = $3
        """,
        org_id,
        subscription_id,
        feature_id,
        privilege_code,
    )
