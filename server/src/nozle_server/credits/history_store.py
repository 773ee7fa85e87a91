"""The ledger as it is looked at: pages of entries, and statements."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from nozle_server.credits.model import Draw, Entry, EntryType
from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are asked for; None: of all. `entity` is the merchant's id, of every incarnation."""

    type: EntryType | None = None
    feature: str | None = None
    entity: str | None = None
    hold_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry, the merchant's id of its entity, and which grants it filled (positive) or drew on."""

    entry: Entry
    entity: str | None
    draws: tuple[Draw, ...] = ()


@dataclass(frozen=True, slots=True)
class Movement:
    """What moved under one name: the signed sum, and how many entries it was."""

    name: str | None
    amount: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A period of an account: `opening` plus all movements `by_type` is `closing`.

    `by_feature` and `by_entity` say what of it was used (deducted, less what was given back), `by_source` which grants
    all of it filled and drew on.
    """

    opening: Decimal
    closing: Decimal
    by_type: list[Movement] = field(default_factory=list)
    by_feature: list[Movement] = field(default_factory=list)
    by_entity: list[Movement] = field(default_factory=list)
    by_source: list[Movement] = field(default_factory=list)


async def list_entries(
    tx: Tx, org_id: UUID, account_id: UUID, wanted: EntryFilter, *, before: int | None, limit: int
) -> list[ShownEntry]:
    """Newest first; `before` is the sequence of the last entry already seen."""
    rows = await tx.fetch(
        """
        select e.id, e.sequence, e.type, e.amount, e.balance_after, e.feature, e.description, e.entity_id, e.occurred_at,
            e.hold_id, e.refunds_id, n.external_id as entity
        from ledger_entries e left join entities n on n.org_id = e.org_id and n.id = e.entity_id
        where e.org_id = $1 and e.account_id = $2 and ($3::bigint is null or e.sequence < $3)
            and ($5::text is null or e.type = $5) and ($6::text is null or e.feature = $6)
            and ($7::text is null or n.external_id = $7) and ($8::uuid is null or e.hold_id = $8)
            and ($9::timestamptz is null or e.occurred_at >= $9) and ($10::timestamptz is null or e.occurred_at < $10)
        order by e.sequence desc limit $4
        """,
        org_id,
        account_id,
        before,
        limit,
        wanted.type,
        wanted.feature,
        wanted.entity,
        wanted.hold_id,
        wanted.start,
        wanted.end,
    )
    return [_shown(row) for row in rows]


async def with_draws(tx: Tx, org_id: UUID, entries: Sequence[ShownEntry]) -> list[ShownEntry]:
    """The same entries with what they filled and drew on."""
    rows = await tx.fetch(
        """select entry_id, grant_id, amount from ledger_allocations
           where org_id = $1 and entry_id = any($2) order by entry_id, grant_id""",
        org_id,
        [one.entry.id for one in entries],
    )
    draws: dict[UUID, list[Draw]] = {}
    for row in rows:
        draws.setdefault(row["entry_id"], []).append(Draw(row["grant_id"], row["amount"]))
    return [replace(one, draws=tuple(draws.get(one.entry.id, ()))) for one in entries]


async def read_statement(
    tx: Tx, org_id: UUID, account_id: UUID, start: datetime | None, end: datetime | None
) -> Statement:
    """As `Statement`; in a snapshot, so that its parts agree."""
    row = await tx.fetchrow(
        """
        select coalesce(sum(amount) filter (where occurred_at < $3), 0) as opening,
            coalesce(sum(amount) filter (where $4::timestamptz is null or occurred_at < $4), 0) as closing
        from ledger_entries where org_id = $1 and account_id = $2
        """,
        org_id,
        account_id,
        start,
        end,
    )
    assert row is not None, "an aggregate has a row"

    async def grouped(
        name: str, tables: str = "", amount: str = "e.amount", only: str = "true"
    ) -> list[Movement]:
        rows = await tx.fetch(
            f"""
            select {name} as name, sum({amount}) as amount, count(distinct e.id) as entries
            from ledger_entries e {tables}
            where e.org_id = $1 and e.account_id = $2 and ($3::timestamptz is null or e.occurred_at >= $3)
                and ($4::timestamptz is null or e.occurred_at < $4) and {only}
            group by 1 order by 1
            """,
            org_id,
            account_id,
            start,
            end,
        )
        return [Movement(**one) for one in rows]

    used = "e.type in ('deduct', 'refund')"
    return Statement(
        row["opening"],
        row["closing"],
        by_type=await grouped("e.type"),
        by_feature=await grouped("e.feature", only=used),
        by_entity=await grouped(
            "n.external_id",
            "left join entities n on n.org_id = e.org_id and n.id = e.entity_id",
            only=used,
        ),
        by_source=await grouped(
            "g.source",
            """join ledger_allocations l on l.org_id = e.org_id and l.entry_id = e.id
               join credit_grants g on g.org_id = l.org_id and g.id = l.grant_id""",
            "l.amount",
        ),
    )


def _shown(row: asyncpg.Record) -> ShownEntry:
    values = dict(row)
    entity = values.pop("entity")
    return ShownEntry(Entry(**{**values, "type": EntryType(values["type"])}), entity)
