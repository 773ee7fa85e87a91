"""What a book's account needs written besides its entries: grants made, holds, receivables, the use of budgets, its rule."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.credits.book import Book, Changes
from nozle_server.credits.events import publications
from nozle_server.credits.model import Account, Hold
from nozle_server.credits.watching import TopUpRule
from nozle_server.infra import due
from nozle_server.infra.change_bus import write_publications
from nozle_server.infra.database import Tx

RELEASE_HOLDS = "release_holds"
"""The due item that releases an account's holds whose time is over; its subject is the account."""

_HOLDS_DUE_EVERY = timedelta(seconds=1)


async def write_rest(tx: Tx, origin: UUID, changed: Iterable[tuple[Account, Changes]]) -> None:
    """Write what is not entries, of accounts that `tx` holds: holds, receivables, the use of budgets, what a top-up rule
    wished for, and the facts about that."""
    for account, changes in changed:
        org_id, account_id = account.org_id, account.id
        if changes.held:
            await _insert_holds(tx, org_id, account_id, changes.held)
        if changes.ended:
            await _end_holds(tx, org_id, changes)
        if changes.owed:
            await tx.executemany(
                """insert into credit_receivables (org_id, account_id, id, hold_id, amount, created_at)
                   values ($1, $2, $3, $4, $5, $6)""",
                [(org_id, account_id, *owed) for owed in changes.owed],
            )
        if changes.paid:
            await tx.executemany(
                "update credit_receivables set paid = paid + $3 where org_id = $1 and id = $2",
                [(org_id, receivable_id, paid) for receivable_id, paid in changes.paid.items()],
            )
        if changes.used:
            await _use_budgets(tx, org_id, changes)
        if changes.rule is not None:
            await write_rule(tx, account, changes.rule)
        if changes.facts:
            told = {fact.id for fact in changes.facts}
            news = [one for one in publications(account, changes) if one.id in told]
            await write_publications(tx, origin, news)


async def write_rule(tx: Tx, account: Account, rule: TopUpRule) -> None:
    """Keep what has become of an account's top-up rule."""
    await tx.execute(
        """
        update credit_top_up_rules set status = $3, wish_id = $4, wished_at = $5, month_start = $6, wished_in_month = $7
        where org_id = $1 and account_id = $2
        """,
        account.org_id,
        account.id,
        rule.status,
        rule.wish_id,
        rule.wished_at,
        rule.month_start,
        rule.wished_in_month,
    )


async def insert_grants(tx: Tx, book: Book) -> None:
    if not book.changes.granted:
        return
    await tx.executemany(
        """
        insert into credit_grants (org_id, account_id, id, amount, remaining, priority, source, reference, description,
            expires_at, created_at, entity_id, parent_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        [
            (
                book.account.org_id,
                book.account.id,
                grant.id,
                grant.amount,
                grant.amount,
                grant.priority,
                grant.source,
                grant.reference,
                grant.description,
                grant.expires_at,
                grant.created_at,
                grant.entity_id,
                grant.parent_id,
            )
            for grant in book.changes.granted
        ],
    )


async def _insert_holds(tx: Tx, org_id: UUID, account_id: UUID, holds: Sequence[Hold]) -> None:
    await tx.executemany(
        """
        insert into credit_holds (org_id, account_id, id, amount, feature, entity_id, grant_ids, drawn, pools,
            budget_ids, budget_windows, expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        [
            (
                org_id,
                account_id,
                hold.id,
                hold.amount,
                hold.feature,
                hold.entity_id,
                [draw.grant_id for draw in hold.draws],
                [draw.amount for draw in hold.draws],
                list(hold.pools),
                [budget_id for budget_id, _ in hold.windows],
                [start for _, start in hold.windows],
                hold.expires_at,
                hold.created_at,
            )
            for hold in holds
        ],
    )
    # One item for all holds of an account that end within a second; until then whoever looks sees them ended.
    ends = {_next_second(hold.expires_at): hold.created_at for hold in holds}
    for due_at, now in ends.items():
        await due.schedule(
            tx, org_id=org_id, kind=RELEASE_HOLDS, subject_id=account_id, due_at=due_at, now=now
        )


def _next_second(instant: datetime) -> datetime:
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + _HOLDS_DUE_EVERY


async def _end_holds(tx: Tx, org_id: UUID, changes: Changes) -> None:
    await tx.executemany(
        """update credit_holds set status = $3, settled = $4, uncovered = $5, ended_at = $6
           where org_id = $1 and id = $2""",
        [
            (org_id, ended.id, ended.status, ended.taken.settled, ended.taken.uncovered, ended.at)
            for ended in changes.ended
        ],
    )


async def _use_budgets(tx: Tx, org_id: UUID, changes: Changes) -> None:
    used = sorted(changes.used.items())
    more = [(budget_id, start, amount) for (budget_id, start), amount in used if amount > 0]
    less = [(org_id, budget_id, start, amount) for (budget_id, start), amount in used if amount < 0]
    # A budget that is gone since the hold was made counts nothing any more.
    await tx.execute(
        """
        insert into credit_budget_usage as u (org_id, budget_id, window_start, used)
        select $1, t.budget_id, t.window_start, t.used
        from unnest($2::uuid[], $3::timestamptz[], $4::numeric[]) as t (budget_id, window_start, used)
        join credit_budgets b on b.org_id = $1 and b.id = t.budget_id
        on conflict (org_id, budget_id, window_start) do update set used = u.used + excluded.used
        """,
        org_id,
        [budget_id for budget_id, _, _ in more],
        [start for _, start, _ in more],
        [amount for _, _, amount in more],
    )
    if less:
        await tx.executemany(
            """update credit_budget_usage set used = used + $4
               where org_id = $1 and budget_id = $2 and window_start = $3""",
            less,
        )
