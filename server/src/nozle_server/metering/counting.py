"""What a batch of stored events does to the usage counters: pure, and the same in any order of the events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.catalog.model import Aggregation, Metric
from nozle_server.core.rounding import EXACT
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.usage_store import FOR_EVER, CounterChange, CounterKey, Operation


@dataclass(frozen=True, slots=True)
class Counted:
    """A stored event with its metric, and whose counter it moves: its subscription's in the period that starts then, or,
    when the metric is recurring, that of the first subscription of its chain, for ever."""

    event: EventRecord
    metric: Metric
    subscription_id: UUID
    period_start: datetime

    @property
    def key(self) -> CounterKey:
        return CounterKey(
            self.subscription_id, self.metric.id, FOR_EVER if self.metric.recurring else self.period_start
        )


def is_counted(event: EventRecord, metric: Metric | None) -> bool:
    """Whether an event moves a counter. What comes late for a closed period does not, unless it is carried over: a seat
    that was added is there from then on."""
    if metric is None:
        return False
    return event.status == "counted" or (event.status == "late" and metric.recurring)


def plan_changes(events: Iterable[Counted]) -> dict[CounterKey, CounterChange]:
    """One change a counter."""
    changes: dict[CounterKey, CounterChange] = {}
    for one in events:
        event = one.event
        assert event.quantity is not None, "only measured events count"
        change = changes.setdefault(one.key, CounterChange())
        change.events_count += 1
        match one.metric.aggregation:
            case Aggregation.COUNT | Aggregation.SUM | Aggregation.WEIGHTED_SUM:
                change.added = EXACT.add(change.added, event.quantity)
            case Aggregation.MAX:
                change.highest = (
                    event.quantity if change.highest is None else max(change.highest, event.quantity)
                )
            case Aggregation.LATEST:
                candidate = (event.occurred_at, event.transaction_id, event.quantity)
                change.latest = candidate if change.latest is None else max(change.latest, candidate)
            case Aggregation.UNIQUE_COUNT:
                assert event.unique_value is not None, "a unique count has values"
                operation = Operation(event.occurred_at, event.transaction_id, bool(event.quantity))
                known = change.unique_values.get(event.unique_value)
                if known is None or _order(operation) > _order(known):
                    change.unique_values[event.unique_value] = operation
    return changes


def _order(operation: Operation) -> tuple[datetime, str]:
    return operation.occurred_at, operation.transaction_id
