"""What the job queue looks like from outside: sizes and delays for Prometheus, and why a job was parked.

Labels are names of ours (a job's name, a state), never an organization or an id.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nozle_server.infra.database import Database, Tx

# The states in the words of asynq (https://github.com/hibiken/asynq), whose metric names readers know.
_SIZES = """
    select entrypoint as queue,
        case
            when status = 'picked' then 'active'
            when status = 'failed' then 'archived'
            when attempts > 0 then 'retry'
            when execute_after > now() then 'scheduled'
            else 'pending'
        end as state,
        count(*) as size,
        extract(epoch from now() - min(execute_after)
            filter (where status = 'queued' and execute_after <= now())) as oldest_s
    from pgqueuer
    group by 1, 2
    union all
    select 'due_' || kind, 'parked', count(*), 0 from due_items where parked_at is not null group by 1
    order by 1, 2
"""
_WAITING = ("pending", "retry", "active")


async def queue_metrics(database: Database) -> str:
    """Prometheus text, version 0.0.4."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SIZES)
        notified = await connection.fetchval("select pg_notification_queue_usage()")
    registry = CollectorRegistry()
    registry.register(_Sizes(rows, notified))
    return generate_latest(registry).decode()


@dataclass(frozen=True, slots=True)
class ParkedJob:
    """A job that failed as often as it may; `error` is its last exception with its traceback."""

    queue: str
    payload: bytes
    tries: int
    parked_at: datetime
    error: str


async def list_parked_jobs(tx: Tx, *, limit: int = 100) -> list[ParkedJob]:
    """The jobs that nobody will try again, the latest first."""
    rows = await tx.fetch(
        """
        select job.entrypoint as queue, coalesce(job.payload, '') as payload, job.attempts + 1 as tries,
            job.updated as parked_at, coalesce(failure.traceback ->> 'traceback', '') as error
        from pgqueuer as job
        left join lateral (
            select traceback from pgqueuer_log
            where job_id = job.id and status = 'failed' order by created desc limit 1
        ) as failure on true
        where job.status = 'failed'
        order by job.updated desc
        limit $1
        """,
        limit,
    )
    return [ParkedJob(**row) for row in rows]


class _Sizes(Collector):
    def __init__(self, rows: list[asyncpg.Record], notified: float) -> None:
        self._rows, self._notified = rows, notified

    def collect(self) -> Iterable[Metric]:
        states = GaugeMetricFamily("asynq_queue_size", "Jobs by state.", labels=["queue", "state"])
        size = GaugeMetricFamily("nozle_queue_size", "Jobs that are due or running.", labels=["queue"])
        latency = GaugeMetricFamily(
            "nozle_queue_latency_ms", "How long the longest waiting job has been due.", labels=["queue"]
        )
        for row in self._rows:
            states.add_metric([row["queue"], row["state"]], row["size"])
        for queue in sorted({row["queue"] for row in self._rows}):
            of_queue = [row for row in self._rows if row["queue"] == queue]
            size.add_metric([queue], sum(row["size"] for row in of_queue if row["state"] in _WAITING))
            latency.add_metric([queue], 1000 * max(float(row["oldest_s"] or 0) for row in of_queue))
        # It grows while any session of the database server listens and stays in a transaction. Full, nobody can notify: the
        # processes then learn of each other's changes by looking, a second late.
        notified = GaugeMetricFamily(
            "nozle_notification_queue_usage_ratio",
            "How full PostgreSQL's queue of notifications is; 1 is full.",
            value=self._notified,
        )
        return (states, size, latency, notified)
