"""All SQL of margin policies, and rows <-> values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.ids import new_id
from nozle_server.entitlements.policy import Mode, OnUnavailable, Policy, Scope, SharedPolicies
from nozle_server.infra.database import Tx

_TERMS = """v.minimum_margin_percent, v.minimum_margin_amount, v.maximum_estimated_cost, v.mode, v.on_unavailable,
    v.maximum_snapshot_age_seconds"""

_IN_FORCE = f"""(select jsonb_agg(to_jsonb(in_force)) from (
    select p.scope, p.plan_id, p.feature_id, v.id as version_id, {_TERMS}
    from margin_policies p join margin_policy_versions v on v.org_id = p.org_id and v.id = p.current_version_id
    where p.org_id = $1 and {{whose}}) in_force)"""
SHARED = _IN_FORCE.format(whose="p.scope <> 'customer'")
"""SQL for the policies that are no customer's; `shared_from` reads what it gives."""
OF_CUSTOMER = _IN_FORCE.format(whose="p.customer_id = c.id")
"""SQL for the own policy of the customer `c`; `own_from` reads what it gives."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a policy: whose it is (`target` is the merchant's id or code; None: the organization), its terms,
    since when and by whose key. `removed`: from then on there was no policy; `in_force`: it holds now."""

    scope: Scope
    target: str | None
    version: int
    terms: Policy
    removed: bool
    in_force: bool
    created_at: datetime
    created_by: UUID | None


def shared_from(rows: Sequence[Mapping[str, Any]] | None) -> SharedPolicies | None:
    """None where there are none, as in most organizations."""
    if not rows:
        return None
    organization: Policy | None = None
    plans: dict[UUID, Policy] = {}
    features: dict[UUID, Policy] = {}
    for row in rows:
        policy = _terms(row)
        match Scope(row["scope"]):
            case Scope.PLAN:
                plans[UUID(row["plan_id"])] = policy
            case Scope.FEATURE:
                features[UUID(row["feature_id"])] = policy
            case Scope.ORGANIZATION:
                organization = policy
            case Scope.CUSTOMER:
                raise AssertionError("a customer's is not shared")
    return SharedPolicies(organization, plans, features)


def own_from(rows: Sequence[Mapping[str, Any]] | None) -> Policy | None:
    return _terms(rows[0]) if rows else None


def _terms(row: Mapping[str, Any]) -> Policy:
    return Policy(
        minimum_margin_percent=_decimal(row["minimum_margin_percent"]),
        minimum_margin_amount=_decimal(row["minimum_margin_amount"]),
        maximum_estimated_cost=_decimal(row["maximum_estimated_cost"]),
        mode=None if row["mode"] is None else Mode(row["mode"]),
        on_unavailable=OnUnavailable(row["on_unavailable"]),
        maximum_snapshot_age_seconds=row["maximum_snapshot_age_seconds"],
        version_id=UUID(str(row["version_id"])),
    )


def _decimal(value: Decimal | int | None) -> Decimal | None:
    """Whole numbers come from jsonb as int."""
    return None if value is None else Decimal(value)


_VERSIONS = f"""
    select v.id as version_id, v.version, {_TERMS}, v.removed, v.created_at, v.created_by, p.scope,
        coalesce(pl.code, f.code, c.external_id) as target, p.current_version_id is not distinct from v.id as in_force
    from margin_policy_versions v
    join margin_policies p on p.org_id = v.org_id and p.id = v.policy_id
    left join plans pl on pl.org_id = p.org_id and pl.id = p.plan_id
    left join features f on f.org_id = p.org_id and f.id = p.feature_id
    left join customers c on c.org_id = p.org_id and c.id = p.customer_id
    where v.org_id = $1
"""
# A deleted plan may still have subscribers; what is of a deleted feature or customer holds for nobody.
_HOLDS = "p.current_version_id = v.id and f.deleted_at is null and c.deleted_at is null"


def _version(row: asyncpg.Record) -> PolicyVersion:
    return PolicyVersion(
        scope=Scope(row["scope"]),
        target=row["target"],
        version=row["version"],
        terms=_terms(row),
        removed=row["removed"],
        in_force=row["in_force"],
        created_at=row["created_at"],
        created_by=row["created_by"],
    )


async def lock(tx: Tx, org_id: UUID, scope: Scope, target_id: UUID | None) -> UUID:
    """The id of the target's policy, made when there was none, and held until the transaction ends."""
    await tx.execute(
        """
        insert into margin_policies (org_id, id, scope, plan_id, feature_id, customer_id)
        values ($1, $2, $3, case $3 when 'plan' then $4::uuid end, case $3 when 'feature' then $4 end,
            case $3 when 'customer' then $4 end)
        on conflict (org_id, scope, (coalesce(plan_id, feature_id, customer_id, org_id))) do nothing
        """,
        org_id,
        new_id(),
        scope.value,
        target_id,
    )
    policy_id = await tx.fetchval(
        """
        select id from margin_policies
        where org_id = $1 and scope = $2 and coalesce(plan_id, feature_id, customer_id, org_id) = coalesce($3, $1)
        for update
        """,
        org_id,
        scope.value,
        target_id,
    )
    assert isinstance(policy_id, UUID), "the row was just made or was there"
    return policy_id


async def add_version(
    tx: Tx, org_id: UUID, policy_id: UUID, terms: Policy | None, *, now: datetime, by: UUID
) -> None:
    """The next version of a policy that is locked; None: it is removed."""
    version_id = new_id()
    given = terms or Policy()
    await tx.execute(
        """
        insert into margin_policy_versions (org_id, id, policy_id, version, removed, minimum_margin_percent,
            minimum_margin_amount, maximum_estimated_cost, mode, on_unavailable, maximum_snapshot_age_seconds,
            created_at, created_by)
        select $1, $2, $3, coalesce(max(version), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12
        from margin_policy_versions where org_id = $1 and policy_id = $3
        """,
        org_id,
        version_id,
        policy_id,
        terms is None,
        given.minimum_margin_percent,
        given.minimum_margin_amount,
        given.maximum_estimated_cost,
        given.mode,
        given.on_unavailable,
        given.maximum_snapshot_age_seconds,
        now,
        by,
    )
    await tx.execute(
        "update margin_policies set current_version_id = $3 where org_id = $1 and id = $2",
        org_id,
        policy_id,
        None if terms is None else version_id,
    )


async def find_in_force(tx: Tx, org_id: UUID, scope: Scope, target_id: UUID | None) -> PolicyVersion | None:
    row = await tx.fetchrow(
        f"""{_VERSIONS} and {_HOLDS} and p.scope = $2
            and coalesce(p.plan_id, p.feature_id, p.customer_id, p.org_id) = coalesce($3, $1)""",
        org_id,
        scope.value,
        target_id,
    )
    return _version(row) if row else None


async def find_version(tx: Tx, org_id: UUID, version_id: UUID) -> PolicyVersion | None:
    row = await tx.fetchrow(f"{_VERSIONS} and v.id = $2", org_id, version_id)
    return _version(row) if row else None


async def list_versions(
    tx: Tx, org_id: UUID, *, scope: Scope | None, target: str | None, in_force: bool, limit: int, offset: int
) -> tuple[Sequence[PolicyVersion], int]:
    """Newest first, of one scope and target or of all; with how many there are."""
    held = f" and {_HOLDS}" if in_force else ""
    wanted = f"""{_VERSIONS}{held} and ($2::text is null or p.scope = $2)
        and ($3::text is null or coalesce(pl.code, f.code, c.external_id) = $3)"""
    given = (org_id, None if scope is None else scope.value, target)
    total = await tx.fetchval(f"select count(*) from ({wanted}) found", *given)
    rows = await tx.fetch(f"{wanted} order by v.id desc limit $4 offset $5", *given, limit, offset)
    return [_version(row) for row in rows], total
