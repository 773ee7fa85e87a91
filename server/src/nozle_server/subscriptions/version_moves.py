"""Which subscriptions of a plan move to another of its versions, when, and why others do not: a pure function of values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.catalog.model import PlanVersion
from nozle_server.subscriptions import lifecycle
from nozle_server.subscriptions.model import Status, Subscription


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscription that runs or will, with the version it is on and the change that is to follow it, if any."""

    subscription: Subscription
    external_customer_id: str
    version: PlanVersion
    successor: Subscription | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What a migration does with one subscription. With a `skip_reason` nothing.

    `replans` is the subscription that gets the other version at once because it has not begun: the one that is to follow,
    or the subscription itself. Without it a follower is made, which takes over at `effective_at`.
    """

    subscriber: Subscriber
    skip_reason: str | None = None
    effective_at: datetime | None = None
    replans: Subscription | None = None


def plan_moves(subscribers: Sequence[Subscriber], target: PlanVersion, now: datetime) -> list[Move]:
    """What becomes of each subscription, in the order given."""
    return [_move(one, target, now) for one in subscribers]


def _move(one: Subscriber, target: PlanVersion, now: datetime) -> Move:
    subscription = one.subscription
    if one.version.currency != target.currency:
        return Move(one, skip_reason="currencies_does_not_match")
    if subscription.status is Status.PENDING:
        return Move(one, effective_at=subscription.started_at, replans=subscription)
    effective_at = lifecycle.fee_period(subscription, one.version, now).end
    if subscription.ending_at is not None and subscription.ending_at <= effective_at:
        return Move(one, skip_reason="subscription_is_ending")
    if one.successor is None:
        return Move(one, effective_at=effective_at)
    if one.successor.plan_id != target.plan_id:
        return Move(one, skip_reason="plan_change_pending")
    return Move(one, effective_at=one.successor.started_at, replans=one.successor)


def newest_by_predecessor(pending: Sequence[Subscription]) -> Mapping[UUID, Subscription]:
    """Pending subscriptions by the id of the one that they follow."""
    return {one.previous_subscription_id: one for one in pending if one.previous_subscription_id}
