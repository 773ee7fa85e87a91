"""Events that were reported ahead of their time, when their subscription ends first.

An event may be dated up to a day ahead, and counts for the subscription that runs when it comes in. If that one ends before
the event's own instant, the event belongs to what follows it, as it would had it come in then; where nothing follows it is
flagged as such an event would be. Nothing is dropped in silence. What was charged in advance stays where it was charged.
"""

from dataclasses import replace
from datetime import datetime

from nozle_server.catalog import metric_store, plan_store
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.metering.counting import Counted, plan_changes
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows import hand_over_store as store
from nozle_server.workflows.advance_charges import charge_taken_over


async def hand_over_events(
    tx: Tx, seams: Seams, *, old: Subscription, to: Subscription | None, at: datetime
) -> None:
    """Give the events of `old` from `at` on to `to`, which takes its place. The caller holds `old`, as it was before it
    ended; nothing of theirs is billed yet."""
    org_id = old.org_id
    taken = await store.take_over(tx, org_id, old.id, at, to=to.id if to else None)
    if not taken:
        return
    version = await plan_store.get_plan_version(tx, org_id, old.plan_version_id)
    emptied = {}
    gained = []
    metrics = {}
    for event in taken:
        assert event.metric_id is not None, "a counted event has a metric"
        metric = await metric_store.get_metric_by_id(tx, org_id, event.metric_id)
        metrics[event.code] = metric
        if metric.recurring:
            continue  # counted for the whole chain, for ever
        period = _endless(old).period_at(event.occurred_at, version.usage_interval)
        emptied[metric.id, period.start] = (metric, period)
        if to is not None:
            later = await plan_store.get_plan_version(tx, org_id, to.plan_version_id)
            start = _endless(to).period_at(event.occurred_at, later.usage_interval).start
            gained.append(Counted(event, metric, to.id, start))
    left = []
    for metric, period in emptied.values():
        await store.forget_counter(tx, org_id, old.id, metric.id, period.start)
        for event in await store.counted_within(tx, org_id, old.id, metric.id, period.start, period.end):
            left.append(Counted(event, metric, old.id, period.start))
    await seams.usage_store.count(tx, org_id, plan_changes([*left, *gained]))
    if to is not None:
        await charge_taken_over(tx, seams, subscription=_endless(to), events=taken, metrics=metrics, now=at)


def _endless(subscription: Subscription) -> Subscription:
    """With the periods that it had when its end was not known yet."""
    return replace(subscription, ending_at=None, terminated_at=None)
