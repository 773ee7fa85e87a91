"""Grants as they are looked at, and SQL of what undoes: what can still be given back of a deduction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.credits.model import Entry, EntryType, Grant, GrantSource
from nozle_server.infra.database import Tx

_GRANT = """g.id, g.amount, g.remaining, g.priority, g.source, g.reference, g.description, g.expires_at, g.created_at,
    g.entity_id, g.parent_id"""


@dataclass(frozen=True, slots=True)
class ShownGrant:
    """A grant, and the merchant's id of the entity whose it is (None: the customer's)."""

    grant: Grant
    entity: str | None


async def list_page(
    tx: Tx,
    org_id: UUID,
    account_id: UUID,
    now: datetime,
    *,
    live: bool,
    entity: str | None,
    before: UUID | None,
    limit: int,
) -> list[ShownGrant]:
    """An account's grants as they are at `now`, newest first: all of them, or those that can be spent; of an entity with
    this external id, where one is named. A hold whose time is over has given back what it held, and a grant whose time is
    over has nothing left, whether that is written yet or not."""
    # Written so that the index of live grants finds those few of them among all that were ever spent.
    only_live = """g.id in (select id from credit_grants where org_id = $1 and account_id = $2 and remaining > 0
        union select grant_id from put_back) and (g.expires_at is null or g.expires_at > $5)"""
    rows = await tx.fetch(
        f"""
        with put_back as materialized (
            select d.grant_id, sum(d.drawn) as amount
            from credit_holds h cross join lateral unnest(h.grant_ids, h.drawn) as d (grant_id, drawn)
            where h.org_id = $1 and h.account_id = $2 and h.status = 'open' and h.expires_at <= $5 group by 1
        )
        select {_GRANT}, e.external_id as entity, case when g.expires_at <= $5 then 0
                else g.remaining + coalesce((select amount from put_back where grant_id = g.id), 0) end as left_now
        from credit_grants g left join entities e on e.org_id = g.org_id and e.id = g.entity_id
        where g.org_id = $1 and g.account_id = $2 and ($3::text is null or e.external_id = $3)
            and ($4::uuid is null or g.id < $4) and {only_live if live else "true"}
        order by g.id desc limit $6
        """,
        org_id,
        account_id,
        entity,
        before,
        now,
        limit,
    )
    found = []
    for row in rows:
        values = dict(row)
        name, values["remaining"] = values.pop("entity"), values.pop("left_now")
        found.append(ShownGrant(Grant(**{**values, "source": GrantSource(values["source"])}), name))
    return found


async def list_by_id(tx: Tx, org_id: UUID, grant_ids: Iterable[UUID]) -> list[Grant]:
    """These grants, spent or not."""
    rows = await tx.fetch(
        f"select {_GRANT} from credit_grants g where g.org_id = $1 and g.id = any($2)",
        org_id,
        list(grant_ids),
    )
    return [Grant(**{**dict(row), "source": GrantSource(row["source"])}) for row in rows]


async def find_account_of(tx: Tx, org_id: UUID, customer_id: UUID, grant_id: UUID) -> UUID | None:
    """The account of credits that a grant of the customer's belongs to."""
    found: UUID | None = await tx.fetchval(
        """
        select a.id from credit_grants g
        join credit_accounts a on a.org_id = g.org_id and a.id = g.account_id and a.kind = 'credits'
        where g.org_id = $1 and g.id = $3 and a.customer_id = $2
        """,
        org_id,
        customer_id,
        grant_id,
    )
    return found


async def find_entry(tx: Tx, org_id: UUID, customer_id: UUID, entry_id: UUID) -> tuple[UUID, Entry] | None:
    """An entry of the customer's credits, and its account."""
    row = await tx.fetchrow(
        """
        select e.account_id, e.id, e.sequence, e.type, e.amount, e.balance_after, e.feature, e.description, e.entity_id,
            e.occurred_at, e.hold_id, e.refunds_id
        from ledger_entries e
        join credit_accounts a on a.org_id = e.org_id and a.id = e.account_id and a.kind = 'credits'
        where e.org_id = $1 and e.id = $3 and a.customer_id = $2
        """,
        org_id,
        customer_id,
        entry_id,
    )
    if row is None:
        return None
    values = dict(row)
    account_id = values.pop("account_id")
    return account_id, Entry(**{**values, "type": EntryType(values["type"])})


async def list_refundable(tx: Tx, org_id: UUID, entry_id: UUID) -> Sequence[tuple[UUID, Decimal]]:
    """What a deduction took of each grant, less what refunds gave back to it."""
    rows = await tx.fetch(
        """
        select l.grant_id, -l.amount - coalesce((
            select sum(given.amount) from ledger_entries r
            join ledger_allocations given on given.org_id = r.org_id and given.entry_id = r.id
            where r.org_id = l.org_id and r.refunds_id = l.entry_id and given.grant_id = l.grant_id), 0) as refundable
        from ledger_allocations l where l.org_id = $1 and l.entry_id = $2
        """,
        org_id,
        entry_id,
    )
    return [(row["grant_id"], row["refundable"]) for row in rows]
