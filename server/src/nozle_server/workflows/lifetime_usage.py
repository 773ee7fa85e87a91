"""What a subscription has used in all its life: before it came to us, invoiced, and now. Minor units, without tax.

As Lago: https://getlago.com/docs/guide/plans/progressive-billing
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import UsageThreshold
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.rounding import divide
from nozle_server.core.text import parse_id
from nozle_server.infra import watches
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.watch_kinds import USAGE
from nozle_server.invoicing import usage_store
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.current_usage import current_usage

MAX_HISTORICAL_CENTS = 10**18


@dataclass(frozen=True, slots=True)
class LifetimeUsage:
    """Of all subscriptions with one external id; `thresholds` are the plan's, each with how much of it is reached."""

    subscription: Subscription
    historical_cents: int
    invoiced_cents: int
    current_cents: int
    thresholds: tuple[tuple[int, Decimal], ...]

    @property
    def total_cents(self) -> int:
        return self.historical_cents + self.invoiced_cents + self.current_cents


async def find_subscription(tx: Tx, org_id: UUID, external_id: str) -> Subscription:
    """The subscription of that id that is active, else the newest one; NotFound `subscription_not_found`."""
    found = await subscriptions_store.list_of_external_id(tx, org_id, parse_id(external_id, "external_id"))
    if not found:
        raise NotFound("subscription not found", code="subscription_not_found")
    return next((one for one in found if one.status is Status.ACTIVE), found[0])


async def lifetime_usage(tx: Tx, seams: Seams, subscription: Subscription, *, now: datetime) -> LifetimeUsage:
    org_id, external_id = subscription.org_id, subscription.external_id
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    current, since = 0, subscription.terminated_at or now
    if subscription.status is Status.ACTIVE and subscription.is_active_at(now):
        usage = await current_usage(tx, seams, subscription, now=now, apply_taxes=False)
        current, since = usage.amount_cents, usage.period.start
    historical = await usage_store.historical_usage(tx, org_id, external_id)
    invoiced = await usage_store.usage_billed_before(tx, org_id, external_id, since)
    total = historical + invoiced + current
    return LifetimeUsage(
        subscription, historical, invoiced, current, _completion(version.usage_thresholds, total)
    )


async def set_historical_usage(
    tx: Tx, *, org_id: UUID, external_id: str, amount_cents: int, now: datetime
) -> Subscription:
    """Say what the subscription had used before it came to us. InvalidInput for a negative amount."""
    subscription = await find_subscription(tx, org_id, external_id)
    if not 0 <= amount_cents <= MAX_HISTORICAL_CENTS:
        raise InvalidInput(
            "external_historical_usage_amount_cents cannot have this value",
            details={"external_historical_usage_amount_cents": ["value_is_out_of_range"]},
        )
    await usage_store.set_historical_usage(tx, org_id, subscription.external_id, amount_cents, now)
    await watches.touch(tx, org_id, [(USAGE, subscription.external_id)], now)
    return subscription


def _completion(thresholds: Sequence[UsageThreshold], total: int) -> tuple[tuple[int, Decimal], ...]:
    """Each threshold that does not repeat with the part of the way from the one before it that is behind us, 0 to 1; then
    the next repeat."""
    completion, before = [], 0
    for amount in sorted(one.amount_cents for one in thresholds if not one.recurring):
        completion.append((amount, _ratio(total - before, amount - before)))
        before = amount
    for step in (one.amount_cents for one in thresholds if one.recurring):
        behind = max(0, total - before) // step * step + before
        completion.append((behind + step, _ratio(total - behind, step)))
    return tuple(completion)


def _ratio(part: int, whole: int) -> Decimal:
    if part <= 0 or whole <= 0:
        return Decimal(0 if part <= 0 else 1)
    return min(Decimal(1), divide(Decimal(part), Decimal(whole)))
