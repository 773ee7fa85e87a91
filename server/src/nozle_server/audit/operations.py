"""The scheduled audit: its result is kept for every process's metrics, and said in the log where something differs."""

from datetime import datetime

import structlog

from nozle_server.audit import store
from nozle_server.audit.model import Report
from nozle_server.audit.queries import audit
from nozle_server.infra.database import Database

log = structlog.get_logger()


async def audit_and_record(database: Database, real_now: datetime) -> Report:
    """Audit all organizations in one snapshot, and keep how many rows each check found to differ."""
    async with database.snapshot() as tx:
        report = await audit(tx, real_now=real_now)
    async with database.transaction() as tx:
        results = [(one.check.name, one.findings_count) for one in report.checked]
        await store.replace_results(tx, results, real_now)
    for one in report.checked:
        if one.findings_count:
            first = one.findings[0]
            log.error(
                "audit_found_differences",
                check=one.check.name,
                guarantee=one.check.guarantee,
                findings=one.findings_count,
                organization_id=str(first.org_id),
                ids=dict(first.ids),
                expected=first.expected,
                found=first.found,
            )
    log.info("audit_done", checks=len(report.checked), findings=report.findings_count)
    return report
