"""All that a customer may use: which features those are, what is told of each beside its decision, and until when time
leaves it alone.

Pure, and made of the very snapshot that `can()` decides from. How each is decided, `can()` says.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from nozle_server.core.periods import Interval
from nozle_server.entitlements.model import Decision, FeatureType
from nozle_server.entitlements.queries import privileges_of
from nozle_server.entitlements.snapshot import CustomerSnapshot, OrganizationSnapshot, SubscriptionSnapshot
from nozle_server.subscriptions.model import Status, Subscription


@dataclass(frozen=True, slots=True)
class Right:
    """What one subscription has: a feature, with what its plan and its own overrides say of it, or a priced metric."""

    code: str
    name: str
    type: FeatureType
    privileges: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Holder:
    """A subscription that runs, or will, and what it brings. `interval` is its plan version's `usage_interval`."""

    subscription: Subscription
    plan_code: str
    interval: Interval
    rights: Mapping[str, Right]

    def is_active_at(self, now: datetime) -> bool:
        return self.subscription.status is Status.ACTIVE and self.subscription.is_active_at(now)


@dataclass(frozen=True, slots=True)
class FeatureEntitlement:
    """One feature of a customer's: the decision, the right and the subscription that it comes from, and the instant at which
    time alone may change it (None: never). `holder` None: of several subscriptions one has to be named, and the right has no
    privileges until then."""

    right: Right
    decision: Decision
    holder: Holder | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerEntitlements:
    """Everything that `can()` would say of a customer now, of features by code; `unlisted` of any other code, until
    `valid_until` for what time alone may change."""

    customer: str
    holders: tuple[Holder, ...]
    features: tuple[FeatureEntitlement, ...]
    unlisted: Decision
    valid_until: datetime | None


def holders_of(snapshot: CustomerSnapshot, subscription: str | None = None) -> tuple[Holder, ...]:
    """The customer's subscriptions that run or will, the latest first, as `can()` looks at them; `subscription` narrows to
    one, by its external id."""
    return tuple(
        Holder(
            one.subscription,
            one.plan_code,
            one.version.usage_interval,
            {right.code: right for right in _rights(snapshot.organization, one)},
        )
        for one in snapshot.subscriptions
        if one.subscription.status in (Status.ACTIVE, Status.PENDING)
        and subscription in (None, one.subscription.external_id)
    )


def _rights(organization: OrganizationSnapshot, one: SubscriptionSnapshot) -> Iterator[Right]:
    for code, feature in organization.features.items():
        privileges = privileges_of(organization, one, feature.id)
        if privileges is not None:
            kind = FeatureType.BOOLEAN if feature.metric_id is None else FeatureType.METERED
            yield Right(code, feature.name, kind, privileges)
    for metric_id in {charge.metric_id for charge in one.version.charges}:
        metric = organization.metrics[metric_id]
        # A feature's code comes before a metric's (contract Decision 6).
        if metric.code not in organization.features and organization.metric_ids.get(metric.code) == metric_id:
            yield Right(metric.code, metric.name, FeatureType.METRIC, {})


def codes_of(holders: Iterable[Holder], now: datetime) -> list[str]:
    """Every code that a subscription which runs has a right to, in order."""
    return sorted({code for holder in holders if holder.is_active_at(now) for code in holder.rights})


def valid_until(holders: Iterable[Holder], now: datetime, *, metered: bool) -> datetime | None:
    """When time alone may change what is decided over these subscriptions: one begins, ends, ends its trial; or, for what
    is `metered`, a period ends and its counter with it. None when nothing is to come."""
    ahead: list[datetime | None] = []
    for holder in holders:
        one = holder.subscription
        ahead += (one.started_at, one.terminated_at or one.ending_at, one.trial_ends_at)
        if metered and holder.is_active_at(now):
            ahead.append(one.period_at(now, holder.interval).end)
    return min((at for at in ahead if at is not None and at > now), default=None)


def without_margin(right: Right) -> Right:
    """The right as it is told to who may not see the merchant's margins."""
    privileges = {code: value for code, value in right.privileges.items() if code != "min_margin_percent"}
    return replace(right, privileges=privileges)
