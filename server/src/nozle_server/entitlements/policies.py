"""Use cases of margin policies. A change is a new version; each is kept for ever, so that what a decision was judged by
can be read later. Policies reach the next `can()`."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from nozle_server.catalog.queries import get_feature, get_plan
from nozle_server.core.errors import InvalidInput, NotFound, RuleBroken
from nozle_server.core.fields import Amount
from nozle_server.customers.queries import get_customer
from nozle_server.entitlements import policy_store as store
from nozle_server.entitlements.policy import Mode, OnUnavailable, Policy, Scope
from nozle_server.entitlements.policy_store import PolicyVersion
from nozle_server.infra.database import Tx

MAX_AGE_SECONDS = 86_400


class PolicyDraft(msgspec.Struct, kw_only=True):
    """The whole policy: what is left out is not asked for. Amounts are cents a use."""

    minimum_margin_percent: Amount | None = None
    minimum_margin_amount: Amount | None = None
    maximum_estimated_cost: Amount | None = None
    mode: Mode | None = None
    on_unavailable: OnUnavailable = OnUnavailable.ALLOW
    maximum_snapshot_age_seconds: int | None = None


async def find_target(tx: Tx, org_id: UUID, scope: Scope, target: str | None) -> UUID | None:
    """Our id of what a policy is of; NotFound for a plan, feature or customer there is not."""
    match scope:
        case Scope.ORGANIZATION:
            return None
        case Scope.PLAN:
            return (await get_plan(tx, org_id, target or "")).id
        case Scope.FEATURE:
            return (await get_feature(tx, org_id, target or "")).id
        case Scope.CUSTOMER:
            return (await get_customer(tx, org_id, target or "")).id


async def set_policy(
    tx: Tx,
    *,
    org_id: UUID,
    scope: Scope,
    target: str | None,
    draft: PolicyDraft,
    now: datetime,
    by: UUID,
) -> PolicyVersion:
    """Put a policy in force, in place of the target's one before; the same terms again change nothing. `by` is a key's id."""
    terms = plan_policy(draft)
    if scope is Scope.FEATURE and (await get_feature(tx, org_id, target or "")).metric_id is None:
        raise RuleBroken(
            "the feature is not metered, so that no use of it has a cost or a price",
            code="feature_not_metered",
            details={"feature": ["feature_not_metered"]},
        )
    target_id = await find_target(tx, org_id, scope, target)
    policy_id = await store.lock(tx, org_id, scope, target_id)
    before = await store.find_in_force(tx, org_id, scope, target_id)
    if before is None or replace(before.terms, version_id=None) != terms:
        await store.add_version(tx, org_id, policy_id, terms, now=now, by=by)
    return await get_policy(tx, org_id=org_id, scope=scope, target=target)


async def remove_policy(
    tx: Tx, *, org_id: UUID, scope: Scope, target: str | None, now: datetime, by: UUID
) -> PolicyVersion:
    """Let less specific policies hold again; what was in force. NotFound `margin_policy_not_found`."""
    target_id = await find_target(tx, org_id, scope, target)
    policy_id = await store.lock(tx, org_id, scope, target_id)
    before = await get_policy(tx, org_id=org_id, scope=scope, target=target)
    await store.add_version(tx, org_id, policy_id, None, now=now, by=by)
    return replace(before, in_force=False)


async def get_policy(tx: Tx, *, org_id: UUID, scope: Scope, target: str | None) -> PolicyVersion:
    """The target's own policy; NotFound `margin_policy_not_found`."""
    target_id = await find_target(tx, org_id, scope, target)
    found = await store.find_in_force(tx, org_id, scope, target_id)
    if found is None:
        raise unknown_policy()
    return found


async def get_version(tx: Tx, *, org_id: UUID, version_id: UUID) -> PolicyVersion:
    """NotFound `margin_policy_not_found`."""
    found = await store.find_version(tx, org_id, version_id)
    if found is None:
        raise unknown_policy()
    return found


def plan_policy(draft: PolicyDraft) -> Policy:
    """The terms that a draft asks for; InvalidInput for a floor that nothing can meet, or for no floor at all."""
    percent, cost, age = (
        draft.minimum_margin_percent,
        draft.maximum_estimated_cost,
        draft.maximum_snapshot_age_seconds,
    )
    if percent is None and cost is None and draft.minimum_margin_amount is None:
        raise InvalidInput(
            "a policy needs min_margin_percent, minimum_margin_amount or maximum_estimated_cost",
            details={"min_margin_percent": ["value_is_mandatory"]},
        )
    if percent is not None and percent > 100:
        raise _out_of_range("min_margin_percent", "at most 100: a margin is a part of the revenue")
    if cost is not None and cost < 0:
        raise _out_of_range("maximum_estimated_cost", "at least 0")
    if age is not None and not 0 <= age <= MAX_AGE_SECONDS:
        raise _out_of_range("maximum_snapshot_age_seconds", f"from 0 to {MAX_AGE_SECONDS}")
    return Policy(
        minimum_margin_percent=_plain(percent),
        minimum_margin_amount=_plain(draft.minimum_margin_amount),
        maximum_estimated_cost=_plain(cost),
        mode=draft.mode,
        on_unavailable=draft.on_unavailable,
        maximum_snapshot_age_seconds=age,
    )


def _plain(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)


def _out_of_range(field: str, what: str) -> InvalidInput:
    return InvalidInput(f"{field} must be {what}", details={field: ["value_is_out_of_range"]})


def unknown_policy() -> NotFound:
    return NotFound("margin policy not found", code="margin_policy_not_found")
