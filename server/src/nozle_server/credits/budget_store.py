"""SQL of budgets. What is spent of their windows is counted with the account (`book_store`)."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.credits.model import Budget
from nozle_server.infra.database import Tx


async def put_budget(tx: Tx, org_id: UUID, account_id: UUID, budget: Budget, now: datetime) -> bool:
    """Keep a budget; True when it is new, False when one of its id got another limit."""
    return bool(
        await tx.fetchval(
            """
            insert into credit_budgets (org_id, account_id, id, entity_id, interval, limit_amount, created_at, updated_at)
            values ($1, $2, $3, $4, $5, $6, $7, $7)
            on conflict (org_id, id) do update
                set limit_amount = excluded.limit_amount, updated_at = excluded.updated_at
            returning xmax = 0
            """,
            org_id,
            account_id,
            budget.id,
            budget.entity_id,
            budget.interval,
            budget.limit,
            now,
        )
    )


async def delete_budget(tx: Tx, org_id: UUID, budget_id: UUID) -> None:
    """With what its windows counted."""
    await tx.execute(
        "delete from credit_budget_usage where org_id = $1 and budget_id = $2", org_id, budget_id
    )
    await tx.execute("delete from credit_budgets where org_id = $1 and id = $2", org_id, budget_id)


async def list_below(tx: Tx, org_id: UUID, entity_id: UUID) -> list[UUID]:
    """An entity and all that are below it."""
    rows = await tx.fetch(
        """
        with recursive below as (
            select id from entities where org_id = $1 and id = $2
            union select e.id from entities e join below on e.org_id = $1 and e.parent_id = below.id
        ) select id from below
        """,
        org_id,
        entity_id,
    )
    return [row["id"] for row in rows]


async def count_spent(
    tx: Tx,
    org_id: UUID,
    account_id: UUID,
    spenders: Sequence[UUID] | None,
    start: datetime,
    end: datetime | None,
) -> Decimal:
    """What a budget would have counted since `start` and before `end`, had it been there, of these entities or (None) of
    anybody: what was deducted at once, and of holds that were made then what they hold or were settled for, whenever that
    was and whether it was covered or not."""
    total = await tx.fetchval(
        """
        select coalesce((
            select -sum(amount) from ledger_entries
            where org_id = $1 and account_id = $2 and type = 'deduct' and hold_id is null
                and ($3::uuid[] is null or entity_id = any($3))
                and occurred_at >= $4 and ($5::timestamptz is null or occurred_at < $5)), 0)
          + coalesce((
            select sum(case when status = 'open' then amount else settled end) from credit_holds
            where org_id = $1 and account_id = $2 and ($3::uuid[] is null or entity_id = any($3))
                and created_at >= $4 and ($5::timestamptz is null or created_at < $5)), 0)
        """,
        org_id,
        account_id,
        spenders,
        start,
        end,
    )
    return Decimal(total)


async def begin_window(
    tx: Tx,
    org_id: UUID,
    account_id: UUID,
    budget_id: UUID,
    spenders: Sequence[UUID] | None,
    start: datetime,
    used: Decimal,
) -> None:
    """Begin to count in a budget's current window: from `used` on, and with the holds that are open, as they end."""
    await tx.execute(
        "insert into credit_budget_usage (org_id, budget_id, window_start, used) values ($1, $2, $3, $4)",
        org_id,
        budget_id,
        start,
        used,
    )
    await tx.execute(
        """
        update credit_holds set budget_ids = budget_ids || $3::uuid, budget_windows = budget_windows || $5::timestamptz
        where org_id = $1 and account_id = $2 and status = 'open' and created_at >= $5
            and ($4::uuid[] is null or entity_id = any($4))
        """,
        org_id,
        account_id,
        budget_id,
        spenders,
        start,
    )
