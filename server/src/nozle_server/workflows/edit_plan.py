"""Make and change plans where it takes more than the catalog: their taxes must exist, and subscribers may come along."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from nozle_server.catalog.drafts import PlanChange, PlanDraft, all_tax_codes
from nozle_server.catalog.model import Plan
from nozle_server.catalog.operations import plans as plan_operations
from nozle_server.infra.database import Tx
from nozle_server.taxes.queries import require_taxes
from nozle_server.workflows.migrate_version import cascade as migrate_everybody
from nozle_server.workflows.migrate_version import hold_subscribers


async def create_plan(tx: Tx, *, org_id: UUID, draft: PlanDraft, now: datetime) -> Plan:
    """A new plan; NotFound `tax_not_found` when it or a part of it names a tax that does not exist."""
    await require_taxes(tx, org_id, sorted(all_tax_codes(draft)))
    return await plan_operations.create_plan(tx, org_id=org_id, draft=draft, now=now)


async def edit_plan(
    tx: Tx, *, org_id: UUID, code: str, edit: Callable[[Plan], PlanChange], cascade: bool, now: datetime
) -> Plan:
    """Change a plan by what `edit` makes of it; other prices make its next version, for those who subscribe from now on.

    With `cascade` those who have subscribed move to it too, each when its billing period ends.
    """
    changes: list[PlanChange] = []

    def edited(plan: Plan) -> PlanChange:
        changes.append(edit(plan))
        return changes[-1]

    if cascade:
        await hold_subscribers(tx, org_id=org_id, code=code)
    plan = await plan_operations.edit_plan(tx, org_id=org_id, code=code, edit=edited, now=now)
    await require_taxes(tx, org_id, sorted(all_tax_codes(changes[-1])))
    if cascade:
        await migrate_everybody(tx, plan, now)
    return plan
