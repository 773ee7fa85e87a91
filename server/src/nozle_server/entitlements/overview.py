"""All that a customer may use: what is told of each feature beside its decision, and until when time leaves it alone.

Pure. Which features those are, `overview_store.py` reads; how each is decided, `can()` says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from nozle_server.core.periods import Interval
from nozle_server.entitlements.model import Decision, FeatureType
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
    time alone may change it (None: never)."""

    right: Right
    decision: Decision
    holder: Holder
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
