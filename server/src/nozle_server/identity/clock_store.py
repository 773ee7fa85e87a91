"""All SQL of an organization's test clock."""

from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx


async def hold_test_clock(tx: Tx, org_id: UUID) -> datetime | None:
    """The clock, which cannot be turned until the transaction ends; None while the organization lives on real time."""
    now = await tx.fetchval("select test_now from organizations where id = $1 for share", org_id)
    assert now is None or isinstance(now, datetime)
    return now


async def set_test_clock(tx: Tx, org_id: UUID, to: datetime) -> None:
    """Set the clock to any instant: the caller has checked that it may."""
    await tx.execute("update organizations set test_now = $2 where id = $1", org_id, to)


async def advance_test_clock(tx: Tx, org_id: UUID, to: datetime) -> tuple[datetime, bool]:
    """Move the clock forward to `to`, never back; returns where it stands, and whether it moved."""
    row = await tx.fetchrow(
        """
        with before as (select test_now from organizations where id = $1 for no key update)
        update organizations o set test_now = greatest(o.test_now, $2) from before where o.id = $1
        returning o.test_now as now, before.test_now is distinct from o.test_now as moved
        """,
        org_id,
        to,
    )
    return row["now"], row["moved"]
