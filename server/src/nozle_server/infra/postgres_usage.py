"""The seam `UsageStore` in PostgreSQL: counters beside the events, and aggregates of the events themselves."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from nozle_server.infra import usage_sql
from nozle_server.infra.database import Tx
from nozle_server.infra.usage_store import CounterChange, CounterKey, Operation, UsageQuery, UsageRow

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
                change.added += await self._operate(tx, org_id, key, change.unique_values)
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
        statement = usage_sql.statement(org_id, query)
        rows = await tx.fetch(statement.text, *statement.values)
        return [usage_sql.usage_row(row, query) for row in rows]

    async def _operate(self, tx: Tx, org_id: UUID, key: CounterKey, found: Mapping[str, Operation]) -> int:
        """Keep the latest operation on each value; returns by how many the values that are there have changed."""
        values = sorted(found)
        changed: int = await tx.fetchval(
            """
            with kept as (
                insert into usage_unique_values as u (org_id, subscription_id, metric_id, period_start, value, present,
                    latest_at, latest_transaction_id)
                select $1, $2, $3, $4, * from unnest($5::text[], $6::boolean[], $7::timestamptz[], $8::text[])
                on conflict (org_id, subscription_id, metric_id, period_start, value) do update set
                    was_present = u.present, present = excluded.present, latest_at = excluded.latest_at,
                    latest_transaction_id = excluded.latest_transaction_id
                where (excluded.latest_at, excluded.latest_transaction_id) > (u.latest_at, u.latest_transaction_id)
                returning present, was_present
            )
            select coalesce(sum(present::int - was_present::int), 0)::bigint from kept
            """,
            org_id,
            key.subscription_id,
            key.metric_id,
            key.period_start,
            values,
            [found[value].present for value in values],
            [found[value].occurred_at for value in values],
            [found[value].transaction_id for value in values],
        )
        return changed

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
