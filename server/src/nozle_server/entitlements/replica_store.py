"""Which holds stand behind what replicas may give away."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.entitlements.replica_promises import ReplicaHold
from nozle_server.infra.database import Tx


async def list_holds(tx: Tx, org_id: UUID, customer_id: UUID, replica: str) -> list[ReplicaHold]:
    """A replica's, in order of feature. Hold the customer's row before."""
    rows = await tx.fetch(
        """
        select r.feature, r.hold_id, h.account_id, r.snapshot_id, r.promised, r.reported_id, r.reported
        from replica_holds r
        join credit_holds h on h.org_id = r.org_id and h.id = r.hold_id
        where r.org_id = $1 and r.customer_id = $2 and r.replica_id = $3
        """,
        org_id,
        customer_id,
        replica,
    )
    return sorted((ReplicaHold(**dict(row)) for row in rows), key=lambda one: one.feature)


async def replace_holds(
    tx: Tx, org_id: UUID, customer_id: UUID, replica: str, holds: Sequence[ReplicaHold], real_now: datetime
) -> None:
    """From now on these are the replica's holds, and no others."""
    await tx.execute(
        """
        delete from replica_holds
        where org_id = $1 and customer_id = $2 and replica_id = $3 and feature <> all($4)
        """,
        org_id,
        customer_id,
        replica,
        [one.feature for one in holds],
    )
    await tx.executemany(
        """
        insert into replica_holds
            (org_id, customer_id, replica_id, feature, hold_id, snapshot_id, promised, reported_id, reported,
             renewed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (org_id, customer_id, replica_id, feature) do update
            set hold_id = excluded.hold_id, snapshot_id = excluded.snapshot_id, promised = excluded.promised,
                reported_id = excluded.reported_id, reported = excluded.reported, renewed_at = excluded.renewed_at
        """,
        [
            (
                *(org_id, customer_id, replica, one.feature, one.hold_id),
                *(one.snapshot_id, one.promised, one.reported_id, one.reported, real_now),
            )
            for one in holds
        ],
    )
