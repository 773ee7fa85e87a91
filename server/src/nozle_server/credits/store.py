"""All SQL of credits, and rows <-> values. Every writer holds the account's row lock.

What is looked up by customer and credit system is an account of credits; a wallet names its account by id.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

import asyncpg

from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import Account, AccountKind, Draw, Entry, EntryType, Grant, GrantSource
from nozle_server.infra.database import Tx

_ACCOUNT = """org_id, id, customer_id, kind, credit_system, balance, granted, consumed, expired, voided,
    last_sequence"""
_GRANT = "id, amount, remaining, priority, source, reference, description, expires_at, created_at"
_ENTRY = "id, sequence, type, amount, balance_after, feature, description, entity_id, occurred_at"


def account_from_row(row: asyncpg.Record) -> Account:
    return Account(**{**dict(row), "kind": AccountKind(row["kind"])})


def grant_from_row(row: asyncpg.Record) -> Grant:
    return Grant(**{**dict(row), "source": GrantSource(row["source"])})


def entry_from_row(row: asyncpg.Record) -> Entry:
    return Entry(**{**dict(row), "type": EntryType(row["type"])})


async def find_account(tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str) -> Account | None:
    row = await tx.fetchrow(
        f"""select {_ACCOUNT} from credit_accounts
            where org_id = $1 and customer_id = $2 and credit_system = $3 and kind = 'credits'""",
        org_id,
        customer_id,
        credit_system,
    )
    return account_from_row(row) if row else None


async def lock_account(tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str) -> Account | None:
    """The account, held until the transaction ends; None when the customer never had credits."""
    row = await tx.fetchrow(
        f"""select {_ACCOUNT} from credit_accounts
            where org_id = $1 and customer_id = $2 and credit_system = $3 and kind = 'credits'
            for no key update""",
        org_id,
        customer_id,
        credit_system,
    )
    return account_from_row(row) if row else None


async def lock_account_of(
    tx: Tx, org_id: UUID, external_customer_id: str, credit_system: str
) -> tuple[Account | None, datetime | None] | None:
    """By the merchant's id of the customer, in one round trip: the account, held until the transaction ends (None:
    never had credits), and the organization's test clock. None: no such customer."""
    row = await tx.fetchrow(
        f"""
        select o.test_now, a.* from organizations o
        join customers c on c.org_id = o.id
        left join lateral (
            select {_ACCOUNT} from credit_accounts
            where org_id = $1 and customer_id = c.id and credit_system = $3 and kind = 'credits'
            for no key update
        ) a on true
        where o.id = $1 and c.external_id = $2 and c.deleted_at is null
        """,
        org_id,
        external_customer_id,
        credit_system,
    )
    if row is None:
        return None
    values = dict(row)
    test_now = values.pop("test_now")
    if values["id"] is None:
        return None, test_now
    return Account(**{**values, "kind": AccountKind(values["kind"])}), test_now


async def lock_account_by_id(tx: Tx, org_id: UUID, account_id: UUID) -> Account:
    row = await tx.fetchrow(
        f"select {_ACCOUNT} from credit_accounts where org_id = $1 and id = $2 for no key update",
        org_id,
        account_id,
    )
    assert row is not None, "accounts are never deleted"
    return account_from_row(row)


async def ensure_account(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    account_id: UUID,
    now: datetime,
    kind: AccountKind = AccountKind.CREDITS,
) -> None:
    await tx.execute(
        """
        insert into credit_accounts (org_id, id, customer_id, kind, credit_system, created_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (org_id, customer_id, credit_system) do nothing
        """,
        org_id,
        account_id,
        customer_id,
        kind,
        credit_system,
        now,
    )


async def list_live_grants(tx: Tx, org_id: UUID, account_id: UUID) -> list[Grant]:
    """Grants with something left, expired ones included."""
    rows = await tx.fetch(
        f"select {_GRANT} from credit_grants where org_id = $1 and account_id = $2 and remaining > 0",
        org_id,
        account_id,
    )
    return [grant_from_row(row) for row in rows]


async def find_grant(tx: Tx, org_id: UUID, grant_id: UUID) -> tuple[UUID, Grant] | None:
    """A grant and the account it belongs to."""
    row = await tx.fetchrow(
        f"select account_id, {_GRANT} from credit_grants where org_id = $1 and id = $2", org_id, grant_id
    )
    if row is None:
        return None
    values = dict(row)
    account_id = values.pop("account_id")
    return account_id, Grant(**{**values, "source": GrantSource(row["source"])})


async def find_grant_by_reference(tx: Tx, org_id: UUID, account_id: UUID, reference: str) -> Grant | None:
    row = await tx.fetchrow(
        f"select {_GRANT} from credit_grants where org_id = $1 and account_id = $2 and reference = $3",
        org_id,
        account_id,
        reference,
    )
    return grant_from_row(row) if row else None


async def granted_since(
    tx: Tx, org_id: UUID, customer_id: UUID, prefixes: Sequence[str], since: datetime
) -> Decimal:
    """Credits given from `since` on under references that begin with one of these prefixes, spent or not."""
    total = await tx.fetchval(
        """
        select coalesce(sum(g.amount), 0) from credit_accounts a
        join credit_grants g on g.org_id = a.org_id and g.account_id = a.id
        where a.org_id = $1 and a.customer_id = $2 and g.reference ^@ any($3) and g.created_at >= $4
        """,
        org_id,
        customer_id,
        list(prefixes),
        since,
    )
    return Decimal(total)


async def append_grant(tx: Tx, account: Account, grant: Grant, entry: Entry) -> None:
    """Store a grant, the entry that announces it, and the account's new balance."""
    await tx.execute(
        """
        insert into credit_grants (org_id, account_id, id, amount, remaining, priority, source, reference, description,
            expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        account.org_id,
        account.id,
        grant.id,
        grant.amount,
        grant.remaining,
        grant.priority,
        grant.source,
        grant.reference,
        grant.description,
        grant.expires_at,
        grant.created_at,
    )
    await _append(tx, account, entry, [Draw(grant.id, grant.amount)])


async def append_spending(tx: Tx, account: Account, entry: Entry, draws: Sequence[Draw]) -> None:
    """Store an entry that takes `draws` from grants, and the account's new balance."""
    await _append(
        tx, account, entry, [Draw(draw.grant_id, draw.amount.copy_negate()) for draw in draws], spends=True
    )


async def _append(
    tx: Tx, account: Account, entry: Entry, moved: Sequence[Draw], *, spends: bool = False
) -> None:
    """One statement, one round trip: entry, allocations, account, and the grants when the entry `spends` them."""
    with localcontext(EXACT):
        assert entry.balance_after == account.balance + entry.amount, "an entry carries the balance after it"
        assert sum((draw.amount for draw in moved), Decimal(0)) == entry.amount, (
            "allocations sum to the entry"
        )
    draw_down = """, drawn as (
            update credit_grants g set remaining = g.remaining + d.amount
            from unnest($12::uuid[], $13::numeric[]) as d (grant_id, amount)
            where g.org_id = $1 and g.id = d.grant_id
        )"""
    await tx.execute(
        f"""
        with entry as (
            insert into ledger_entries (org_id, account_id, id, sequence, type, amount, balance_after, feature,
                description, entity_id, occurred_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ), moved as (
            insert into ledger_allocations (org_id, entry_id, grant_id, amount)
            select $1, $3, d.grant_id, d.amount from unnest($12::uuid[], $13::numeric[]) as d (grant_id, amount)
        ){draw_down if spends else ""}
        update credit_accounts set balance = $7, last_sequence = $4,
            granted = granted + case when $5 = 'grant' then $6 else 0 end,
            consumed = consumed - case when $5 = 'deduct' then $6 else 0 end,
            expired = expired - case when $5 = 'expire' then $6 else 0 end,
            voided = voided - case when $5 = 'void' then $6 else 0 end
        where org_id = $1 and id = $2
        """,
        account.org_id,
        account.id,
        entry.id,
        entry.sequence,
        entry.type,
        entry.amount,
        entry.balance_after,
        entry.feature,
        entry.description,
        entry.entity_id,
        entry.occurred_at,
        [draw.grant_id for draw in moved],
        [draw.amount for draw in moved],
    )


async def list_entries(
    tx: Tx, org_id: UUID, account_id: UUID, *, before: int | None, limit: int
) -> list[Entry]:
    """Newest first; `before` is the sequence of the last entry already seen."""
    rows = await tx.fetch(
        f"""select {_ENTRY} from ledger_entries
            where org_id = $1 and account_id = $2 and ($3::bigint is null or sequence < $3)
            order by sequence desc limit $4""",
        org_id,
        account_id,
        before,
        limit,
    )
    return [entry_from_row(row) for row in rows]
