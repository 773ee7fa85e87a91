"""All SQL of wallets and their recurring rules, and rows <-> values.

Whoever changes a wallet, or moves its money, holds the customer's row, then the account's.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.periods import Interval
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx
from nozle_server.wallets.model import Method, RecurringRule, Trigger, Wallet, WalletStatus

_RULE = """id, wallet_id, trigger, method, interval, paid_credits, granted_credits, threshold_credits,
    target_ongoing_balance, invoice_requires_successful_payment, ignore_paid_top_up_limits, transaction_name,
    transaction_metadata, started_at, expiration_at, next_top_up_at, created_at, updated_at"""
_WALLETS = """
    select w.org_id, w.id, w.customer_id, c.external_id as external_customer_id, w.account_id, w.code, w.name,
        w.priority, w.rate_amount, w.currency, w.status, a.balance, w.consumed_amount,
        w.invoice_requires_successful_payment, w.paid_top_up_min_amount_cents, w.paid_top_up_max_amount_cents,
        w.fee_types, w.metric_ids, w.metadata, w.expiration_at, w.last_synced_at, w.last_consumed_credit_at,
        w.terminated_at, w.created_at, w.updated_at,
        array(select m.code from billable_metrics m where m.org_id = w.org_id and m.id = any(w.metric_ids)
            order by m.code) as metric_codes
    from wallets w
    join customers c on c.org_id = w.org_id and c.id = w.customer_id
    join credit_accounts a on a.org_id = w.org_id and a.id = w.account_id
"""


def rule_from_row(row: asyncpg.Record) -> RecurringRule:
    return RecurringRule(
        **{
            **dict(row),
            "trigger": Trigger(row["trigger"]),
            "method": Method(row["method"]),
            "interval": Interval(row["interval"]) if row["interval"] else None,
        }
    )


async def find_wallet(tx: Tx, org_id: UUID, wallet_id: UUID) -> Wallet | None:
    found = await _select(tx, "where w.org_id = $1 and w.id = $2", org_id, wallet_id)
    return found[0] if found else None


async def find_active_by_code(tx: Tx, org_id: UUID, customer_id: UUID, code: str) -> Wallet | None:
    """The active wallet of a customer with this code, else the latest terminated one that had it."""
    found = await _select(
        tx,
        """where w.org_id = $1 and w.customer_id = $2 and w.code = $3
           order by w.status, w.created_at desc, w.id desc limit 1""",
        org_id,
        customer_id,
        code,
    )
    return found[0] if found else None


async def customers_with_wallets(tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these customers that `list_active` finds something for."""
    rows = await tx.fetch(
        """select distinct customer_id from wallets
           where org_id = $1 and customer_id = any($2) and status = 'active'""",
        org_id,
        list(customer_ids),
    )
    return {row["customer_id"] for row in rows}


@read_once
async def list_active(tx: Tx, org_id: UUID, customer_id: UUID) -> list[Wallet]:
    """A customer's active wallets, whether their expiration has passed or not."""
    return await _select(
        tx,
        "where w.org_id = $1 and w.customer_id = $2 and w.status = 'active'",
        org_id,
        customer_id,
    )


async def list_wallets(
    tx: Tx, org_id: UUID, *, customer_id: UUID | None, currency: str | None, limit: int, offset: int
) -> tuple[list[Wallet], int]:
    """A page of wallets, the newest first, and how many there are."""
    chosen = """where w.org_id = $1 and ($2::uuid is null or w.customer_id = $2)
        and ($3::text is null or w.currency = $3)"""
    total = await tx.fetchval(f"select count(*) from wallets w {chosen}", org_id, customer_id, currency)
    wallets = await _select(
        tx,
        f"{chosen} order by w.created_at desc, w.id desc limit $4 offset $5",
        org_id,
        customer_id,
        currency,
        limit,
        offset,
    )
    return wallets, total


async def insert_wallet(tx: Tx, wallet: Wallet) -> bool:
    """False when the customer has an active wallet with this code. The rule is stored by itself."""
    return bool(
        await tx.fetchval(
            """
            insert into wallets (org_id, id, customer_id, account_id, code, name, priority, rate_amount, currency,
                status, invoice_requires_successful_payment, paid_top_up_min_amount_cents,
                paid_top_up_max_amount_cents, fee_types, metric_ids, metadata, expiration_at, created_at, updated_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
            on conflict (org_id, customer_id, code) where status = 'active' do nothing
            returning true
            """,
            wallet.org_id,
            wallet.id,
            wallet.customer_id,
            wallet.account_id,
            wallet.code,
            wallet.name,
            wallet.priority,
            wallet.rate_amount,
            wallet.currency,
            wallet.status,
            wallet.invoice_requires_successful_payment,
            wallet.paid_top_up_min_amount_cents,
            wallet.paid_top_up_max_amount_cents,
            list(wallet.fee_types),
            list(wallet.metric_ids),
            wallet.metadata,
            wallet.expiration_at,
            wallet.created_at,
        )
    )


async def update_wallet(tx: Tx, wallet: Wallet) -> None:
    """Store everything of a wallet that a caller may change."""
    await tx.execute(
        """
        update wallets set code = $3, name = $4, priority = $5, invoice_requires_successful_payment = $6,
            paid_top_up_min_amount_cents = $7, paid_top_up_max_amount_cents = $8, fee_types = $9, metric_ids = $10,
            metadata = $11, expiration_at = $12, updated_at = $13
        where org_id = $1 and id = $2
        """,
        wallet.org_id,
        wallet.id,
        wallet.code,
        wallet.name,
        wallet.priority,
        wallet.invoice_requires_successful_payment,
        wallet.paid_top_up_min_amount_cents,
        wallet.paid_top_up_max_amount_cents,
        list(wallet.fee_types),
        list(wallet.metric_ids),
        wallet.metadata,
        wallet.expiration_at,
        wallet.updated_at,
    )


async def terminate_wallet(tx: Tx, org_id: UUID, wallet_id: UUID, now: datetime) -> None:
    """End a wallet and its rule."""
    await tx.execute(
        """update wallets set status = 'terminated', terminated_at = $3, updated_at = $3
           where org_id = $1 and id = $2 and status = 'active'""",
        org_id,
        wallet_id,
        now,
    )
    await terminate_rule(tx, org_id, wallet_id, now)


async def record_movement(tx: Tx, org_id: UUID, wallet_id: UUID, *, consumed: Decimal, at: datetime) -> None:
    """The wallet's money moved: `consumed` is what left it, negative for what a voided invoice gave back, 0 for what
    filled it."""
    await tx.execute(
        """
        update wallets set consumed_amount = consumed_amount + $3, last_synced_at = $4,
            last_consumed_credit_at = case when $3 > 0 then $4 else last_consumed_credit_at end
        where org_id = $1 and id = $2
        """,
        org_id,
        wallet_id,
        consumed,
        at,
    )


async def find_rule(tx: Tx, org_id: UUID, rule_id: UUID) -> RecurringRule | None:
    """A rule that is not terminated."""
    row = await tx.fetchrow(
        f"select {_RULE} from wallet_recurring_rules where org_id = $1 and id = $2 and status = 'active'",
        org_id,
        rule_id,
    )
    return rule_from_row(row) if row else None


async def list_with_thresholds(tx: Tx, org_id: UUID) -> list[UUID]:
    """The organization's wallets whose rule has a threshold, in a fixed order."""
    rows = await tx.fetch(
        """select wallet_id from wallet_recurring_rules
           where org_id = $1 and status = 'active' and trigger = 'threshold' order by wallet_id""",
        org_id,
    )
    return [row["wallet_id"] for row in rows]


async def list_organizations_with_thresholds(tx: Tx) -> list[UUID]:
    """Organizations in real time that have such wallets: those on a test clock are looked at when it is turned."""
    rows = await tx.fetch(
        """select distinct r.org_id from wallet_recurring_rules r join organizations o on o.id = r.org_id
           where r.status = 'active' and r.trigger = 'threshold' and o.test_now is null"""
    )
    return [row["org_id"] for row in rows]


async def put_rule(tx: Tx, org_id: UUID, rule: RecurringRule) -> None:
    """Store a new rule, or all of one that is there."""
    values: dict[str, Any] = {
        "id": rule.id,
        "wallet_id": rule.wallet_id,
        "trigger": rule.trigger,
        "method": rule.method,
        "interval": rule.interval,
        "paid_credits": rule.paid_credits,
        "granted_credits": rule.granted_credits,
        "threshold_credits": rule.threshold_credits,
        "target_ongoing_balance": rule.target_ongoing_balance,
        "invoice_requires_successful_payment": rule.invoice_requires_successful_payment,
        "ignore_paid_top_up_limits": rule.ignore_paid_top_up_limits,
        "transaction_name": rule.transaction_name,
        "transaction_metadata": list(rule.transaction_metadata),
        "started_at": rule.started_at,
        "expiration_at": rule.expiration_at,
        "next_top_up_at": rule.next_top_up_at,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
    }
    places = ", ".join(f"${place}" for place in range(2, len(values) + 2))
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name not in ("id", "wallet_id"))
    await tx.execute(
        f"""
        insert into wallet_recurring_rules (org_id, {", ".join(values)}, status) values ($1, {places}, 'active')
        on conflict (org_id, id) do update set {changes}
        """,
        org_id,
        *values.values(),
    )


async def terminate_rule(tx: Tx, org_id: UUID, wallet_id: UUID, now: datetime) -> None:
    """End the wallet's rule, if there is one."""
    await tx.execute(
        """update wallet_recurring_rules set status = 'terminated', terminated_at = $3, updated_at = $3
           where org_id = $1 and wallet_id = $2 and status = 'active'""",
        org_id,
        wallet_id,
        now,
    )


async def _select(tx: Tx, chosen: str, *values: object) -> list[Wallet]:
    rows = await tx.fetch(_WALLETS + chosen, *values)
    if not rows:
        return []
    org_id = values[0]
    rules = await tx.fetch(
        f"""select {_RULE} from wallet_recurring_rules
            where org_id = $1 and wallet_id = any($2) and status = 'active'""",
        org_id,
        [row["id"] for row in rows],
    )
    by_wallet = {rule["wallet_id"]: rule_from_row(rule) for rule in rules}
    return [_wallet(row, by_wallet.get(row["id"])) for row in rows]


def _wallet(row: asyncpg.Record, rule: RecurringRule | None) -> Wallet:
    return Wallet(
        **{
            **dict(row),
            "status": WalletStatus(row["status"]),
            "fee_types": tuple(row["fee_types"]),
            "metric_ids": tuple(row["metric_ids"]),
            "metric_codes": tuple(row["metric_codes"]),
        },
        rule=rule,
    )
