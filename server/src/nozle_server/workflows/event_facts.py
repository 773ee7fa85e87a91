"""All that a batch of events needs to know, read once, in a handful of queries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import metric_store
from nozle_server.catalog.model import Metric
from nozle_server.core.periods import Interval
from nozle_server.costs import store as costs_store
from nozle_server.costs.model import CostModel
from nozle_server.customers import store as customers_store
from nozle_server.infra.database import Tx
from nozle_server.metering.model import MeterEvent
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class KnownSubscription:
    """A subscription with its customer's external id and its plan's interval."""

    subscription: Subscription
    customer: str
    interval: Interval


class KnownSubscriptions:
    """Found by customer and by id; a batch may name a thousand of each. Several may have one external id: a change of plan
    makes a new subscription under the old name, and each instant belongs to one of them."""

    def __init__(self, known: Sequence[KnownSubscription]) -> None:
        self._by_customer: dict[str, list[KnownSubscription]] = defaultdict(list)
        self._by_external_id: dict[str, list[KnownSubscription]] = defaultdict(list)
        self.by_id: dict[UUID, KnownSubscription] = {}
        for one in known:
            if one.subscription.id not in self.by_id:
                self._by_customer[one.customer].append(one)
                self._by_external_id[one.subscription.external_id].append(one)
                self.by_id[one.subscription.id] = one

    def of_customer(self, name: str) -> Sequence[KnownSubscription]:
        return self._by_customer.get(name, ())

    def with_external_id(self, external_id: str, at: datetime) -> KnownSubscription | None:
        """The one of this name that runs at an instant, the newest first."""
        running = [
            one for one in self._by_external_id.get(external_id, ()) if one.subscription.is_active_at(at)
        ]
        return max(running, key=lambda one: (one.subscription.started_at, one.subscription.id), default=None)

    def can_take(self, event: MeterEvent, now: datetime) -> bool:
        """Whether one of them runs when the event happened and is the one it means."""
        at = event.occurred_at or now
        if event.external_subscription_id:
            return self.with_external_id(event.external_subscription_id, at) is not None
        return any(
            one.subscription.is_active_at(at) for one in self.of_customer(event.external_customer_id or "")
        )


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What the events of a batch name, by the merchant's ids and codes."""

    metrics: Mapping[str, Metric]
    customers: Mapping[str, UUID]
    subscriptions: KnownSubscriptions
    cost_models: Mapping[str, Sequence[CostModel]]


async def gather(tx: Tx, org_id: UUID, events: Sequence[MeterEvent], now: datetime) -> EventFacts:
    """Read the facts. Running subscriptions are held until `tx` ends: none of them can be closed meanwhile."""
    names = sorted({event.external_customer_id for event in events if event.external_customer_id})
    ids = sorted({event.external_subscription_id for event in events if event.external_subscription_id})
    found = [
        KnownSubscription(*row) for row in await subscriptions_store.hold_running(tx, org_id, names, ids)
    ]
    known = KnownSubscriptions(found)
    if not all(known.can_take(event, now) for event in events):
        found += [
            KnownSubscription(*row) for row in await subscriptions_store.list_ended(tx, org_id, names, ids)
        ]
        known = KnownSubscriptions(found)
    customers = {one.customer: one.subscription.customer_id for one in found}
    if missing := [name for name in names if name not in customers]:
        customers |= await customers_store.find_ids(tx, org_id, missing)
    metrics = await metric_store.find_metrics_with(
        tx,
        org_id,
        sorted({event.code for event in events}),
        extra=costs_store.IDS_OF_METRIC.format(code="m.code"),
    )
    return EventFacts(
        metrics={metric.code: metric for metric, _ in metrics},
        customers=customers,
        subscriptions=known,
        cost_models={
            metric.code: await costs_store.get_many(tx, org_id, of_metric) for metric, of_metric in metrics
        },
    )
