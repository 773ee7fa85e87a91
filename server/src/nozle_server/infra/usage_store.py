"""The seam `UsageStore`: stored events in, exact usage out.

Two reads: counters, which are kept at ingest for the running period of each subscription and metric (`can()` reads
them), and aggregates over raw events, which rating and margin use. Both give the same figures; a test holds them to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class CounterKey:
    """One running total: a subscription's usage of a metric in the period that starts then."""

    subscription_id: UUID
    metric_id: UUID
    period_start: datetime


@dataclass(slots=True)
class CounterChange:
    """What a batch of events does to one counter, whatever order they came in."""

    added: Decimal = Decimal(0)
    events_count: int = 0
    highest: Decimal | None = None
    latest: tuple[datetime, str, Decimal] | None = None
    unique_values: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Window:
    """One subscription's time in [start, end)."""

    subscription_id: UUID
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Usage of one metric in some windows.

    `aggregation` is one of Lago's names. `filters` are property filters, best match first: a row comes back for each
    that some event matches, and one for the events that match none. `group_by` splits further: "model", "hour", or
    "inside", which tells the events in [inside_start, inside_end) from the others.
    """

    metric_id: UUID
    aggregation: str
    windows: tuple[Window, ...]
    filters: tuple[Mapping[str, Sequence[str]], ...] = ()
    group_by: tuple[str, ...] = ()
    inside_start: datetime | None = None
    inside_end: datetime | None = None
    with_transactions: bool = False
    include_late: bool = False


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`window` and `filter_index` point into the query's (filter None: matched none); `group` holds the values of
    `group_by`; `transactions` the quantity of each event in order of time, when asked for."""

    window: int
    filter_index: int | None
    group: tuple[Any, ...]
    units: Decimal
    events_count: int
    transactions: tuple[Decimal, ...] = ()


class UsageStore(Protocol):
    """Counts events and answers how much was used."""

    async def count(self, tx: Tx, org_id: UUID, changes: Mapping[CounterKey, CounterChange]) -> None:
        """Add newly stored events to the running totals, in the transaction that stores them."""
        ...

    async def usage(self, tx: Tx, org_id: UUID, query: UsageQuery) -> list[UsageRow]:
        """Aggregate the counted events."""
        ...


_UNITS = {
    "count_agg": "coalesce(sum(quantity), 0)",
    "sum_agg": "coalesce(sum(quantity), 0)",
    "max_agg": "coalesce(max(quantity), 0)",
    "unique_count_agg": "count(distinct unique_value)::numeric",
    "latest_agg": """coalesce((array_agg(quantity order by occurred_at desc, transaction_id collate "C" desc))[1], 0)""",
}
_GROUPS = {
    "model": "coalesce(model, 'unknown')",
    "hour": "date_trunc('hour', occurred_at)",
}
_COUNTED = "units = {units}, events_count = usage_counters.events_count + excluded.events_count"


class PostgresUsageStore:
    """Counters and raw events in PostgreSQL."""

    async def count(self, tx: Tx, org_id: UUID, changes: Mapping[CounterKey, CounterChange]) -> None:
        # In order of key, so that two batches with common counters wait for each other instead of dead-locking.
        ordered = sorted(
            changes.items(),
            key=lambda item: (item[0].subscription_id, item[0].metric_id, item[0].period_start),
        )
        added, highest, latest = [], [], []
        for key, change in ordered:
            if change.unique_values:
                change.added += await self._new_values(tx, org_id, key, change.unique_values)
            if change.latest is not None:
                latest.append((key, change))
            elif change.highest is not None:
                highest.append((key, change))
            else:
                added.append((key, change))
        await self._upsert(tx, org_id, added, "usage_counters.units + excluded.units")
        await self._upsert(tx, org_id, highest, "greatest(usage_counters.units, excluded.units)")
        await self._upsert_latest(tx, org_id, latest)

    async def usage(self, tx: Tx, org_id: UUID, query: UsageQuery) -> list[UsageRow]:
        if not query.windows:
            return []
        values: list[Any] = [
            org_id,
            query.metric_id,
            [window.subscription_id for window in query.windows],
            [window.start for window in query.windows],
            [window.end for window in query.windows],
        ]
        values.extend(
            (min(window.start for window in query.windows), max(window.end for window in query.windows))
        )
        first, last = f"${len(values) - 1}", f"${len(values)}"
        bucket = _bucket(query.filters, values)
        if "inside" in query.group_by:
            values.extend((query.inside_start, query.inside_end))
        start, end = f"${len(values) - 1}::timestamptz", f"${len(values)}::timestamptz"
        inside = f"({start} is null or occurred_at >= {start}) and ({end} is null or occurred_at < {end})"
        groups = "".join(
            f", {inside if name == 'inside' else _GROUPS[name]} as group_{n}"
            for n, name in enumerate(query.group_by)
        )
        listed = (
            ", array_agg(quantity order by occurred_at, transaction_id) as transactions"
            if query.with_transactions
            else ""
        )
        status = "e.status in ('counted', 'late')" if query.include_late else "e.status = 'counted'"
        keys = ", ".join(str(n) for n in range(1, len(query.group_by) + 3))
        rows = await tx.fetch(
            f"""
            select w.n as window_number, {bucket} as bucket{groups}, {_UNITS[query.aggregation]} as units,
                count(*) as events_count{listed}
            from unnest($3::uuid[], $4::timestamptz[], $5::timestamptz[]) with ordinality
                as w (subscription_id, window_start, window_end, n)
            join events e on e.org_id = $1 and e.subscription_id = w.subscription_id and e.metric_id = $2
                and e.occurred_at >= w.window_start and e.occurred_at < w.window_end and {status}
                -- Bounds as values beside those of the join: only the partitions between them are looked at.
                and e.occurred_at >= {first} and e.occurred_at < {last}
            group by {keys} order by {keys}
            """,
            *values,
        )
        return [
            UsageRow(
                window=row["window_number"] - 1,
                filter_index=row["bucket"],
                group=tuple(row[f"group_{n}"] for n in range(len(query.group_by))),
                units=row["units"],
                events_count=row["events_count"],
                transactions=tuple(row["transactions"]) if query.with_transactions else (),
            )
            for row in rows
        ]

    async def _new_values(self, tx: Tx, org_id: UUID, key: CounterKey, found: set[str]) -> int:
        rows = await tx.fetch(
            """
            insert into usage_unique_values (org_id, subscription_id, metric_id, period_start, value)
            select $1, $2, $3, $4, v from unnest($5::text[]) v order by v
            on conflict do nothing returning 1
            """,
            org_id,
            key.subscription_id,
            key.metric_id,
            key.period_start,
            list(found),
        )
        return len(rows)

    async def _upsert(
        self, tx: Tx, org_id: UUID, changes: Sequence[tuple[CounterKey, CounterChange]], units: str
    ) -> None:
        if not changes:
            return
        await tx.execute(
            f"""
            insert into usage_counters (org_id, subscription_id, metric_id, period_start, units, events_count)
            select $1, * from unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::numeric[], $6::bigint[])
            on conflict (org_id, subscription_id, metric_id, period_start) do update set {_COUNTED.format(units=units)}
            """,
            org_id,
            [key.subscription_id for key, _ in changes],
            [key.metric_id for key, _ in changes],
            [key.period_start for key, _ in changes],
            [change.added if change.highest is None else change.highest for _, change in changes],
            [change.events_count for _, change in changes],
        )

    async def _upsert_latest(
        self, tx: Tx, org_id: UUID, changes: Sequence[tuple[CounterKey, CounterChange]]
    ) -> None:
        for key, change in changes:
            assert change.latest is not None
            at, transaction_id, units = change.latest
            await tx.execute(
                """
                insert into usage_counters as c (org_id, subscription_id, metric_id, period_start, units, events_count,
                    latest_at, latest_transaction_id)
                values ($1, $2, $3, $4, $5, $6, $7, $8)
                on conflict (org_id, subscription_id, metric_id, period_start) do update set
                    units = case when (excluded.latest_at, excluded.latest_transaction_id)
                                      > (c.latest_at, c.latest_transaction_id) then excluded.units else c.units end,
                    latest_transaction_id = case when (excluded.latest_at, excluded.latest_transaction_id)
                                      > (c.latest_at, c.latest_transaction_id) then excluded.latest_transaction_id
                                      else c.latest_transaction_id end,
                    latest_at = greatest(c.latest_at, excluded.latest_at),
                    events_count = c.events_count + excluded.events_count
                """,
                org_id,
                key.subscription_id,
                key.metric_id,
                key.period_start,
                units,
                change.events_count,
                at,
                transaction_id,
            )


def _bucket(filters: Sequence[Mapping[str, Sequence[str]]], values: list[Any]) -> str:
    """SQL for the index of the first filter that an event matches; appends its parameters to `values`."""
    cases = []
    for index, wanted in enumerate(filters):
        conditions = []
        for key, allowed in wanted.items():
            values.extend((key, list(allowed)))
            conditions.append(f"properties ->> ${len(values) - 1} = any(${len(values)})")
        cases.append(f"when {' and '.join(conditions)} then {index}")
    return f"case {' '.join(cases)} end" if cases else "null::int"
