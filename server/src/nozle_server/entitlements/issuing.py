"""Issue a signed snapshot: renew what is held for the replica, decide everything, sign it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.ids import new_id, to_text
from nozle_server.entitlements import signing
from nozle_server.entitlements.deciding_all import decide_all
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.overview import CustomerEntitlements, FeatureEntitlement, without_margin
from nozle_server.entitlements.policy import Mode
from nozle_server.entitlements.replica_promises import Promised, Renewal, Report
from nozle_server.entitlements.replicas import renew_holds
from nozle_server.entitlements.signed_snapshot import (
    CLOCK_SKEW,
    VERSION,
    FeatureClaims,
    OnStale,
    SignedSnapshot,
    SubscriptionClaims,
    mint,
)
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx

SNAPSHOT_ID = "snap"
"""The prefix of a snapshot's id."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: whose snapshot, for which replica, trusted for how long, and what holds when it is stale, by
    feature: "open", "closed", or up to how many credits."""

    customer: str
    replica: str
    trust: timedelta
    grace: timedelta
    on_stale: Mapping[str, str | Decimal] = field(default_factory=dict)
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class Issued:
    """A snapshot, its token, and what became of the holds."""

    snapshot: SignedSnapshot
    token: str
    kid: str
    renewal: Renewal


async def issue_snapshot(
    tx: Tx,
    bus: ChangeBus,
    economics: Economics,
    *,
    org_id: UUID,
    wanted: Wanted,
    issuer: str,
    now: datetime,
    real_now: datetime,
) -> Issued:
    """`now` is the organization's time, by which it decides and holds; `real_now` the time by which replicas trust."""
    snapshot_id = new_id()
    renewal = await renew_holds(
        tx,
        bus,
        org_id=org_id,
        customer=wanted.customer,
        replica=wanted.replica,
        snapshot_id=snapshot_id,
        wanted={code: policy for code, policy in wanted.on_stale.items() if isinstance(policy, Decimal)},
        report=wanted.report,
        # To the end of the second in which the replica's own clock says that it is over.
        lasting=wanted.trust + wanted.grace + CLOCK_SKEW + timedelta(seconds=1),
        now=now,
        real_now=real_now,
    )
    # Read here and not taken from the cache: what is signed is trusted for long, and may not begin with what is old.
    held = await read_customer(tx, await read_organization(tx, org_id), wanted.customer)
    found = await decide_all(held, economics.within(tx, as_of_now=True), with_costs=False, real_now=real_now)
    policies = {
        code: _on_stale(policy, renewal.promised.get(code)) for code, policy in wanted.on_stale.items()
    }
    issued = int(real_now.timestamp())
    trusted = issued + int(wanted.trust.total_seconds())
    # The time of an organization on a test clock stands still until it is turned: no replica's clock can say when.
    unlisted = _unlisted(found, timeless=now != real_now)
    snapshot = SignedSnapshot(
        ver=VERSION,
        iss=issuer,
        aud=org_id,
        sub=wanted.customer,
        jti=to_text(SNAPSHOT_ID, snapshot_id),
        iat=issued,
        exp=trusted,
        stale_until=trusted + int(wanted.grace.total_seconds()),
        replica=wanted.replica,
        subscriptions=[
            SubscriptionClaims(one.subscription.external_id, one.plan_code, one.subscription.status.value)
            for one in found.holders
            if one.is_active_at(now)
        ],
        features={
            **{code: _with_policy(unlisted, policy) for code, policy in policies.items()},
            **{
                one.right.code: _claims(one, policies.get(one.right.code), now, real_now)
                for one in found.features
            },
        },
        unlisted=unlisted,
    )
    key = await signing.current_key(tx, real_now)
    return Issued(snapshot, mint(key, snapshot), key.id, renewal)


def _claims(
    one: FeatureEntitlement, policy: OnStale | None, now: datetime, real_now: datetime
) -> FeatureClaims:
    decision, right = one.decision, without_margin(one.right)
    ends = [None if now != real_now else one.valid_until]
    margin = decision.margin
    age = None if margin is None else margin.policy.maximum_snapshot_age_seconds
    if margin is not None and margin.mode is Mode.DENY and age is not None:
        # The policy is not judged by older figures, so a decision that it made may not be older either.
        ends.append(real_now + timedelta(seconds=age))
    return FeatureClaims(
        allowed=decision.allowed,
        reason=decision.reason.value,
        type=right.type.value,
        used=decision.used,
        limit=decision.limit,
        remaining=decision.remaining,
        overage=decision.overage,
        privileges=dict(sorted(right.privileges.items())),
        subscription_id=one.holder.subscription.external_id if one.holder else None,
        plan_code=one.holder.plan_code if one.holder else None,
        valid_until=min((at for at in ends if at is not None), default=None),
        on_stale=policy,
    )


def _unlisted(found: CustomerEntitlements, *, timeless: bool) -> FeatureClaims:
    decision = found.unlisted
    return FeatureClaims(
        allowed=decision.allowed,
        reason=decision.reason.value,
        valid_until=None if timeless else found.valid_until,
    )


def _with_policy(unlisted: FeatureClaims, policy: OnStale) -> FeatureClaims:
    return FeatureClaims(
        allowed=unlisted.allowed, reason=unlisted.reason, valid_until=unlisted.valid_until, on_stale=policy
    )


def _on_stale(policy: str | Decimal, promised: Promised | None) -> OnStale:
    """What was asked for, as far as it is held: up to nothing is closed."""
    if isinstance(policy, str):
        return OnStale(policy)
    if promised is None:
        return OnStale("closed")
    return OnStale("open_up_to", promised.credits, to_text("hold", promised.hold_id))
