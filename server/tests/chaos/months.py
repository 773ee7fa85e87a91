"""A merchant's two months with something of everything that is done when it falls due, and what has become of it.

The organization is in live mode, so that workers do what falls due, and its clock is a `ShiftedClock`.
"""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from world import World

BEGIN = datetime(2031, 1, 10, 9, tzinfo=UTC)
NEXT_MONTH = datetime(2031, 2, 12, 9, tzinfo=UTC)
MONTH_AFTER = datetime(2031, 3, 18, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")


async def begin(world: World) -> None:
    """At BEGIN: customers whose first period is over at NEXT_MONTH."""
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
    await world.a_metric()
    await world.a_plan(
        amount_cents=1000,
        credits="50",
        charges=[charge],
        usage_thresholds=[{"amount_cents": 500, "threshold_display_name": "five"}],
    )
    await world.a_plan(code="trial", amount_cents=3100, pay_in_advance=True, trial_period=10)
    monthly = {"credit_system": "credits", "amount": "10", "cadence": "month"}
    await world.a_plan(code="year", interval="yearly", credit_grants=[monthly])
    for customer, plan in (("acme", "pro"), ("bolt", "year"), ("cask", "pro")):
        await world.a_customer(customer)
        await world.assign(customer, plan, f"of {customer}")
    await world.use("acme", 3)
    await world.use("cask", 4)


async def go_on(world: World) -> None:
    """At NEXT_MONTH: until MONTH_AFTER, everything falls due that there is."""
    # Usage of the period before comes late, also of a subscription that has ended since.
    late = _text(BEGIN + timedelta(days=9))
    await world.use("acme", 3, timestamp=late)
    assert (await world.call("DELETE", "/core/api/v1/subscriptions/of%20cask")).status == 200
    await world.use("cask", 6, timestamp=late)
    # An alert, an invoice in between, credits that expire, a wallet that an invoice brings to its threshold.
    alert = {"alert_type": "current_usage_amount", "code": "much", "thresholds": [{"value": "300"}]}
    await world.post("/core/api/v1/subscriptions/of%20acme/alerts", {"alert": alert})
    await world.a_wallet(granted_credits="15", recurring_transaction_rules=[_THRESHOLD])
    await world.use("acme", 7)
    await world.grant("acme", "12.5", expires_at=_text(NEXT_MONTH + timedelta(days=12)))
    held = {"amount": "2", "feature": "chat", "expires_in": 3600}
    await world.post("/api/v1/credits/acme/holds", held)
    # A trial that ends, a draft that waits, a subscription that begins.
    await world.a_customer("dune", billing_configuration={"invoice_grace_period": 3})
    await world.subscribe("dune", "trial")
    await world.a_customer("elm")
    await world.assign("elm", "pro", "later", subscription_at=_text(NEXT_MONTH + timedelta(days=5)))
    # A wallet that is filled each week and another that is watched and expires.
    await world.a_customer("fir")
    rules = [{"trigger": "interval", "interval": "weekly", "granted_credits": "5"}]
    await world.a_wallet("fir", name="weekly", recurring_transaction_rules=rules)
    ends = _text(NEXT_MONTH + timedelta(days=20))
    wallet = await world.a_wallet("fir", code="low", name="low", granted_credits="30", expiration_at=ends)
    alert = {"alert_type": "wallet_balance_amount", "code": "low", "thresholds": [{"value": "1500"}]}
    await world.post("/core/api/v1/customers/fir/wallets/low/alerts", {"alert": alert})
    voided = {"wallet_id": wallet["lago_id"], "voided_credits": "25"}
    await world.post("/core/api/v1/wallet_transactions", {"wallet_transaction": voided})


_THRESHOLD = {"trigger": "threshold", "threshold_credits": "10", "granted_credits": "20"}


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


async def picture(connection: asyncpg.Connection, org_id: UUID) -> dict[str, Counter[str]]:
    """All rows of an organization, so that two can be compared that lived through the same: without ids and keys, and of
    instants only those that are not just when something was asked for."""
    tables = await connection.fetch(
        """
        select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'org_id'
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
          and c.relname not in ('api_keys', 'idempotency_keys')
        """
    )
    found = {}
    for (table,) in tables:
        rows = await connection.fetch(
            f"select to_jsonb(t) - 'transaction' as row from {table} t where org_id = $1", org_id
        )
        found[table] = Counter(_plain(row["row"]) for row in rows)
    return found


def _plain(row: dict[str, object]) -> str:
    return _INSTANT.sub("at some time", _UUID.sub("id", repr(sorted(row.items()))))


# Not on the hour: now, or so long after it. What is decided here is all on the hour.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:(?!00:00(?!\.))\d\d:\d\d(\.\d+)?(\+00:00|Z)?")
