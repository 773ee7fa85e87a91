"""Customers to measure with, made by the API, and copies of their rows for yardsticks that speak SQL."""

import asyncpg
import msgspec

from harness import client
from harness.multiplying import multiply
from harness.server import Organization, Server
from harness.traffic import FRESH_ID, fill, post

CUSTOMERS = 1_000
CREDITS = 10**9
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4")
INPUT_TOKENS, OUTPUT_TOKENS = 374, 44
TOKENS = INPUT_TOKENS + OUTPUT_TOKENS
"""What one event counts."""
HOT = "customer-0000"
"""The customer of all requests where one is hot."""

# In an order that foreign keys allow.
_COPIED = (
    "billable_metrics",
    "features",
    "plans",
    "plan_versions",
    "plan_entitlements",
    "cost_models",
    "customers",
    "subscriptions",
    "credit_accounts",
    "credit_grants",
    "ledger_entries",
    "ledger_allocations",
)


def customer_names(count: int = CUSTOMERS) -> list[str]:
    """External ids of the customers."""
    return [f"customer-{n:04}" for n in range(count)]


async def enrol(server: Server, organization: Organization, names: list[str], *, plan: str) -> None:
    """Make customers, subscribed to a plan."""
    key = organization.key
    people = [{"external_id": name, "name": f"Customer {name}"} for name in names]
    await client.send_all_good(server.port, [_post("/api/v1/customers", key, one) for one in people])
    subscriptions = [{"customer_id": name, "plan_code": plan} for name in names]
    await client.send_all_good(server.port, [_post("/api/v1/subscribe", key, one) for one in subscriptions])


async def enrol_like_first(
    connection: asyncpg.Connection, organization: Organization, names: list[str], *, already: int
) -> None:
    """Make the customers from `already` on by copying the rows of the first, its subscription and its usage: in seconds
    what would take the API many minutes."""
    org_id = organization.id
    await connection.execute(
        """create temporary table people as
           select s, uuidv7() as customer_id, uuidv7() as subscription_id, name as external_id
           from unnest($1::text[]) with ordinality as named(name, s) where s > $2""",
        *(names, already),
    )
    first = f"(select id from customers where org_id = $1 and external_id = '{names[0]}')"
    made = {"id": "customer_id", "external_id": "p.external_id", "sequential_id": "s"}
    await multiply(connection, "customers", made, f"t.org_id = $1 and t.id = {first}", org_id)
    made = {"id": "subscription_id", "external_id": "subscription_id::text", "customer_id": "p.customer_id"}
    await multiply(connection, "subscriptions", made, f"t.org_id = $1 and t.customer_id = {first}", org_id)
    own = f"(select id from subscriptions where org_id = $1 and customer_id = {first})"
    made = {"subscription_id": "p.subscription_id"}
    await multiply(connection, "usage_counters", made, f"t.org_id = $1 and t.subscription_id = {own}", org_id)
    await connection.execute("drop table people")
    await connection.execute("vacuum analyze")


async def grant(
    server: Server, organization: Organization, names: list[str], *, credits_each: int = CREDITS
) -> None:
    """Give customers credits, in one grant each that never expires."""
    await client.send_all_good(
        server.port,
        [
            _post(f"/api/v1/credits/{name}/grants", organization.key, {"amount": credits_each})
            for name in names
        ],
    )


def event(name: str, number: int = 0) -> dict[str, object]:
    """An event of a customer, with a fresh id, at the time of its arrival."""
    properties = {
        "model": MODELS[number % len(MODELS)],
        "input_tokens": INPUT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
    }
    return {
        "transaction_id": f"req_{FRESH_ID}",
        "customer_id": name,
        "metric_code": "llm_tokens",
        "properties": properties,
    }


async def send_events(server: Server, organization: Organization, names: list[str]) -> None:
    """One event for each customer."""
    events = [event(name, number) for number, name in enumerate(names)]
    batch = _post("/api/v1/events/batch", organization.key, {"events": events})
    await client.send_all_good(server.port, [fill(batch)])


def json_text(value: object) -> str:
    """JSON as a caller sends it, `FRESH_ID` left in place."""
    return msgspec.json.encode(value).decode().replace("\\u001f", FRESH_ID)


def _post(path: str, key: str, value: object) -> str:
    return post(path, key, json_text(value))


async def copy_rows(connection: asyncpg.Connection, source: str, target: str) -> None:
    """Make the organization `target` with the catalog, customers and credits of `source`: the same ids, its own rows."""
    async with connection.transaction():
        await connection.execute(
            "insert into organizations (id, name, mode, created_at) values ($1, 'yardstick', 'test', now())",
            target,
        )
        for table in _COPIED:
            columns = await connection.fetchval(
                """select string_agg(quote_ident(attname), ', ') from pg_attribute
                   where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attname <> 'org_id'""",
                table,
            )
            await connection.execute(
                f"insert into {table} (org_id, {columns}) select $2::uuid, {columns} from {table} where org_id = $1::uuid",
                source,
                target,
            )
    await connection.execute("vacuum analyze")
