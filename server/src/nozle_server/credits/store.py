"""What is looked up of credits without a book, and rows <-> values. `book_store` locks, loads and writes.

What is looked up by customer and credit system is an account of credits; a wallet names its account by id.
"""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import asyncpg

from nozle_server.credits.model import Grant, GrantSource
from nozle_server.infra.database import Tx

_GRANT = """id, amount, remaining, priority, source, reference, description, expires_at, created_at, entity_id,
    parent_id"""


def grant_from_row(row: asyncpg.Record) -> Grant:
    return Grant(**{**dict(row), "source": GrantSource(row["source"])})


async def find_account_id(tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str) -> UUID | None:
    found: UUID | None = await tx.fetchval(
        """select id from credit_accounts
           where org_id = $1 and customer_id = $2 and credit_system = $3 and kind = 'credits'""",
        org_id,
        customer_id,
        credit_system,
    )
    return found


async def list_account_ids(tx: Tx, org_id: UUID, customer_id: UUID) -> list[UUID]:
    """A customer's accounts of credits, of whatever system."""
    rows = await tx.fetch(
        "select id from credit_accounts where org_id = $1 and customer_id = $2 and kind = 'credits' order by id",
        org_id,
        customer_id,
    )
    return [row["id"] for row in rows]


async def list_parents(tx: Tx, org_id: UUID, account_id: UUID, entity_ids: Sequence[UUID]) -> list[Grant]:
    """The grants that the allocations of these entities came from, where something of these is left or is held: a hold whose
    time is over gives it back before anybody writes that down."""
    rows = await tx.fetch(
        f"""select {_GRANT} from credit_grants where org_id = $1 and account_id = $2 and id in (
                select parent_id from credit_grants
                where org_id = $1 and account_id = $2 and entity_id = any($3) and (remaining > 0 or id in (
                    select unnest(h.grant_ids) from credit_holds h
                    where h.org_id = $1 and h.account_id = $2 and h.status = 'open')))""",
        org_id,
        account_id,
        list(entity_ids),
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


async def expired_of(tx: Tx, org_id: UUID, account_id: UUID, grant_id: UUID) -> Decimal:
    """What was left of a grant when its time was over, and written off then; not what it lost with its entity's end."""
    total = await tx.fetchval(
        """
        select coalesce(-sum(l.amount), 0) from credit_grants g
        join ledger_entries e on e.org_id = g.org_id and e.account_id = g.account_id and e.type = 'expire'
            and e.occurred_at >= g.expires_at
        join ledger_allocations l on l.org_id = e.org_id and l.entry_id = e.id and l.grant_id = g.id
        where g.org_id = $1 and g.account_id = $2 and g.id = $3
        """,
        org_id,
        account_id,
        grant_id,
    )
    return Decimal(total)
