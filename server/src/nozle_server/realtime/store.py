"""All SQL of realtime: the secret, channels with their histories, and what was told of each customer."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.realtime.flips import Told
from nozle_server.realtime.model import Position, Publication

KEPT = 128
"""Publications of a channel that a client may have missed and still recovers."""
MAX_FEATURES = 500
"""Of one customer."""


async def signing_secret(tx: Tx, name: str) -> bytes:
    """The secret of that name, made now if there is none; the same for every process of the database."""
    await tx.execute(
        "insert into server_secrets (name, secret, created_at) values ($1, $2, now()) on conflict (name) do nothing",
        name,
        secrets.token_bytes(32),
    )
    secret: bytes = await tx.fetchval("select secret from server_secrets where name = $1", name)
    return secret


async def dead_keys(tx: Tx, keys: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, UUID]]:
    """Which of these API keys (organization, id) have been revoked, or are there no more."""
    rows = await tx.fetch(
        """
        select asked.org_id, asked.id from unnest($1::uuid[], $2::uuid[]) as asked (org_id, id)
        where not exists (
            select from api_keys k where k.org_id = asked.org_id and k.id = asked.id and k.revoked_at is null)
        """,
        [org_id for org_id, _ in keys],
        [key_id for _, key_id in keys],
    )
    return [(row["org_id"], row["id"]) for row in rows]


async def lock_channel(tx: Tx, org_id: UUID, name: str) -> tuple[Position, bool]:
    """Where the channel stands, and whether it was made just now; held until the transaction ends: who publishes takes
    turns."""
    row = await tx.fetchrow(
        """
        insert into realtime_channels as c (org_id, name, epoch, touched_at)
        values ($1, $2, $3, now())
        on conflict (org_id, name) do update set touched_at = now()
        returning epoch, last_position, xmax = 0 as made
        """,
        org_id,
        name,
        secrets.token_hex(4),
    )
    return Position(row["epoch"], row["last_position"]), row["made"]


async def lock_existing_channel(tx: Tx, org_id: UUID, name: str) -> Position | None:
    """As `lock_channel`, but None where nobody has ever joined it."""
    row = await tx.fetchrow(
        "select epoch, last_position from realtime_channels where org_id = $1 and name = $2 for update",
        org_id,
        name,
    )
    return Position(row["epoch"], row["last_position"]) if row else None


async def append(tx: Tx, org_id: UUID, name: str, position: Position, data: Sequence[bytes]) -> Position:
    """Publications after `position`, at which the locked channel stands; where it stands then."""
    last = position.offset + len(data)
    await tx.execute(
        """
        with added as (
            insert into realtime_publications (org_id, channel, position, data)
            select $1, $2, $3::bigint + n, d from unnest($4::bytea[]) with ordinality as t (d, n)
        ), dropped as (
            delete from realtime_publications where org_id = $1 and channel = $2 and position <= $5::bigint - $6::int
        )
        update realtime_channels set last_position = $5 where org_id = $1 and name = $2
        """,
        org_id,
        name,
        position.offset,
        list(data),
        last,
        KEPT,
    )
    return Position(position.epoch, last)


async def new_epoch(tx: Tx, org_id: UUID, name: str) -> Position:
    """Forget the history of the channel: whoever was in it fetches anew."""
    await tx.execute("delete from realtime_publications where org_id = $1 and channel = $2", org_id, name)
    row = await tx.fetchrow(
        """update realtime_channels set epoch = $3, last_position = 0, touched_at = now()
           where org_id = $1 and name = $2 returning epoch""",
        org_id,
        name,
        secrets.token_hex(4),
    )
    return Position(row["epoch"], 0)


async def read_since(
    tx: Tx, org_id: UUID, name: str, after: Position
) -> tuple[Position, list[Publication] | None] | None:
    """Where the channel stands and what was published after a position, None when that is not known any more (another
    epoch, or longer ago than is kept); None at all when there is no such channel. One moment's truth."""
    rows = await tx.fetch(
        """
        select c.epoch, c.last_position, p.position, p.data from realtime_channels c
        left join realtime_publications p
            on p.org_id = c.org_id and p.channel = c.name and p.position > $3 and c.epoch = $4
        where c.org_id = $1 and c.name = $2 order by p.position
        """,
        org_id,
        name,
        after.offset,
        after.epoch,
    )
    if not rows:
        return None
    now = Position(rows[0]["epoch"], rows[0]["last_position"])
    found = [Publication(row["position"], row["data"]) for row in rows if row["position"] is not None]
    known = now.epoch == after.epoch and len(found) == now.offset - after.offset
    return now, found if known else None


@dataclass(frozen=True, slots=True)
class Overview:
    """A customer as it is now: its features' and metrics' codes, and the plan it has.

    `id` None: there is no such customer. The organization's time stands still when `test_now` is given.
    """

    id: UUID | None
    codes: tuple[str, ...]
    plan: str | None
    subscription_status: str | None
    test_now: datetime | None


async def overview(tx: Tx, org_id: UUID, customer: str) -> Overview:
    row = await tx.fetchrow(
        """
        with c as (
            select id from customers where org_id = $1 and external_id = $2 and deleted_at is null
        ), s as (
            select s.* from subscriptions s join c on s.customer_id = c.id where s.org_id = $1
        ), latest as (
            select p.code, s.status from s join plans p on p.org_id = $1 and p.id = s.plan_id
            order by s.status = 'active' desc, s.started_at desc, s.id desc limit 1
        )
        select (select id from c) as id, o.test_now,
            (select code from latest) as plan, (select status from latest) as subscription_status,
            array(
                select f.code from features f where f.org_id = $1 and f.deleted_at is null and f.id in (
                    select e.feature_id from plan_entitlements e where e.org_id = $1 and e.plan_id in (select plan_id from s)
                    union select o.feature_id from subscription_entitlements o
                    where o.org_id = $1 and o.subscription_id in (select id from s))
                union
                select m.code from billable_metrics m where m.org_id = $1 and m.deleted_at is null and m.id::text in (
                    select charge ->> 'metric_id' from plan_versions v, jsonb_array_elements(v.charges) charge
                    where v.org_id = $1 and v.id in (select plan_version_id from s))
                limit $3
            ) as codes
        from organizations o where o.id = $1
        """,
        org_id,
        customer,
        MAX_FEATURES,
    )
    return Overview(
        row["id"],
        tuple(row["codes"]),
        row["plan"],
        row["subscription_status"],
        row["test_now"],
    )


async def read_told(tx: Tx, org_id: UUID, channel: str) -> dict[str, Told]:
    """What was last told of the features of the customer whose channel it is."""
    rows = await tx.fetch(
        "select feature, told, told_at from realtime_told where org_id = $1 and channel = $2 limit $3",
        org_id,
        channel,
        MAX_FEATURES,
    )
    return {row["feature"]: _told_from(row["told"], row["told_at"]) for row in rows}


async def write_told(tx: Tx, org_id: UUID, channel: str, told: dict[str, Told]) -> None:
    await tx.executemany(
        """
        insert into realtime_told (org_id, channel, feature, told, told_at) values ($1, $2, $3, $4, $5)
        on conflict (org_id, channel, feature) do update set told = excluded.told, told_at = excluded.told_at
        """,
        [
            (
                org_id,
                channel,
                feature,
                {
                    "allowed": one.allowed,
                    "reason": one.reason,
                    "used": one.used,
                    "limit": one.limit,
                    "remaining": one.remaining,
                },
                one.told_at,
            )
            for feature, one in told.items()
        ],
    )


def _told_from(row: dict[str, Any], told_at: datetime) -> Told:
    return Told(
        row["allowed"],
        row["reason"],
        Decimal(row["used"]),
        _decimal(row["limit"]),
        _decimal(row["remaining"]),
        told_at,
    )


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


async def subscribers(tx: Tx, org_id: UUID, after: str, limit: int) -> list[str]:
    """The merchant's ids of customers with a subscription that runs, the first `limit` that follow `after`."""
    rows = await tx.fetch(
        """
        select c.external_id from customers c
        where c.org_id = $1 and c.external_id > $2 and c.deleted_at is null and exists (
            select from subscriptions s where s.org_id = $1 and s.customer_id = c.id and s.status = 'active')
        order by c.external_id limit $3
        """,
        org_id,
        after,
        limit,
    )
    return [row["external_id"] for row in rows]


async def coming_instants(
    tx: Tx, org_id: UUID, after: datetime, until: datetime
) -> list[tuple[str, datetime]]:
    """Whom time alone may change between two instants, and when first; nobody where time stands still."""
    rows = await tx.fetch(
        """
        select c.external_id, min(i) as at
        from subscriptions s
        cross join lateral unnest(array[s.started_at, s.ending_at, s.current_period_end, s.trial_ends_at]) i
        join customers c on c.org_id = s.org_id and c.id = s.customer_id
        join organizations o on o.id = s.org_id and o.test_now is null
        where s.org_id = $1 and s.status in ('active', 'pending') and i > $2 and i <= $3
        group by c.external_id
        """,
        org_id,
        after,
        until,
    )
    return [(row["external_id"], row["at"]) for row in rows]
