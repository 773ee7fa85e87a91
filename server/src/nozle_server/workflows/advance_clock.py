"""Move a test organization's clock, and tell everybody: what ends by time alone has ended then."""

from datetime import datetime
from uuid import UUID

from nozle_server.entitlements.news import rights_of_everybody
from nozle_server.identity import clock_store
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams


async def advance_clock(tx: Tx, seams: Seams, org_id: UUID, to: datetime) -> datetime:
    """Move the clock forward to `to`, never back; returns where it stands."""
    now, moved = await clock_store.advance_test_clock(tx, org_id, to)
    if moved:
        await seams.change_bus.publish(tx, rights_of_everybody(org_id))
    return now


async def set_clock(tx: Tx, seams: Seams, org_id: UUID, to: datetime) -> None:
    """Set the clock to any instant: the caller has checked that it may."""
    await clock_store.set_test_clock(tx, org_id, to)
    await seams.change_bus.publish(tx, rights_of_everybody(org_id))
