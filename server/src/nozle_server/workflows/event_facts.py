"""All that a batch of events needs to know, read once, in a handful of queries."""

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


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What the events of a batch name, by the merchant's ids and codes."""

    metrics: Mapping[str, Metric]
    customers: Mapping[str, UUID]
    subscriptions: Sequence[KnownSubscription]
    cost_models: Mapping[str, Sequence[CostModel]]

    def of_customer(self, name: str) -> list[KnownSubscription]:
        return [one for one in self.subscriptions if one.customer == name]

    def by_external_id(self, external_id: str) -> KnownSubscription | None:
        return next((one for one in self.subscriptions if one.subscription.external_id == external_id), None)


async def gather(tx: Tx, org_id: UUID, events: Sequence[MeterEvent], now: datetime) -> EventFacts:
    """Read the facts. Running subscriptions are held until `tx` ends: none of them can be billed meanwhile."""
    names = sorted({event.external_customer_id for event in events if event.external_customer_id})
    ids = sorted({event.external_subscription_id for event in events if event.external_subscription_id})
    known = [
        KnownSubscription(*row) for row in await subscriptions_store.hold_running(tx, org_id, names, ids)
    ]
    if not all(_is_matched(event, known, now) for event in events):
        known += [
            KnownSubscription(*row) for row in await subscriptions_store.list_ended(tx, org_id, names, ids)
        ]
    customers = {one.customer: one.subscription.customer_id for one in known}
    if missing := [name for name in names if name not in customers]:
        customers |= await customers_store.find_ids(tx, org_id, missing)
    found = await metric_store.find_metrics_with(
        tx,
        org_id,
        sorted({event.code for event in events}),
        extra=costs_store.IDS_OF_METRIC.format(code="m.code"),
    )
    return EventFacts(
        metrics={metric.code: metric for metric, _ in found},
        customers=customers,
        subscriptions=known,
        cost_models={
            metric.code: await costs_store.get_many(tx, org_id, of_metric) for metric, of_metric in found
        },
    )


def _is_matched(event: MeterEvent, known: Sequence[KnownSubscription], now: datetime) -> bool:
    """Whether a running subscription can take the event: then the ended ones need not be read."""
    at = event.occurred_at or now
    return any(
        one.subscription.is_active_at(at)
        and (
            one.subscription.external_id == event.external_subscription_id
            if event.external_subscription_id
            else one.customer == event.external_customer_id
        )
        for one in known
    )
