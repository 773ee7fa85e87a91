"""When time alone may change what a customer may do. Pure."""

from datetime import datetime

from nozle_server.core.periods import Interval
from nozle_server.subscriptions.model import Status, Subscription


def next_instant(subscription: Subscription, interval: Interval, now: datetime) -> datetime | None:
    """The first instant after `now` at which the subscription starts or ends, its trial does, or its usage begins anew;
    None when there is none. `interval` is the plan version's `usage_interval`.

    A period that is over is followed by the next at once, also when the billing run that opens it is still to come.
    """
    end = subscription.terminated_at or subscription.ending_at
    if subscription.status is Status.CANCELED or (end is not None and end <= now):
        return None
    instants = [subscription.started_at, subscription.trial_ends_at, subscription.current_period_end, end]
    if subscription.current_period_end <= now and subscription.is_active_at(now):
        instants.append(subscription.period_at(now, interval).end)
    return min((one for one in instants if one is not None and one > now), default=None)
