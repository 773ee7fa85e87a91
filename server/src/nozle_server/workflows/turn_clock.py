"""Turn a test organization's clock (contract Decision 23): what falls due up to then runs, in order, before the answer."""

from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import NotAllowed, RuleBroken
from nozle_server.identity.model import Mode
from nozle_server.identity.operations import lock_organization
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.wallets.operations.invoices import schedule_thresholds
from nozle_server.workflows.advance_clock import advance_clock, set_clock
from nozle_server.workflows.drain_due import ORDER, drain_due


async def turn_clock(
    database: Database, seams: Seams, *, org_id: UUID, to: datetime, real_now: datetime
) -> datetime:
    """Move the organization's time to `to` and return it.

    The first turn may go anywhere, also back, while the organization has billed nothing; later ones only forward.
    RuleBroken `clock_goes_forward` otherwise, NotAllowed in live mode. A kill in the middle leaves the clock at the
    last thing that was done; the same call again goes on from there.
    """
    arrived = await database.run(lambda tx: _set_out(tx, seams, org_id, to, real_now))
    if arrived is not None:
        return arrived
    await drain_due(database, seams, org_id=org_id, until=to, turn_clock=True)
    return await database.run(lambda tx: advance_clock(tx, seams, org_id, to))


async def _set_out(tx: Tx, seams: Seams, org_id: UUID, to: datetime, real_now: datetime) -> datetime | None:
    """Check the turn; where nothing is due on the way it is done at once, and the new time returned."""
    organization = await lock_organization(tx, org_id)
    if organization.mode is not Mode.TEST:
        raise NotAllowed("only an organization in test mode has a clock", code="live_mode")
    if organization.test_now is not None:
        if to < organization.test_now:
            raise RuleBroken("the clock only goes forward", code="clock_goes_forward")
    elif to < real_now:
        if await invoicing_store.any_invoice(tx, org_id):
            raise RuleBroken("the clock cannot go back once something was billed", code="clock_goes_forward")
        # Time stands still from here on, before anything is made that would lie in this organization's future.
        await set_clock(tx, seams, org_id, to)
    else:
        # From real time on, so that what was overdue does not set the clock behind it.
        await set_clock(tx, seams, org_id, real_now)
    # Usage that came while time stood still may have taken wallets to their thresholds.
    await schedule_thresholds(tx, org_id, organization.test_now or min(to, real_now))
    if await due.anything_due(tx, org_id, to, kinds=ORDER):
        return None
    return await advance_clock(tx, seams, org_id, to)
