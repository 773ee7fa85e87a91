"""A month of an organization's life: subscriptions to one plan, and the events behind them, all due at its end.

The first subscription and its events go through the API. The others are its rows, multiplied in the database: what
ingest writes is the template, whatever columns it has. Event k of subscription s is the same whichever way it came.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from harness import client
from harness.multiplying import columns_of, multiply
from harness.server import Organization, Server
from harness.traffic import post
from nozle_server.infra import due, job_queue
from nozle_server.infra.partitions import ensure_event_partitions

EVENTS_EACH = 100
METRICS = ("requests", "tokens", "images", "minutes")
REGIONS = ("eu", "us", "asia")
TAX_PERCENT = "8.875"
PLAN = "bench"

# What one event is, as SQL of its number k and its subscription's number s. Python's are below.
_N = "(1 + (k * 7 + s * 13) % 50)"
_REGION = f"(array{list(REGIONS)})[1 + (k / {len(METRICS)}) % {len(REGIONS)}]"
_AT = f"($2::timestamptz + k * ($3::timestamptz - $2::timestamptz) / {EVENTS_EACH} + s * interval '1 millisecond')"
_TRANSACTION = "'bench-' || s || '-' || k"


@dataclass(frozen=True, slots=True)
class Month:
    """[start, end), the last whole month; `subscriptions` of the organization have their period in it."""

    organization: Organization
    start: datetime
    end: datetime
    subscriptions: int

    @property
    def events(self) -> int:
        return self.subscriptions * EVENTS_EACH


async def make_month(
    server: Server, connection: asyncpg.Connection, organization: Organization, subscriptions: int
) -> Month:
    """The organization on a test clock near the end of the month, with everything in it."""
    end = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (end - timedelta(days=1)).replace(day=1)
    month = Month(organization, start, end, subscriptions)
    await ensure_event_partitions(connection, start.date(), days_ahead=(end - start).days)
    await _turn_clock(server, month, start)
    await _make_catalog(server, organization)
    await _call(server, organization, "/api/v1/customers", {"external_id": "customer-0", "name": "Customer"})
    await _call(server, organization, "/api/v1/subscribe", {"customer_id": "customer-0", "plan_code": PLAN})
    await _turn_clock(server, month, end - timedelta(seconds=1))
    events = [_event(month, 0, k) for k in range(EVENTS_EACH)]
    await _call(server, organization, "/api/v1/events/batch", {"events": events})
    await _multiply_subscriptions(connection, month)
    await _multiply_events(connection, month)
    await connection.execute("vacuum analyze")
    return month


async def let_it_fall_due(connection: asyncpg.Connection, month: Month) -> None:
    """Put the organization back into real time: the month is over, and a worker is told."""
    async with connection.transaction():
        await connection.execute(
            "update organizations set test_now = null where id = $1", month.organization.id
        )
        # The key of the sweep that looks every minute, so that it adds no second job.
        key = f"{due.DRAIN_DUE}:{month.organization.id}:overdue"
        payload = (await _org_id(connection, month)).bytes
        await job_queue.enqueue(connection, due.DRAIN_DUE, payload, dedupe_key=key)


async def unlike_ingest(connection: asyncpg.Connection, month: Month) -> int:
    """How many of the events that the API took in are not what multiplying would have made of them."""
    columns = await columns_of(connection, "events", but_not=("id", "received_at"))
    made = _made_events(columns, "s = 0")
    return int(
        await connection.fetchval(
            f"""with stored as (
                    select {", ".join(columns)} from events where org_id = $1 and external_customer_id = 'customer-0'
                ), made as ({made})
                select (select count(*) from (table stored except table made) as missing)
                     + (select count(*) from (table made except table stored) as other)""",
            month.organization.id,
            month.start,
            month.end,
        )
    )


def _event(month: Month, s: int, k: int) -> dict[str, Any]:
    at = month.start + k * (month.end - month.start) / EVENTS_EACH + timedelta(milliseconds=s)
    return {
        "transaction_id": f"bench-{s}-{k}",
        "customer_id": f"customer-{s}",
        "metric_code": METRICS[k % len(METRICS)],
        "timestamp": at.isoformat(),
        "properties": {
            "n": 1 + (k * 7 + s * 13) % 50,
            "region": REGIONS[(k // len(METRICS)) % len(REGIONS)],
        },
    }


async def _make_catalog(server: Server, organization: Organization) -> None:
    """A plan with a charge of each kind that most plans are made of, and a tax."""
    tax = {"code": "tax", "name": "Tax", "rate": TAX_PERCENT, "applied_to_organization": True}
    await _call(server, organization, "/core/api/v1/taxes", {"tax": tax})
    ids = {}
    for code in METRICS:
        metric: dict[str, Any] = {
            "code": code,
            "name": code,
            "aggregation_type": "sum_agg",
            "field_name": "n",
        }
        if code == "requests":
            metric = {"code": code, "name": code, "aggregation_type": "count_agg"}
        if code == "minutes":
            metric["filters"] = [{"key": "region", "values": list(REGIONS)}]
        made = await _call(server, organization, "/core/api/v1/billable_metrics", {"billable_metric": metric})
        ids[code] = made["billable_metric"]["lago_id"]
    ranges = [
        {"from_value": 0, "to_value": 100, "per_unit_amount": "0.05", "flat_amount": "1"},
        {"from_value": 101, "to_value": None, "per_unit_amount": "0.0123", "flat_amount": "0"},
    ]
    package = {"amount": "1.25", "package_size": 100, "free_units": 10}
    filters = [
        {"values": {"region": ["eu"]}, "properties": {"amount": "0.0371"}},
        {"values": {"region": ["us"]}, "properties": {"amount": "0.0299"}},
    ]
    charges: list[dict[str, Any]] = [
        {"charge_model": "standard", "properties": {"amount": "0.0123"}},
        {"charge_model": "graduated", "properties": {"graduated_ranges": ranges}},
        {"charge_model": "package", "properties": package},
        {"charge_model": "standard", "properties": {"amount": "0.0333"}, "filters": filters},
    ]
    for code, charge in zip(METRICS, charges, strict=True):
        charge["billable_metric_id"] = ids[code]
    plan = {
        "code": PLAN,
        "name": "Bench",
        "interval": "monthly",
        "amount_cents": 4900,
        "amount_currency": "USD",
        "charges": charges,
    }
    await _call(server, organization, "/core/api/v1/plans", {"plan": plan})


# A customer's bill in cents before tax, by what `_make_catalog` says, from the `n` and `region` that its events were sent with.
PRICED = """
    4900
    + round(requests * 1.23)
    + round(case when tokens > 0 then 100 else 0 end + least(tokens, 100) * 5 + greatest(tokens - 100, 0) * 1.23)
    + 125 * ceil(greatest(images - 10, 0) / 100)
    + round(minutes_eu * 3.71) + round(minutes_us * 2.99) + round(minutes_other * 3.33)
"""
USAGES = """
    count(*) filter (where code = 'requests')::numeric as requests,
    coalesce(sum(n) filter (where code = 'tokens'), 0) as tokens,
    coalesce(sum(n) filter (where code = 'images'), 0) as images,
    coalesce(sum(n) filter (where code = 'minutes' and region = 'eu'), 0) as minutes_eu,
    coalesce(sum(n) filter (where code = 'minutes' and region = 'us'), 0) as minutes_us,
    coalesce(sum(n) filter (where code = 'minutes' and region = 'asia'), 0) as minutes_other
"""


async def _multiply_subscriptions(connection: asyncpg.Connection, month: Month) -> None:
    org_id = month.organization.id
    await connection.execute(
        f"""create temporary table people as
            select s, uuidv7() as customer_id, uuidv7() as subscription_id, 'customer-' || s as external_id
            from generate_series(1, {month.subscriptions - 1}) s"""
    )
    made = {"id": "customer_id", "external_id": "p.external_id", "sequential_id": "s + 1"}
    await multiply(connection, "customers", made, "t.org_id = $1", org_id)
    made = {"id": "subscription_id", "external_id": "subscription_id::text", "customer_id": "p.customer_id"}
    await multiply(connection, "subscriptions", made, "t.org_id = $1", org_id)
    made = {"id": "uuidv7()", "subject_id": "subscription_id"}
    await multiply(connection, "due_items", made, "t.org_id = $1 and t.kind = 'period_end'", org_id)
    await connection.execute(
        "update organization_counters set value = $2 where org_id = $1 and name = 'customers'",
        org_id,
        month.subscriptions,
    )


async def _multiply_events(connection: asyncpg.Connection, month: Month) -> None:
    org_id, start, end = month.organization.id, month.start, month.end
    columns = await columns_of(connection, "events")
    await connection.execute(
        f"insert into events ({', '.join(columns)}) {_made_events(columns, 's > 0')}", org_id, start, end
    )
    await connection.execute(
        """insert into event_ids (org_id, transaction_id, event_id, occurred_at, payload_hash)
           select org_id, transaction_id, id, occurred_at, sha256(transaction_id::bytea) from events
           where org_id = $1 and external_customer_id <> 'customer-0'""",
        org_id,
    )
    await connection.execute(
        """insert into usage_counters (org_id, subscription_id, metric_id, period_start, units, events_count)
           select org_id, subscription_id, metric_id, $2, sum(quantity), count(*) from events
           where org_id = $1 and external_customer_id <> 'customer-0' group by 1, 2, 3""",
        org_id,
        start,
    )


def _made_events(columns: list[str], which: str) -> str:
    """A query for events of the subscriptions `which`: the first subscription's, as they are stored, made another's."""
    own = {
        "id": "uuidv7()",
        "transaction_id": _TRANSACTION,
        "occurred_at": _AT,
        "external_customer_id": "p.external_id",
        "customer_id": "p.customer_id",
        "subscription_id": "p.subscription_id",
        "quantity": f"case when t.code = '{METRICS[0]}' then t.quantity else {_N} end",
        "properties": f"jsonb_build_object('n', {_N}, 'region', {_REGION})",
    }
    made = ", ".join(f"{own.get(name, f't.{name}')} as {name}" for name in columns)
    return f"""
        select {made}
        from (select s, customer_id, subscription_id, external_id from people
              union all select 0, c.id, s.id, c.external_id from customers c
              join subscriptions s on s.org_id = c.org_id and s.customer_id = c.id
              where c.org_id = $1 and c.external_id = 'customer-0') p
        cross join generate_series(0, {EVENTS_EACH - 1}) k
        join (select distinct on (code) * from events where org_id = $1 and external_customer_id = 'customer-0'
            order by code, occurred_at) t on t.code = (array{list(METRICS)})[1 + k % {len(METRICS)}]
        where {which}
    """


async def _org_id(connection: asyncpg.Connection, month: Month) -> Any:
    return await connection.fetchval("select id from organizations where id = $1", month.organization.id)


async def _turn_clock(server: Server, month: Month, to: datetime) -> None:
    await _call(server, month.organization, "/api/v1/test-clock", {"now": to.isoformat()})


async def _call(server: Server, organization: Organization, path: str, body: dict[str, Any]) -> Any:
    [answer] = await client.send_all_good(server.port, [post(path, organization.key, json.dumps(body))])
    return json.loads(answer.body)
