"""What a batch of stored events does to the usage counters: pure, and the same in any order of the events."""

from collections.abc import Iterable
from datetime import datetime

from nozle_server.catalog.model import Aggregation
from nozle_server.core.rounding import EXACT
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.usage_store import CounterChange, CounterKey


def plan_changes(
    events: Iterable[tuple[EventRecord, Aggregation, datetime]],
) -> dict[CounterKey, CounterChange]:
    """One change a counter, from events with their metric's aggregation and the start of the period they fall in."""
    changes: dict[CounterKey, CounterChange] = {}
    for event, aggregation, period_start in events:
        assert event.subscription_id is not None, "only counted events count"
        assert event.metric_id is not None, "only counted events count"
        assert event.quantity is not None, "only counted events count"
        change = changes.setdefault(
            CounterKey(event.subscription_id, event.metric_id, period_start), CounterChange()
        )
        change.events_count += 1
        match aggregation:
            case Aggregation.COUNT | Aggregation.SUM:
                change.added = EXACT.add(change.added, event.quantity)
            case Aggregation.MAX:
                change.highest = (
                    event.quantity if change.highest is None else max(change.highest, event.quantity)
                )
            case Aggregation.LATEST:
                candidate = (event.occurred_at, event.transaction_id, event.quantity)
                change.latest = candidate if change.latest is None else max(change.latest, candidate)
            case Aggregation.UNIQUE_COUNT:
                assert event.unique_value is not None
                change.unique_values.add(event.unique_value)
    return changes
