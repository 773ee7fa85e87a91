"""SQL of alerts and top-up rules; what a rule has wished for is written with its account (`book_writes.write_rule`)."""

from datetime import datetime
from uuid import UUID

from nozle_server.credits.watching import Alert, TopUpRule
from nozle_server.infra.database import Tx


async def put_alert(tx: Tx, org_id: UUID, account_id: UUID, alert: Alert, now: datetime) -> None:
    await tx.execute(
        """
        insert into credit_alerts (org_id, account_id, code, name, threshold, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6)
        on conflict (org_id, account_id, code) do update
            set name = excluded.name, threshold = excluded.threshold, updated_at = excluded.updated_at
        """,
        org_id,
        account_id,
        alert.code,
        alert.name,
        alert.threshold,
        now,
    )


async def delete_alert(tx: Tx, org_id: UUID, account_id: UUID, code: str) -> Alert | None:
    """The alert that is gone; None when there was none."""
    row = await tx.fetchrow(
        """delete from credit_alerts where org_id = $1 and account_id = $2 and code = $3
           returning code, name, threshold""",
        org_id,
        account_id,
        code,
    )
    return None if row is None else Alert(**row)


async def put_rule(tx: Tx, org_id: UUID, account_id: UUID, rule: TopUpRule, now: datetime) -> None:
    await tx.execute(
        """
        insert into credit_top_up_rules (org_id, account_id, status, amount, threshold, monthly_cap, wish_id, wished_at,
            month_start, wished_in_month, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
        on conflict (org_id, account_id) do update set status = excluded.status, amount = excluded.amount,
            threshold = excluded.threshold, monthly_cap = excluded.monthly_cap, wish_id = excluded.wish_id,
            wished_at = excluded.wished_at, month_start = excluded.month_start,
            wished_in_month = excluded.wished_in_month, updated_at = excluded.updated_at
        """,
        org_id,
        account_id,
        rule.status,
        rule.amount,
        rule.threshold,
        rule.monthly_cap,
        rule.wish_id,
        rule.wished_at,
        rule.month_start,
        rule.wished_in_month,
        now,
    )


async def delete_rule(tx: Tx, org_id: UUID, account_id: UUID) -> bool:
    """Whether there was one."""
    return bool(
        await tx.fetchval(
            "delete from credit_top_up_rules where org_id = $1 and account_id = $2 returning true",
            org_id,
            account_id,
        )
    )
