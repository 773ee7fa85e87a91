"""Audit: every check, over one snapshot. Only looks; what it found is put right by people, never by it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.audit import (
    credit_notes,
    entities,
    events,
    facts,
    holds,
    invoices,
    keys,
    ledger,
    payments,
    store,
    tenants,
    usage_operations,
    wallets,
)
from nozle_server.audit.model import Check, LastResult, Report
from nozle_server.infra.database import Tx
from nozle_server.infra.retention import FACTS_KEPT

LIMIT = 20
"""Findings told of each check; how many there are is told besides."""

CHECKS: tuple[Check, ...] = (
    *ledger.CHECKS,
    *holds.CHECKS,
    *facts.CHECKS,
    *keys.CHECKS,
    *wallets.CHECKS,
    *events.CHECKS,
    *invoices.CHECKS,
    *payments.CHECKS,
    *credit_notes.CHECKS,
    *entities.CHECKS,
    *usage_operations.CHECKS,
)


async def audit(tx: Tx, *, real_now: datetime, org_id: UUID | None = None, limit: int = LIMIT) -> Report:
    """Prove the books of one organization, or all, as `tx` sees them: give it a snapshot (`Database.snapshot`)."""
    await store.prepare(tx)
    kept_from = store.kept_from(real_now, FACTS_KEPT)
    checks = (*CHECKS, tenants.check_of([*await store.list_references(tx), *tenants.UNDECLARED]))
    checked = [
        await store.run(tx, check, org_id=org_id, kept_from=kept_from, limit=limit) for check in checks
    ]
    return Report(org_id, real_now, tuple(checked))


async def last_results(tx: Tx) -> Sequence[LastResult]:
    """What the last scheduled run said of each check; nothing before the first."""
    return await store.list_results(tx)
