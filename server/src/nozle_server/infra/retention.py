"""What is kept for a while only. Everything else is kept for good.

Ages are real time, also of organizations on a test clock: a key guards a repetition that long.
"""

from datetime import datetime, timedelta

from nozle_server.infra.database import Database

BATCH = 5_000
"""Rows per transaction, so that no lock is held for long."""
FACTS_KEPT = timedelta(days=7)
"""How long the outbox holds a fact: whoever holds something to having one may not ask for longer."""

USAGE_NEWS_KEPT_S = 120
"""How long news of usage are kept: a process that has not looked for some seconds drops all it keeps, and needs none."""
_USAGE_NEWS = "kind = 'usage.counted'"

# Table, and which of its rows have had their time at $1.
_SPENT = (
    (
        "outbox",
        f"kind <> 'usage.counted' and created_at < $1::timestamptz - interval '{FACTS_KEPT.days} days'",
    ),
    ("idempotency_keys", "not ledger and created_at < $1::timestamptz - interval '7 days'"),
    # Of channels that nobody has touched for a day; who comes back later begins a new epoch.
    ("realtime_channels", "touched_at < $1::timestamptz - interval '1 day'"),
    ("realtime_audiences", "until < $1::timestamptz"),
    ("customer_sessions", "expires_at < $1::timestamptz"),
    # Of replicas that never came back.
    (
        "replica_holds",
        "renewed_at < $1::timestamptz - interval '7 days' and not exists (select from credit_holds h"
        " where h.org_id = replica_holds.org_id and h.id = replica_holds.hold_id and h.status = 'open')",
    ),
    # The log says why a job was parked: that stays as long as the job.
    (
        "pgqueuer_log",
        "created < $1::timestamptz - interval '7 days'"
        " and not exists (select from pgqueuer where id = job_id and pgqueuer.status = 'failed')",
    ),
    ("pgqueuer_statistics", "created < $1::timestamptz - interval '7 days'"),
)


async def prune(database: Database, real_now: datetime, *, batch: int = BATCH) -> None:
    """Delete what has had its time, `batch` rows a transaction."""
    for table, spent in _SPENT:
        await _delete(database, table, spent, batch, real_now)


async def prune_usage_news(database: Database, *, batch: int = BATCH) -> None:
    """Delete news of usage that every process has heard long ago. By the database's clock, which dated them."""
    spent = f"{_USAGE_NEWS} and created_at < now() - interval '{USAGE_NEWS_KEPT_S} seconds'"
    await _delete(database, "outbox", spent, batch)


async def _delete(database: Database, table: str, spent: str, batch: int, *values: object) -> None:
    some = f"select ctid from {table} where {spent} limit {batch}"
    deleted = batch
    while deleted == batch:
        async with database.transaction() as tx:
            status = await tx.execute(f"delete from {table} where ctid = any(array({some}))", *values)
        deleted = int(status.removeprefix("DELETE "))
