"""The auditor's SQL beside that of its checks: how a check runs, which references there are, what the last run said."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

from nozle_server.audit.model import Check, Checked, Finding, LastResult
from nozle_server.audit.tenants import Reference
from nozle_server.core import json
from nozle_server.infra.database import Tx

TIMEOUT_S = 3600.0
"""For one check: a request's thirty seconds are not for reading everything there is."""

_MARK = re.compile(r"\$(?:org\((\w+)\)|kept)")


async def prepare(tx: Tx) -> None:
    """Give this transaction the time and memory to read everything, and plans for an average organization; it forgets all
    that when it ends.

    A plan made for one organization takes it for a row or two if it has come since PostgreSQL last counted, and looks through
    all that it has once for each of its rows.
    """
    await tx.execute(
        f"""set local statement_timeout = '{TIMEOUT_S:.0f}s'; set local work_mem = '64MB';
            set local plan_cache_mode = 'force_generic_plan'"""
    )


async def run(tx: Tx, check: Check, *, org_id: UUID | None, kept_from: UUID, limit: int) -> Checked:
    """Run one check over one organization, or all; at most `limit` of its findings, and how many there are."""
    values: list[UUID] = []

    def fill(mark: re.Match[str]) -> str:
        if mark[1] is None:
            return _parameter(values, kept_from)
        # Without an organization there is no condition at all, instead of one that a generic plan could not see through.
        return "true" if org_id is None else f"{mark[1]}.org_id = {_parameter(values, org_id)}"

    sql = _MARK.sub(fill, check.sql)
    begun = monotonic()
    rows = await tx.fetch(
        f"""select org_id, ids::text, expected, found, count(*) over () as total from ({sql}
        ) finding order by finding.org_id, finding.ids limit {limit}""",
        *values,
        timeout=TIMEOUT_S + 5,
    )
    findings = tuple(
        Finding(row["org_id"], json.loads(row["ids"]), row["expected"], row["found"]) for row in rows
    )
    return Checked(check, rows[0]["total"] if rows else 0, findings, monotonic() - begun)


def _parameter(values: list[UUID], value: UUID) -> str:
    if value not in values:
        values.append(value)
    return f"${values.index(value) + 1}::uuid"


async def list_references(tx: Tx) -> list[Reference]:
    """What the foreign keys between our tables say, one a column. Partitions are read through their parents."""
    rows = await tx.fetch(
        """
        select c.conrelid::regclass::text as table, a.attname as column, c.confrelid::regclass::text as target,
            t.attname as target_column
        from pg_constraint c
        cross join lateral unnest(c.conkey, c.confkey) with ordinality as k (source, target, place)
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.source
        join pg_attribute t on t.attrelid = c.confrelid and t.attnum = k.target
        where c.contype = 'f' and c.connamespace = current_schema()::regnamespace and c.conparentid = 0
            and k.place = cardinality(c.conkey)
        order by 1, 2, 3
        """
    )
    return [Reference(row["table"], row["column"], row["target"], row["target_column"]) for row in rows]


async def replace_results(tx: Tx, results: Sequence[tuple[str, int]], audited_at: datetime) -> None:
    """Keep what the last run over all organizations found, check by check, instead of the run before."""
    await tx.execute("delete from audit_results")
    await tx.executemany(
        "insert into audit_results (check_name, findings_count, audited_at) values ($1, $2, $3)",
        [(name, count, audited_at) for name, count in results],
    )


async def list_results(tx: Tx) -> list[LastResult]:
    rows = await tx.fetch(
        "select check_name, findings_count, audited_at from audit_results order by check_name"
    )
    return [LastResult(**row) for row in rows]


def first_id_of(instant: datetime) -> UUID:
    """The lowest id (`core/ids.py`) that could have been made at `instant`."""
    return UUID(int=int(instant.timestamp() * 1000) << 80)


def kept_from(now: datetime, kept: timedelta) -> UUID:
    """The id from which on everything is younger than `kept`, an hour of differing clocks taken off."""
    return first_id_of(now - kept + timedelta(hours=1))
