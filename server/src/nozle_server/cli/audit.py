"""`audit`: prove that the books say what happened."""

import sys
from typing import Annotated, NoReturn
from uuid import UUID

import typer

from nozle_server.audit import queries
from nozle_server.audit.model import Checked, Finding, Report
from nozle_server.bootstrap import looking_at_database
from nozle_server.cli.shared import DatabaseOption, DataDirOption, JsonOption, run, say, settings_with
from nozle_server.core import json
from nozle_server.core.clock import SystemClock
from nozle_server.identity.queries import get_organization
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.retention import FACTS_KEPT
from nozle_server.infra.settings import Settings

DIFFERENT, COULD_NOT_LOOK = 1, 2

# Without the variable that other commands read: an audit looks at everything unless it is told otherwise here.
OneOrganization = Annotated[
    UUID | None, typer.Option("--organization", help="Only this one; all, when it is not given.")
]


def audit(
    organization: OneOrganization = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Prove over the whole database, in one snapshot, that the books say what happened. Changes nothing.

    Exits 0 when all is right, 1 with the rows that differ, 2 when it could not look.
    """
    configure_logging("error")
    found: list[Report] = []

    async def look(settings: Settings) -> None:
        async with looking_at_database(settings) as database, database.snapshot() as tx:
            if organization is not None:
                await get_organization(tx, organization)
            found.append(await queries.audit(tx, real_now=SystemClock().now(), org_id=organization))

    try:
        run(look(settings_with(data_dir=data_dir, database_url=database_url)))
    except Exception as error:  # noqa: BLE001 - whatever it was, nobody knows whether the books are right
        _could_not_look(error)
    [report] = found
    say(json.dumps(_report_json(report)).decode() if as_json else "\n".join(_lines(report)))
    if report.findings_count:
        raise typer.Exit(DIFFERENT)


def _could_not_look(error: Exception) -> NoReturn:
    reason = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"nozle-server: could not audit: {reason}\n")
    raise typer.Exit(COULD_NOT_LOOK)


def _lines(report: Report) -> list[str]:
    whom = "all organizations" if report.org_id is None else f"organization {report.org_id}"
    seconds = sum(one.seconds for one in report.checked)
    lines = [
        f"{len(report.checked)} checks over {whom}, {seconds:.1f} s: {report.findings_count} rows differ"
    ]
    for one in report.checked:
        if one.findings_count:
            lines.append(f"{one.check.name}: {one.findings_count}. What must hold: {one.check.guarantee}")
            lines.extend(f"    {_line(finding)}" for finding in one.findings)
            if one.findings_count > len(one.findings):
                lines.append(f"    ... and {one.findings_count - len(one.findings)} more")
    kept_since = report.audited_at - FACTS_KEPT
    lines.append(
        f"Facts are kept for {FACTS_KEPT.days} days: entries and payments made before {kept_since:%Y-%m-%d %H:%M} UTC"
        " were not asked for theirs."
    )
    return lines


def _line(finding: Finding) -> str:
    ids = ", ".join(f"{name} {value}" for name, value in finding.ids.items())
    return f"organization {finding.org_id}, {ids}: expected {finding.expected}, found {finding.found}"


def _report_json(report: Report) -> dict[str, object]:
    return {
        "clean": not report.findings_count,
        "organization_id": report.org_id,
        "audited_at": report.audited_at,
        "facts_kept_since": report.audited_at - FACTS_KEPT,
        "findings_count": report.findings_count,
        "checks": [_checked_json(one) for one in report.checked],
    }


def _checked_json(one: Checked) -> dict[str, object]:
    return {
        "name": one.check.name,
        "guarantee": one.check.guarantee,
        "findings_count": one.findings_count,
        "duration_ms": round(one.seconds * 1000),
        "findings": [
            {
                "organization_id": finding.org_id,
                "ids": finding.ids,
                "expected": finding.expected,
                "found": finding.found,
            }
            for finding in one.findings
        ],
    }
