"""The one statement that aggregates raw events, and its rows. How a `UsageQuery` reads in SQL.

All quantities add up in NUMERIC, exactly. Weights need no walk through the events: a quantity that changes by q at an
instant t contributes q times what is left of the window after t, so a weighted sum is a plain sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.periods import local_date
from nozle_server.infra.usage_store import UsageQuery, UsageRow, Window

_TICK = timedelta(microseconds=1)
_ORDER = 'occurred_at, transaction_id collate "C"'
_LATEST_FIRST = 'occurred_at desc, transaction_id collate "C" desc'
_BY_ARRIVAL = "inside, received_at, id"

_UNITS = {
    "count_agg": "coalesce(sum(quantity), 0)",
    "sum_agg": "coalesce(sum(quantity), 0)",
    "weighted_sum_agg": "coalesce(sum(quantity), 0)",
    "max_agg": "coalesce(max(quantity), 0)",
    "latest_agg": f"coalesce((array_agg(quantity order by {_LATEST_FIRST}))[1], 0)",
}
_GROUPS = {
    "model": "coalesce(e.model, 'unknown')",
    "hour": "date_trunc('hour', e.occurred_at)",
}
_DAY = "greatest((occurred_at at time zone timezone)::date, first_day)"
_WEIGHTED = {
    # As Lago: the day of an event counts in full, and so does the last day of the window.
    "days": f"quantity * (last_day - {_DAY} + 1)",
    "seconds": "quantity * extract(epoch from window_end - greatest(occurred_at, window_start))",
}


@dataclass(slots=True)
class Statement:
    """SQL and the values of its parameters."""

    values: list[Any]
    text: str = ""

    def parameter(self, value: object, kind: str) -> str:
        self.values.append(value)
        return f"${len(self.values)}::{kind}"


def statement(org_id: UUID, query: UsageQuery) -> Statement:
    """The statement of a query that has windows."""
    one = Statement([org_id, query.metric_id])
    keys = ("n", "bucket", "grouped_by", *(f"group_{n}" for n in range(len(query.group_by))))
    events = _events(one, query)
    if query.aggregation == "unique_count_agg":
        one.text = _unique_count(events, query, keys)
    else:
        one.text = _plain(events, query, keys)
    return one


def usage_row(row: asyncpg.Record, query: UsageQuery) -> UsageRow:
    window = query.windows[row["n"] - 1]
    transactions, weighted = _transactions(row, query, window)
    return UsageRow(
        window=row["n"] - 1,
        filter_index=row["bucket"],
        group=tuple(row[f"group_{n}"] for n in range(len(query.group_by))),
        units=row["units"],
        events_count=row["events_count"],
        transactions=transactions,
        grouped_by=row["grouped_by"] or {},
        weighted_units=row["weighted_units"] if query.weighted else Decimal(0),
        weighted_transactions=weighted,
        amount_cents=row["amount_cents"] if query.with_amounts else Decimal(0),
        highest=row["highest"] if query.with_highest else Decimal(0),
    )


def _transactions(
    row: asyncpg.Record, query: UsageQuery, window: Window
) -> tuple[tuple[Decimal, ...], tuple[Decimal, ...]]:
    if not query.with_transactions:
        return (), ()
    if query.aggregation == "unique_count_agg" and not query.weighted:
        return (Decimal(1),) * int(row["units"]), ()
    transactions = tuple(row["transactions"] or ())
    weighted = tuple(row["weighted_transactions"] or ()) if query.weighted else ()
    if query.recurring and query.aggregation != "unique_count_agg" and row["carried"]:
        transactions = (row["carried"], *transactions)
        if query.weighted:
            first, last = _days(window)
            weighted = (row["carried"] * ((last - first).days + 1), *weighted)
    return transactions, weighted


def _events(one: Statement, query: UsageQuery) -> str:
    """The events behind a query, each with the number of its window, its bucket and its groups."""
    parts = [
        (subscription_id, window, number)
        for number, window in enumerate(query.windows, 1)
        for subscription_id in (window.subscription_id, *(window.earlier if query.recurring else ()))
    ]
    days = [_days(window) for window in query.windows]
    columns = (
        one.parameter([part[0] for part in parts], "uuid[]"),
        one.parameter([part[1].start for part in parts], "timestamptz[]"),
        one.parameter([part[1].end for part in parts], "timestamptz[]"),
        one.parameter([part[2] for part in parts], "int[]"),
        one.parameter([part[1].timezone for part in parts], "text[]"),
        one.parameter([days[part[2] - 1][0] for part in parts], "date[]"),
        one.parameter([days[part[2] - 1][1] for part in parts], "date[]"),
    )
    # Bounds as values beside those of the join: only the partitions between them are looked at.
    last = one.parameter(max(window.end for window in query.windows), "timestamptz")
    inside = "e.occurred_at >= w.window_start"
    status = "e.status in ('counted', 'late')" if query.include_late else "e.status = 'counted'"
    if query.recurring:
        # What came late for a closed period is there from then on.
        which = f"(({inside} and {status}) or (e.occurred_at < w.window_start and e.status in ('counted', 'late')))"
    else:
        first = one.parameter(min(window.start for window in query.windows), "timestamptz")
        which = f"{inside} and {status} and e.occurred_at >= {first}"
    if query.arrived is not None:
        received_at = one.parameter(query.arrived.received_at, "timestamptz")
        event_id = one.parameter(query.arrived.event_id, "uuid")
        which += (
            f" and (e.received_at, e.id) {'<=' if query.arrived.with_it else '<'} ({received_at}, {event_id})"
        )
    if query.unpaid:
        which += " and e.reason is distinct from 'paid_by_credits'"
    groups = "".join(f", {_group(one, query, name)} as group_{n}" for n, name in enumerate(query.group_by))
    return f"""
        select w.*, b.bucket, {_grouped_by(one, query)} as grouped_by{groups}, {inside} as inside, e.id, e.quantity,
            e.unique_value, e.occurred_at, e.received_at, e.transaction_id, e.precise_total_amount_cents
        from unnest({", ".join(columns)})
            as w (subscription_id, window_start, window_end, n, timezone, first_day, last_day)
        -- Each window by itself (offset 0 keeps the planner from joining): it is found by index, however many windows there
        -- are and whatever the statistics say. Joined, all events of the partitions may be read for some windows' few.
        cross join lateral (select * from events e where e.org_id = $1 and e.subscription_id = w.subscription_id
            and e.metric_id = $2 and e.occurred_at < w.window_end and e.occurred_at < {last} and {which} offset 0) e
        cross join lateral (select {_bucket(one, query.filters)} as bucket) b"""


def _days(window: Window) -> tuple[date, date]:
    """The first and the last local day that count of a window; none where the last is before the first."""
    first = local_date(window.start, window.timezone)
    if window.replaced:
        return first, local_date(window.end, window.timezone) - timedelta(days=1)
    return first, local_date(window.end if window.ended else window.end - _TICK, window.timezone)


def _group(one: Statement, query: UsageQuery, name: str) -> str:
    if name != "inside":
        return _GROUPS[name]
    start = one.parameter(query.inside_start, "timestamptz")
    end = one.parameter(query.inside_end, "timestamptz")
    return f"(({start} is null or e.occurred_at >= {start}) and ({end} is null or e.occurred_at < {end}))"


def _bucket(one: Statement, filters: Sequence[Mapping[str, Sequence[str]]]) -> str:
    """SQL for the index of the first filter that an event matches."""
    cases = []
    for index, wanted in enumerate(filters):
        conditions = [
            f"e.properties ->> {one.parameter(key, 'text')} = any({one.parameter(list(allowed), 'text[]')})"
            for key, allowed in wanted.items()
        ]
        cases.append(f"when {' and '.join(conditions)} then {index}")
    return f"case {' '.join(cases)} end" if cases else "null::int"


def _grouped_by(one: Statement, query: UsageQuery) -> str:
    """SQL for the values of the group keys of the event's bucket; an empty text is no value, as in Lago."""
    if not any(query.group_keys):
        return "null::jsonb"
    cases = []
    for index, keys in enumerate(query.group_keys):
        named = [one.parameter(key, "text") for key in keys]
        values = ", ".join(f"{key}, nullif(e.properties ->> {key}, '')" for key in named)
        when = "b.bucket is null" if index == 0 else f"b.bucket = {index - 1}"
        if keys:
            cases.append(f"when {when} then jsonb_build_object({values})")
    return f"case {' '.join(cases)} end"


def _plain(events: str, query: UsageQuery, keys: Sequence[str]) -> str:
    """All aggregations but the unique count: one pass."""
    figures = {"units": _UNITS[query.aggregation], "events_count": _counted(query)}
    weight = _WEIGHTED["seconds" if query.aggregation == "weighted_sum_agg" else "days"]
    only_inside = " filter (where inside)" if query.recurring else ""
    if query.weighted:
        figures["weighted_units"] = f"coalesce(sum({weight}), 0)"
    if query.with_amounts:
        figures["amount_cents"] = "coalesce(sum(precise_total_amount_cents), 0)"
    if query.with_transactions:
        figures["transactions"] = f"array_agg(quantity order by {_ORDER}){only_inside}"
        if query.recurring:
            figures["carried"] = "coalesce(sum(quantity) filter (where not inside), 0)"
        if query.weighted:
            figures["weighted_transactions"] = f"array_agg({weight} order by {_ORDER}){only_inside}"
    if query.with_highest:
        events = _with_level(events, "quantity", keys)
        figures["highest"] = _highest()
    return _select(keys, figures, events)


def _unique_count(events: str, query: UsageQuery, keys: Sequence[str]) -> str:
    """A value is there when the last operation on it in order of time added it (quantity 1) and did not remove it (0)."""
    by = ", ".join(keys)
    of_value = f"partition by {by}, unique_value order by {_ORDER}"
    if query.with_highest:
        changes = f"""select s.*, quantity - lag(quantity, 1, 0) over (partition by {by}, unique_value
            order by {_BY_ARRIVAL}) as change from ({events}) s"""
        # The level moves with each arrival; at the end it is what the last operations by arrival have left.
        figures = {"units": "sum(change)", "events_count": _counted(query), "highest": _highest()}
        return _select(keys, figures, _with_level(changes, "change", keys))
    if not query.weighted:
        values = f"""select {by}, (array_agg(quantity order by {_LATEST_FIRST}))[1] as present, {_counted(query)} as events
            from ({events}) s group by {by}, unique_value"""
        return _select(keys, {"units": "sum(present)", "events_count": "sum(events)::bigint"}, values)
    # Times that a value was there: from each operation that changed something to the next. Days are counted once: a value
    # that comes back on the day it went is there on that day already.
    left, back = "(left_at at time zone timezone)::date", "(back_at at time zone timezone)::date"
    changes = f"""
        select c.*, lead(occurred_at) over ({of_value}) as left_at, lead(occurred_at, 2) over ({of_value}) as back_at
        from (select s.*, lag(quantity, 1, 0) over ({of_value}) as previous,
                {_counted(query)} over (partition by {by}) as events from ({events}) s) c
        where quantity <> previous"""
    twice = f"coalesce({back} = {left} and {left} <= last_day, false)"
    spans = f"""
        select d.*, case when quantity = 0 or left_at < window_start then 0
            else least(coalesce({left}, last_day), last_day) - {_DAY} + 1 - {twice}::int end as days
        from ({changes}) d"""
    moved = f"(case when quantity = 0 then -1 else 1 end::numeric order by {_ORDER})"
    relevant = (
        "filter (where not coalesce(left_at < window_start, false) and not (quantity = 0 and not inside))"
    )
    figures = {
        "units": "count(*) filter (where quantity = 1 and left_at is null)::numeric",
        "events_count": "max(events)",
        "weighted_units": "coalesce(sum(days), 0)::numeric",
        "transactions": f"array_agg{moved} {relevant}",
        "weighted_transactions": f"array_agg(days::numeric order by {_ORDER}) {relevant}",
    }
    return _select(keys, figures, spans)


def _counted(query: UsageQuery) -> str:
    return "count(*) filter (where inside)" if query.recurring else "count(*)"


def _with_level(events: str, change: str, keys: Sequence[str]) -> str:
    return f"""select s.*, sum({change}) over (partition by {", ".join(keys)} order by {_BY_ARRIVAL}) as level
        from ({events}) s"""


def _highest() -> str:
    # What was carried over is the level at the window's start, and no events at all are a level of 0.
    carried = "(array_agg(level order by received_at desc, id desc) filter (where not inside))[1]"
    return f"greatest(0, max(level) filter (where inside), {carried})"


def _select(keys: Sequence[str], figures: Mapping[str, str], source: str) -> str:
    chosen = ", ".join([*keys, *(f"{expression} as {figure}" for figure, expression in figures.items())])
    by = ", ".join(keys)
    return f"select {chosen} from ({source}) s group by {by} order by {by}"
