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


async def advance_test_clock(tx: Tx, org_id: UUID, to: datetime) -> datetime:
    """Move the clock forward to `to`, never back; returns where it stands."""
    now = await tx.fetchval(
        "update organizations set test_now = greatest(test_now, $2) where id = $1 returning test_now",
        org_id,
        to,
    )
    assert isinstance(now, datetime), "the organization exists: its key was just read"
    return now
