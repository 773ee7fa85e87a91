"""What falls due, in order: period ends, trial ends, retries, each a row of `due_items`.

An organization on a test clock drains its items when its clock is turned. For the others a job drains them in
real time: `schedule` enqueues one for the instant an item falls due, and `enqueue_overdue`, run every minute,
catches what a lost job left behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.infra import job_queue
from nozle_server.infra.batch import later
from nozle_server.infra.database import Tx

MAX_ERROR_LENGTH = 4_000
DRAIN_DUE = "drain_due"
"""The job that drains one organization; its payload is the organization's id, 16 bytes."""


@dataclass(frozen=True, slots=True)
class DueItem:
    """One thing to be done at `due_at`; `kind` says what, `subject_id` with which object."""

    org_id: UUID
    id: UUID
    due_at: datetime
    kind: str
    subject_id: UUID


async def schedule(
    tx: Tx, *, org_id: UUID, kind: str, subject_id: UUID, due_at: datetime, now: datetime
) -> None:
    """Have `kind` done with `subject_id` at `due_at`; once, however often it is asked for.

    `now` is the organization's time.
    """
    await later(tx, _insert, (DueItem(org_id, new_id(), due_at, kind, subject_id), now))


async def _insert(tx: Tx, scheduled: Sequence[tuple[DueItem, datetime]]) -> None:
    rows = await tx.fetch(
        """
        with added as (
            insert into due_items (org_id, id, due_at, kind, subject_id, created_at)
            select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::uuid[], $6::timestamptz[])
            on conflict (org_id, kind, subject_id, due_at) do nothing
            returning org_id, due_at
        )
        select distinct added.org_id, added.due_at from organizations join added on added.org_id = organizations.id
        where organizations.test_now is null
        """,
        [item.org_id for item, _ in scheduled],
        [item.id for item, _ in scheduled],
        [item.due_at for item, _ in scheduled],
        [item.kind for item, _ in scheduled],
        [item.subject_id for item, _ in scheduled],
        [now for _, now in scheduled],
    )
    for row in rows:
        # One key an instant: 10,000 subscriptions that renew at one midnight share one job.
        org_id, due_at = row["org_id"], row["due_at"]
        key = f"{DRAIN_DUE}:{org_id}:{due_at.isoformat()}"
        await job_queue.enqueue(tx, DRAIN_DUE, org_id.bytes, run_at=due_at, dedupe_key=key)


async def next_due(tx: Tx, org_id: UUID, until: datetime, *, kinds: Sequence[str]) -> DueItem | None:
    """The organization's first item due at or before `until`, locked for `tx`; None when nothing is.

    First by instant, then by place of its kind in `kinds`, then by id. Items of other kinds are left alone: a newer
    release may have scheduled them. Drainers take turns: the second waits
    until the first one's item is finished, then looks again, as that item may have scheduled an earlier one.
    """
    while True:
        row = await tx.fetchrow(
            """
            select org_id, id, due_at, kind, subject_id from due_items
            where org_id = $1 and due_at <= $2 and parked_at is null and kind = any($3)
            order by due_at, array_position($3::text[], kind), id
            limit 1
            """,
            org_id,
            until,
            list(kinds),
        )
        if row is None:
            return None
        locked = await tx.fetchval(
            "select true from due_items where org_id = $1 and id = $2 for update", org_id, row["id"]
        )
        if locked:
            return DueItem(**row)


async def more_due(tx: Tx, item: DueItem, limit: int) -> list[DueItem]:
    """The items of the same kind and instant that come after one that is locked, at most `limit`, locked as well."""
    rows = await tx.fetch(
        """
        select org_id, id, due_at, kind, subject_id from due_items
        where org_id = $1 and due_at = $2 and kind = $3 and parked_at is null and id > $4
        order by id limit $5 for update
        """,
        item.org_id,
        item.due_at,
        item.kind,
        item.id,
        limit,
    )
    return [DueItem(**row) for row in rows]


async def anything_due(tx: Tx, org_id: UUID, until: datetime, *, kinds: Sequence[str]) -> bool:
    """Whether the organization has an item of these kinds due at or before `until`."""
    return bool(
        await tx.fetchval(
            """
            select exists (
                select 1 from due_items where org_id = $1 and due_at <= $2 and parked_at is null and kind = any($3)
            )
            """,
            org_id,
            until,
            list(kinds),
        )
    )


async def take(tx: Tx, org_id: UUID, kind: str, due_at: datetime, subject_ids: Sequence[UUID]) -> list[UUID]:
    """Take over other items of one kind and instant, to do them together with one's own; the subjects taken."""
    if not subject_ids:
        return []
    rows = await tx.fetch(
        """delete from due_items where org_id = $1 and kind = $2 and due_at = $3 and subject_id = any($4)
           and parked_at is null returning subject_id""",
        org_id,
        kind,
        due_at,
        list(subject_ids),
    )
    return [row["subject_id"] for row in rows]


async def take_until(tx: Tx, org_id: UUID, kind: str, subject_id: UUID, until: datetime) -> list[datetime]:
    """Take over what of one kind is due for a subject at or before `until`, to do it now; when each was due, in order."""
    rows = await tx.fetch(
        """delete from due_items where org_id = $1 and kind = $2 and subject_id = $3 and due_at <= $4
           and parked_at is null returning due_at""",
        org_id,
        kind,
        subject_id,
        until,
    )
    return sorted(row["due_at"] for row in rows)


async def finish(tx: Tx, item: DueItem) -> None:
    """The item is done, in the same transaction that did it."""
    await finish_all(tx, [item])


async def finish_all(tx: Tx, items: Sequence[DueItem]) -> None:
    """The items, of one organization, are done, in the same transaction that did them."""
    deleted = await tx.execute(
        "delete from due_items where org_id = $1 and id = any($2)",
        items[0].org_id,
        [item.id for item in items],
    )
    assert deleted == f"DELETE {len(items)}", "an item is finished once, by the transaction that locked it"


async def still_due(
    tx: Tx, org_id: UUID, kind: str, due_at: datetime, subject_ids: Sequence[UUID]
) -> set[UUID]:
    """Those of these subjects that have an item of this kind and instant."""
    rows = await tx.fetch(
        """select subject_id from due_items where org_id = $1 and kind = $2 and due_at = $3 and subject_id = any($4)
           and parked_at is null""",
        org_id,
        kind,
        due_at,
        list(subject_ids),
    )
    return {row["subject_id"] for row in rows}


async def count_try(tx: Tx, item: DueItem, *, first: bool = False) -> int | None:
    """Note that the item is begun, by a transaction before the one that does it; how often it was. None, and nothing is
    noted, when this would not be the `first` time and must be."""
    tries: int | None = await tx.fetchval(
        """update due_items set tries = tries + 1 where org_id = $1 and id = $2 and (tries = 0 or not $3)
           returning tries""",
        item.org_id,
        item.id,
        first,
    )
    return tries


async def park(tx: Tx, item: DueItem, error: str) -> None:
    """Put an item that failed aside with its error: the organization's other items go on without it."""
    await tx.execute(
        "update due_items set parked_at = now(), error = $3 where org_id = $1 and id = $2",
        item.org_id,
        item.id,
        error[:MAX_ERROR_LENGTH],
    )


async def list_parked(tx: Tx) -> list[tuple[DueItem, datetime, str]]:
    """What was put aside, when (real time) and why; the latest first."""
    rows = await tx.fetch(
        """
        select org_id, id, due_at, kind, subject_id, parked_at, error from due_items
        where parked_at is not null order by parked_at desc limit 1000
        """
    )
    return [
        (
            DueItem(row["org_id"], row["id"], row["due_at"], row["kind"], row["subject_id"]),
            row["parked_at"],
            row["error"],
        )
        for row in rows
    ]


async def retry_parked(tx: Tx, now: datetime) -> int:
    """Take everything that was put aside back into the queue, to be done at once; how many. `now` is real time."""
    rows = await tx.fetch(
        "update due_items set parked_at = null, error = null, tries = 0 where parked_at is not null returning org_id"
    )
    await enqueue_overdue(tx, now)
    return len(rows)


async def organizations_due(tx: Tx, real_now: datetime) -> list[UUID]:
    """Organizations in real time that have something due; those on a test clock are drained by turning it."""
    rows = await tx.fetch(
        """
        select distinct due_items.org_id from due_items
        join organizations on organizations.id = due_items.org_id
        where due_items.due_at <= $1 and due_items.parked_at is null and organizations.test_now is null
        """,
        real_now,
    )
    return [row["org_id"] for row in rows]


async def enqueue_overdue(tx: Tx, real_now: datetime) -> None:
    """Have every organization drained that still has something due: the net under a lost job."""
    for org_id in await organizations_due(tx, real_now):
        key = f"{DRAIN_DUE}:{org_id}:overdue"
        await job_queue.enqueue(tx, DRAIN_DUE, org_id.bytes, dedupe_key=key)
