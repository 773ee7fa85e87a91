"""The seam `UsageStore`: stored events in, exact usage out.

Two reads: counters, which are kept at ingest for the running period of each subscription and metric (`can()` reads
them), and aggregates over raw events, which rating and margin use. Both give the same figures; a test holds them to it.
A counter holds the quantity in full: neither prorated nor weighted nor rounded. A recurring metric has one counter for
all time (`FOR_EVER`), kept under the first subscription of a chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from nozle_server.core.values import replace
from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class CounterKey:
    """One running total: a subscription's usage of a metric in the period that starts then."""

    subscription_id: UUID
    metric_id: UUID
    period_start: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """What was last said about a value of a unique count: added, or removed. Later ones stand above earlier ones."""

    occurred_at: datetime
    transaction_id: str
    present: bool


@dataclass(slots=True)
class CounterChange:
    """What a batch of events does to one counter, whatever order they came in."""

    added: Decimal = Decimal(0)
    events_count: int = 0
    highest: Decimal | None = None
    latest: tuple[datetime, str, Decimal] | None = None
    unique_values: dict[str, Operation] = field(default_factory=dict)


# The period of a counter that is carried over from period to period: there is one for all time.
FOR_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """One subscription's time in [start, end). `earlier` are the subscriptions that it took over from, whose quantity of a
    recurring metric it carries on; `timezone` is where the days of a prorated quantity are counted. Where another plan
    took its place (`replaced`), the day of `end` is not among them; where the subscription ended within its period
    (`ended`), it is, also when that is at midnight."""

    subscription_id: UUID
    start: datetime
    end: datetime
    earlier: tuple[UUID, ...] = ()
    timezone: str = "UTC"
    replaced: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """When an event came in; events that come at one instant are told apart by their ids. `with_it`: the event itself
    had arrived, else only those before it."""

    received_at: datetime
    event_id: UUID
    with_it: bool


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Usage of one metric in some windows.

    `aggregation` is one of Lago's names. `filters` are property filters, best match first: a row comes back for each
    that some event matches, and one for the events that match none. `group_keys` are properties whose combinations of
    values get a row each: first those of the events that match no filter, then those of each filter. `group_by` splits
    further: "model", "hour", or "inside", which tells the events in [inside_start, inside_end) from the others.

    A `recurring` quantity starts with all that was there before the window, late or not. `include_late` counts the
    window's late events too. `weighted` asks for the days (of a prorated charge) or seconds (of a weighted sum) that
    units were there, `with_transactions` for the single events, `with_amounts` for the sum of the events' own prices,
    `with_highest` for the highest level that the quantity had in the window as the events arrived (and then not the
    weights). `arrived` looks only at what had arrived by then. `unpaid` leaves out what credits were taken for.
    """

    metric_id: UUID
    aggregation: str
    windows: tuple[Window, ...]
    filters: tuple[Mapping[str, Sequence[str]], ...] = ()
    group_keys: tuple[tuple[str, ...], ...] = ()
    group_by: tuple[str, ...] = ()
    inside_start: datetime | None = None
    inside_end: datetime | None = None
    recurring: bool = False
    include_late: bool = False
    weighted: bool = False
    with_transactions: bool = False
    with_amounts: bool = False
    with_highest: bool = False
    arrived: Arrival | None = None
    unpaid: bool = False


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`window` and `filter_index` point into the query's (filter None: matched none); `group` holds the values of
    `group_by`, `grouped_by` those of the group keys (None: the event has no such property).

    `units` is the quantity in full: of a weighted sum what it has come to, `weighted_units` being that times the seconds it
    was there; of a prorated one times the days. `events_count` counts the window's events. `transactions` is the quantity of
    each event in order of time, when asked for, after what was carried over; `weighted_transactions` the same times its
    days.
    """

    window: int
    filter_index: int | None
    group: tuple[Any, ...]
    units: Decimal
    events_count: int
    transactions: tuple[Decimal, ...] = ()
    grouped_by: Mapping[str, str | None] = field(default_factory=dict)
    weighted_units: Decimal = Decimal(0)
    weighted_transactions: tuple[Decimal, ...] = ()
    amount_cents: Decimal = Decimal(0)
    highest: Decimal = Decimal(0)


class UsageStore(Protocol):
    """Counts events and answers how much was used."""

    async def count(self, tx: Tx, org_id: UUID, changes: Mapping[CounterKey, CounterChange]) -> None:
        """Add newly stored events to the running totals, in the transaction that stores them."""
        ...

    async def usage(self, tx: Tx, org_id: UUID, query: UsageQuery) -> list[UsageRow]:
        """Aggregate the counted events."""
        ...


class ForeseenUsage:
    """A usage store that has been asked about many windows at once, and answers about each of them from memory."""

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._known: dict[UUID, list[tuple[UsageQuery, dict[Window, list[UsageRow]]]]] = {}

    async def foresee(self, tx: Tx, org_id: UUID, query: UsageQuery) -> None:
        """Ask this, so that questions about one of its windows need not be asked."""
        rows: dict[Window, list[UsageRow]] = {window: [] for window in query.windows}
        for row in await self._store.usage(tx, org_id, query):
            rows[query.windows[row.window]].append(replace(row, window=0))
        self._known.setdefault(query.metric_id, []).append((replace(query, windows=()), rows))

    async def count(self, tx: Tx, org_id: UUID, changes: Mapping[CounterKey, CounterChange]) -> None:
        await self._store.count(tx, org_id, changes)

    async def usage(self, tx: Tx, org_id: UUID, query: UsageQuery) -> list[UsageRow]:
        if len(query.windows) == 1:
            for known, rows in self._known.get(query.metric_id, ()):
                if query.windows[0] in rows and replace(query, windows=()) == known:
                    return rows[query.windows[0]]
        return await self._store.usage(tx, org_id, query)
