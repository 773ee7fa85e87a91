"""Have something looked at after it has changed: soon, once however often it changes before that, and never too early.

Who changes a thing says so with `touch`, in the same transaction; for what nobody watches that is one look-up. The first
to touch it schedules a due item. Who looks begins with `begin`, which waits for the changes under way: what they change
is either seen, or, when they come later, looked at again.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.infra import due
from nozle_server.infra.change_bus import Publication
from nozle_server.infra.database import Tx


async def watch(tx: Tx, org_id: UUID, kind: str, key: str) -> None:
    """Have `kind` look at `key` whenever it was touched."""
    await tx.execute(
        """insert into watches (org_id, kind, key, id) values ($1, $2, $3, $4)
           on conflict (org_id, kind, key) do nothing""",
        org_id,
        kind,
        key,
        new_id(),
    )


async def touch(
    tx: Tx,
    org_id: UUID,
    changed: Sequence[tuple[str, str]],
    now: datetime,
    *,
    news: Publication | None = None,
    origin: UUID | None = None,
) -> None:
    """Something of these (kind, key) changed; the looks happen at `now`, the organization's time. `news` of it that the bus
    was promised, and its `origin`, are written by the same statement: every event comes by here."""
    if not changed and news is None:
        return
    # Locked in one order, so that two that touch the same things wait for each other instead of dead-locking.
    rows = await tx.fetch(
        """
        with found as (
            select w.kind, w.id, w.pending from watches w
            join (select distinct * from unnest($2::text[], $3::text[])) c (kind, key)
              on w.kind = c.kind and w.key = c.key
            where w.org_id = $1 order by w.id for update of w
        ), marked as (
            update watches w set pending = true from found
            where w.org_id = $1 and w.id = found.id and not found.pending
        ), told as (
            insert into outbox (org_id, id, kind, subject, payload, origin, created_at)
            select $1, $4::uuid, $5, $6, $7::jsonb, $8::uuid, now() where $4::uuid is not null
        )
        select kind, id from found where not pending
        """,
        org_id,
        [kind for kind, _ in changed],
        [key for _, key in changed],
        *((news.id, news.change.kind, news.change.subject, news.change.payload) if news else (None,) * 4),
        origin,
    )
    for row in rows:
        await due.schedule(tx, org_id=org_id, kind=row["kind"], subject_id=row["id"], due_at=now, now=now)


async def key_of(tx: Tx, org_id: UUID, watch_id: UUID) -> str | None:
    """What a watch is on, for who has to hold something else before it begins; None when nobody watches it any more."""
    key: str | None = await tx.fetchval(
        "select key from watches where org_id = $1 and id = $2", org_id, watch_id
    )
    return key


async def begin(tx: Tx, org_id: UUID, watch_id: UUID) -> str | None:
    """Begin to look: the key, None when nobody watches it any more. What is touched from here on is looked at again."""
    key: str | None = await tx.fetchval(
        "update watches set pending = false where org_id = $1 and id = $2 returning key", org_id, watch_id
    )
    return key


async def unwatch(tx: Tx, org_id: UUID, kind: str, key: str) -> None:
    """Nobody wants it looked at any more."""
    await tx.execute("delete from watches where org_id = $1 and kind = $2 and key = $3", org_id, kind, key)
