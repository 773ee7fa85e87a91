"""When a decision is worth telling, and in which words (contract 5.3). Pure.

At once: whether it is allowed, why, its limit, and usage passing 80, 95 and 100 percent of it. Usage that moves otherwise:
once a second and feature. Never cost, revenue or margin.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from nozle_server.core.rounding import EXACT
from nozle_server.entitlements.model import Decision

THRESHOLDS_PERCENT = (80, 95, 100)
USAGE_EVERY = timedelta(seconds=1)


class Urgency(Enum):
    NOTHING = "nothing"
    SOON = "soon"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class Told:
    """What was last told of a feature; `limit` None: without cap."""

    allowed: bool
    reason: str
    used: Decimal
    limit: Decimal | None
    remaining: Decimal | None
    told_at: datetime

    @classmethod
    def of(cls, decision: Decision, real_now: datetime) -> "Told":
        return cls(
            decision.allowed,
            decision.reason.value,
            decision.used,
            decision.limit,
            decision.remaining,
            real_now,
        )


def urgency(before: Told | None, after: Told) -> Urgency:
    """Whether `after` is to be told, at its `told_at`."""
    if before is None:
        return Urgency.NOW
    if (before.allowed, before.reason, before.limit) != (after.allowed, after.reason, after.limit):
        return Urgency.NOW
    if _passed(before) != _passed(after):
        return Urgency.NOW
    if before.used == after.used:
        return Urgency.NOTHING
    return Urgency.NOW if after.told_at - before.told_at >= USAGE_EVERY else Urgency.SOON


def _passed(told: Told) -> int:
    """How many thresholds its usage has reached."""
    if told.limit is None:
        return 0
    used = EXACT.multiply(told.used, Decimal(100))
    return sum(used >= EXACT.multiply(told.limit, Decimal(percent)) for percent in THRESHOLDS_PERCENT)


def message(
    customer: str,
    feature: str,
    told: Told,
    *,
    plan: str | None,
    subscription_status: str | None,
    at: datetime,
) -> dict[str, Any]:
    """The publication: in both spellings that published clients read. `at` is the organization's time."""
    return {
        "type": "entitlement.updated",
        "customer_id": customer,
        "customerId": customer,
        "feature_key": feature,
        "featureKey": feature,
        "feature": feature,
        "allowed": told.allowed,
        "reason": told.reason,
        "used": told.used,
        "limit": told.limit,
        "remaining": told.remaining,
        "plan": plan,
        "subscription_status": subscription_status,
        "at": at,
    }
