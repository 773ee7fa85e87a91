"""The SQL of the external broker: who may be listening, which process tells them, and what has to be told anew."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.infra.database import Tx


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


async def forget_told(tx: Tx, org_id: UUID, channel: str, features: Sequence[str]) -> None:
    """From here on nobody knows whether these were told: the next look tells them."""
    await tx.execute(
        "delete from realtime_told where org_id = $1 and channel = $2 and feature = any($3)",
        org_id,
        channel,
        list(features),
    )


async def keys_revoked_since(tx: Tx, since: datetime) -> set[UUID]:
    """API keys of all organizations that were revoked after an instant."""
    rows = await tx.fetch("select id from api_keys where revoked_at > $1", since)
    return {row["id"] for row in rows}
