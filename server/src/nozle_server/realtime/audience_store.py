"""The SQL of the external broker: who may be listening, which process tells them, and what has to be told anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.realtime import store
from nozle_server.realtime.flips import Told


async def open_until(tx: Tx, org_id: UUID, channels: Sequence[str], until: datetime) -> None:
    """Somebody may be listening in these channels until then."""
    await tx.execute(
        """
        insert into realtime_audiences as a (org_id, channel, until) select $1, channel, $3 from unnest($2::text[]) channel
        on conflict (org_id, channel) do update set until = greatest(a.until, excluded.until)
        """,
        org_id,
        sorted(channels),
        until,
    )


async def read_audiences(tx: Tx, real_now: datetime) -> list[tuple[str, datetime]]:
    """All channels in which somebody may be listening, and until when."""
    rows = await tx.fetch("select channel, until from realtime_audiences where until > $1", real_now)
    return [(row["channel"], row["until"]) for row in rows]


async def take_lease(tx: Tx, name: str, holder: UUID, lasts: timedelta) -> bool:
    """Take or renew the lease, by the database's clock; False while another holds it."""
    taken: UUID | None = await tx.fetchval(
        """
        insert into server_leases as l (name, holder, until) values ($1, $2, now() + $3::interval)
        on conflict (name) do update set holder = excluded.holder, until = excluded.until
            where l.holder = excluded.holder or l.until <= now()
        returning holder
        """,
        name,
        holder,
        lasts,
    )
    return taken is not None


async def give_up_lease(tx: Tx, name: str, holder: UUID) -> None:
    """Let another take it at once."""
    await tx.execute("delete from server_leases where name = $1 and holder = $2", name, holder)


async def doubt_told(tx: Tx, org_id: UUID, channel: str, telling: Mapping[str, Told], look: UUID) -> None:
    """From here on nobody knows whether these were told: the next look finds that they differ, and tells them. Kept and not
    deleted: of a feature that is gone since, nothing else says that it has to be told. The channel is locked."""
    doubted = {feature: replace(one, reason=_doubted_by(look)) for feature, one in telling.items()}
    await store.write_told(tx, org_id, channel, doubted)


async def note_told(tx: Tx, org_id: UUID, channel: str, told: Mapping[str, Told], look: UUID) -> None:
    """These were told, as the look found them; but nothing of those that another look has doubted since."""
    if await store.lock_existing_channel(tx, org_id, channel) is None:
        return  # gone with all that was told there: it will be told again
    await tx.execute(
        """
        update realtime_told t set told = jsonb_set(t.told, '{reason}', to_jsonb(n.reason))
        from unnest($3::text[], $4::text[]) as n (feature, reason)
        where t.org_id = $1 and t.channel = $2 and t.feature = n.feature and t.told ->> 'reason' = $5
        """,
        org_id,
        channel,
        list(told),
        [one.reason for one in told.values()],
        _doubted_by(look),
    )


def _doubted_by(look: UUID) -> str:
    """In place of the reason: no decision has this one, and of another look it is another."""
    return f"doubted by {look}"


async def keys_revoked_since(tx: Tx, since: datetime) -> set[UUID]:
    """API keys of all organizations that were revoked after an instant."""
    rows = await tx.fetch("select id from api_keys where revoked_at > $1", since)
    return {row["id"] for row in rows}
