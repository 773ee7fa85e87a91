"""What the auditor asks of the database, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold in every row of every organization, and the statement that finds where it does not.

    `name` is stable: it labels metrics. `sql` selects `org_id`, `ids` (jsonb: what to look the row up by), `expected` and
    `found`, a row for each violation; in one pass over its tables, never a query per row. It may use two marks, which
    `store.py` fills in: `$org(t)`, the condition that keeps table `t` to the organization that is audited, and
    `$kept`, the id from which on every fact of the outbox is still there.
    """

    name: str
    guarantee: str
    sql: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that differs: which, what it should say, and what it says. `org_id` None: the row names no organization."""

    org_id: UUID | None
    ids: Mapping[str, Any]
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one check: how many rows differ, and the first of them."""

    check: Check
    findings_count: int
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All checks over one snapshot of the database; `org_id` None: over all organizations."""

    org_id: UUID | None
    audited_at: datetime
    checked: tuple[Checked, ...]

    @property
    def findings_count(self) -> int:
        return sum(one.findings_count for one in self.checked)


@dataclass(frozen=True, slots=True)
class LastResult:
    """What the last scheduled run said of one check."""

    check_name: str
    findings_count: int
    audited_at: datetime
