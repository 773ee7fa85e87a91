"""Turn a test organization's clock (contract Decision 23): what falls due up to then runs, in order, before the answer."""

from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import NotAllowed, RuleBroken
from nozle_server.identity import clock_store
from nozle_server.identity.model import Mode
from nozle_server.identity.operations import lock_organization
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.workflows.drain_due import ORDER, do_item


async def turn_clock(
    database: Database, seams: Seams, *, org_id: UUID, to: datetime, real_now: datetime
) -> datetime:
    """Move the organization's time to `to` and return it.

    The first turn may go anywhere, also back, while the organization has billed nothing; later ones only forward.
    RuleBroken `clock_goes_forward` otherwise, NotAllowed in live mode. A kill in the middle leaves the clock at the
    last thing that was done; the same call again goes on from there.
    """
    await database.run(lambda tx: _check(tx, org_id, to, real_now))
    while (now := await database.run(lambda tx: _go_on(tx, seams, org_id, to))) is None:
        pass
    return now


async def _check(tx: Tx, org_id: UUID, to: datetime, real_now: datetime) -> None:
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
        await clock_store.set_test_clock(tx, org_id, to)


async def _go_on(tx: Tx, seams: Seams, org_id: UUID, to: datetime) -> datetime | None:
    """Do the next item that is due, with the clock at its instant; with none left, arrive and return the time."""
    item = await due.next_due(tx, org_id, to, kinds=ORDER)
    if item is None:
        return await clock_store.advance_test_clock(tx, org_id, to)
    await clock_store.advance_test_clock(tx, org_id, item.due_at)
    await do_item(tx, seams, item)
    await due.finish(tx, item)
    return None
