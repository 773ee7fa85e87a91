"""Do what has fallen due for an organization, in order, each item in a transaction of its own at its own instant."""

from datetime import datetime
from uuid import UUID

from nozle_server.credits.operations import EXPIRE_GRANT, expire_grant
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.due import DueItem
from nozle_server.infra.seams import Seams
from nozle_server.workflows.close_period import close_period
from nozle_server.workflows.subscribe import PERIOD_END

# Of what falls due at one instant: the old period's credits end before the new period grants its own.
ORDER = (EXPIRE_GRANT, PERIOD_END)


async def drain_due(database: Database, seams: Seams, *, org_id: UUID, until: datetime) -> int:
    """Run everything due at or before `until`; returns how many items were done.

    A kill in the middle loses nothing: an item and its effect commit together, and the rest is still there.
    """
    done = 0
    while await database.run(lambda tx: _do_next(tx, seams, org_id, until)):
        done += 1
    return done


async def _do_next(tx: Tx, seams: Seams, org_id: UUID, until: datetime) -> bool:
    item = await due.next_due(tx, org_id, until, kinds=ORDER)
    if item is None:
        return False
    await do_item(tx, seams, item)
    await due.finish(tx, item)
    return True


async def do_item(tx: Tx, seams: Seams, item: DueItem) -> None:
    """The effect of one item, at its instant."""
    match item.kind:
        case due_kind if due_kind == EXPIRE_GRANT:
            await expire_grant(
                tx, seams.change_bus, org_id=item.org_id, grant_id=item.subject_id, now=item.due_at
            )
        case due_kind if due_kind == PERIOD_END:
            await close_period(
                tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at
            )
        case _:
            raise AssertionError(f"nothing schedules {item.kind}")
