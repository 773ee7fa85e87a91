"""What only looks writes nothing, and what belongs to others cannot be told from what does not exist (A04).

Both are asked of every endpoint in the table, so that a new one is covered when it is declared.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from nozle_server.api.endpoint import Endpoint, Scope
from nozle_server.api.table import ENDPOINTS
from nozle_server.core import json
from world import World, audit

pytestmark = pytest.mark.database

CORE = "/core/api/v1"
UNKNOWN = "01a20332-ba2d-7000-8fbd-e32ce2e74783"


async def a_life(world: World) -> Mapping[str, str]:
    """A customer with something of everything; the ids by the word that paths have for it."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.post(
        CORE + "/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    price: dict[str, Any] = {
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "0.01"},
    }
    charges = [price, {**price, "pay_in_advance": True}]
    for code, amount in (("low", 10), ("pro", 1000), ("big", 3000)):
        terms = {"pay_in_advance": True, "credits": 5, "usage_thresholds": [{"amount_cents": 100}]}
        await world.a_plan(code=code, amount_cents=amount, charges=charges, **terms)
    coupon = {
        "code": "c",
        "name": "c",
        "coupon_type": "fixed_amount",
        "amount_cents": 700,
        "amount_currency": "USD",
    }
    await world.post(
        CORE + "/coupons", {"coupon": {"frequency": "once", "expiration": "no_expiration", **coupon}}
    )
    await world.a_customer()
    await world.an_entity("agent")
    await world.assign("acme", "pro", "s1")
    wallet = await world.a_wallet(granted_credits="5")
    await world.use("acme", 500, timestamp="2026-01-01T00:00:00Z")
    await world.turn("2026-02-10")
    invoices = (await world.get(CORE + "/invoices"))["invoices"]
    invoice = next(one for one in invoices if one["total_amount_cents"] > 100)
    fees = (await world.get(f"{CORE}/invoices/{invoice['lago_id']}"))["invoice"]["fees"]
    fee = next(one for one in fees if one["amount_cents"] > 0)
    return {"invoices": invoice["lago_id"], "fees": fee["lago_id"], "wallets": wallet["lago_id"]}


async def every_row(world: World) -> dict[str, list[str]]:
    """All of the organization's rows, by table."""
    tables = await world.fetch(
        """select table_name from information_schema.columns join information_schema.tables using (table_schema, table_name)
           where table_schema = 'public' and column_name = 'org_id' and table_type = 'BASE TABLE' and $1::uuid is not null"""
    )
    return {
        row["table_name"]: sorted(
            str(tuple(one))
            for one in await world.fetch(f"select * from {row['table_name']} where org_id = $1")
        )
        for row in tables
    }


# Parts of a path that choose among words which everybody knows: they name nothing of anybody's.
WORDS = {"interval": "day", "scope": "plan"}


def _path(endpoint: Endpoint, ids: Mapping[str, str], names: Mapping[str, str], otherwise: str) -> str:
    """The endpoint's path with these ids and names in it."""

    def fill(match: re.Match[str]) -> str:
        if match[1] in ("id", "migration_id", "applied_coupon_id", "filter_id"):
            return next((ids[word] for word in ids if word in endpoint.path), otherwise)
        return {**names, **WORDS}.get(match[1], otherwise)

    return endpoint.mounts[0].value + re.sub(r"\{(\w+)\}", fill, endpoint.path)


def _names(endpoint: Endpoint) -> dict[str, str]:
    external = "acme" if "customer" in endpoint.path else "s1"
    named = {"external_id": external, "external_customer_id": "acme", "customer_id": "acme", "code": "pro"}
    return named | {"metric_code": "tokens", "entity_id": "agent"}


async def test_what_only_looks_writes_nothing(world: World) -> None:
    ids = await a_life(world)
    before = await every_row(world)
    event = {
        "transaction_id": "e",
        "external_subscription_id": "s1",
        "code": "tokens",
        "properties": {"n": 900},
    }
    running = {"customer": {"external_id": "acme"}, "subscriptions": {"external_ids": ["s1"]}}
    item = {"fee_id": ids["fees"], "amount_cents": 5}
    for path, body in (
        ("/api/v1/subscriptions/preview", {"customer_id": "acme", "plan_code": "big"}),
        ("/api/v1/subscriptions/preview", {"customer_id": "acme", "plan_code": "low"}),
        (CORE + "/invoices/preview", running),
        (
            CORE + "/invoices/preview",
            {**running, "subscriptions": {"external_ids": ["s1"], "plan_code": "big"}},
        ),
        (
            CORE + "/invoices/preview",
            {
                "customer": {"external_id": "acme", "name": "New"},
                "plan_code": "big",
                "coupons": [{"code": "c"}],
            },
        ),
        (CORE + "/invoices/preview", {"customer": {"name": "New"}, "plan_code": "big"}),
        (CORE + "/events/estimate_fees", {"event": event}),
        (CORE + "/events/estimate_instant_fees", {"event": event}),
        (CORE + "/events/batch_estimate_instant_fees", {"events": [event]}),
        (CORE + "/credit_notes/estimate", {"credit_note": {"invoice_id": ids["invoices"], "items": [item]}}),
    ):
        await world.post(path, body)
    seen = 0
    query = "?customer_id=acme&external_subscription_id=s1&feature=chat&currency=USD&from=2026-01-01&to=2026-02-01"
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET" and endpoint.scope is not Scope.PUBLIC:
            answer = await world.call("GET", _path(endpoint, ids, _names(endpoint), "acme") + query)
            seen += answer.status == 200
    assert seen > 50
    assert await every_row(world) == before
    await audit(world)


async def test_what_is_another_tenants_is_as_if_it_did_not_exist(world: World, other_world: World) -> None:
    ids = await a_life(world)
    before = await every_row(world)
    for endpoint in ENDPOINTS:
        if endpoint.scope is Scope.PUBLIC or "{" not in endpoint.path:
            continue
        body = json.loads(json.dumps(endpoint.example.request)) if endpoint.body else None
        names = _names(endpoint)
        answers = []
        for path in (_path(endpoint, ids, names, UNKNOWN), _path(endpoint, {}, {}, UNKNOWN)):
            headers = {"Idempotency-Key": "k"} if endpoint.key_required else None
            answer = await other_world.call(endpoint.method, path, body, headers=headers)
            told = answer.body.decode()
            for word in {*ids.values(), *names.values(), UNKNOWN}:
                told = told.replace(word, "*")
            answers.append((answer.status, told))
        assert answers[0] == answers[1], endpoint
        assert answers[0][0] in (404, 405), (endpoint, answers)
    assert await every_row(world) == before
