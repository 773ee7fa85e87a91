"""The net under every test with a world (`announced.py`) catches: what `can()` reads does not change in silence."""

from typing import Any

import pytest

import announced
from nozle_server.entitlements.news import USAGE_COUNTED, rights_of_everybody
from nozle_server.infra.change_bus import Change
from nozle_server.workflows.announce import usage_counted
from world import World

pytestmark = pytest.mark.database

# Past the product, of the organization $1: a change of each table that `can()` reads.
SILENT = {
    "UPDATE organizations of everybody": "update organizations set min_margin_percent = 7 where id = $1",
    "UPDATE features of everybody": "update features set code = 'other' where org_id = $1 and code = 'chat'",
    "UPDATE billable_metrics of everybody": (
        "update billable_metrics set rounding_function = 'ceil' where org_id = $1 and code = 'tokens'"
    ),
    "DELETE plan_entitlements of everybody": "delete from plan_entitlements where org_id = $1",
    "UPDATE cost_models of everybody": "update cost_models set name = 'other' where org_id = $1",
    "UPDATE customers of acme": "update customers set deleted_at = now() where org_id = $1",
    "UPDATE subscriptions of acme": "update subscriptions set ending_at = now() where org_id = $1",
    "INSERT subscription_entitlements of acme": (
        "insert into subscription_entitlements (org_id, subscription_id, feature_id, removed)"
        " select s.org_id, s.id, f.id, true from subscriptions s join features f using (org_id) where s.org_id = $1"
    ),
    "UPDATE usage_counters of acme": "update usage_counters set units = units + 1 where org_id = $1",
    "UPDATE entities of acme": "update entities set status = 'suspended' where org_id = $1",
}


async def _a_subscriber(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_plan(entitlements={"chat": {"limit": 10}})
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_customer()
    await world.an_entity()
    await world.subscribe("acme", "pro")
    await world.use("acme", 1)


async def _forgotten(world: World) -> list[str]:
    async with world.database.transaction() as tx:
        return await announced.unannounced(tx, world.org_id)


async def _stale(world: World) -> list[str]:
    async with world.database.transaction() as tx:
        return await announced.stale(tx, world.services.snapshots, world.org_id)


async def _write(world: World, sql: str, *news: Change) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(sql, world.org_id)
        for change in news:
            await world.services.bus.publish(tx, change)


@pytest.mark.parametrize("what", SILENT)
async def test_a_silent_change_is_found(world: World, what: str) -> None:
    """So is what is kept of the customer and is not true any more. Entities are kept beside it, and cost models are never
    changed, only ended."""
    await _a_subscriber(world)
    await world.can("acme")
    assert (await _forgotten(world), await _stale(world)) == ([], [])
    await _write(world, SILENT[what])
    beside = "entities" in what or "cost_models" in what
    assert (await _forgotten(world), await _stale(world)) == ([what], [] if beside else ["acme"])
    world.services.snapshots.forget_all()


async def test_news_of_others_do_not_tell_of_it(world: World) -> None:
    """Nor do news of another transaction, or of one customer where anybody may be concerned."""
    await _a_subscriber(world)
    everybody = rights_of_everybody(world.org_id)
    of_acme = usage_counted(world.org_id, ["acme"])
    told: list[tuple[str, list[Any], bool]] = [
        ("UPDATE usage_counters of acme", [usage_counted(world.org_id, ["beta"])], False),
        ("UPDATE usage_counters of acme", [Change(world.org_id, "invoice.created", "1")], False),
        ("UPDATE usage_counters of acme", [of_acme], True),
        ("UPDATE usage_counters of acme", [everybody], True),
        ("UPDATE features of everybody", [of_acme], False),
        ("UPDATE features of everybody", [everybody, of_acme], True),
    ]
    for what, news, enough in told:
        await _write(world, SILENT[what], *news)
        assert await _forgotten(world) == ([] if enough else [what])
        if "features" in what:
            await world.fetch("update features set code = 'chat' where org_id = $1 and code = 'other'")


async def test_usage_is_told_to_everybody_with_the_event(world: World) -> None:
    """Whether or not somebody watches it: any process may keep what the customer may do. One fact tells of a whole batch."""
    await _a_subscriber(world)
    await world.a_customer("beta")
    await world.subscribe("beta", "pro")
    before = await world.fetch("select id from outbox where org_id = $1 and kind = $2", USAGE_COUNTED)
    events = [
        {
            "transaction_id": f"{customer}-{n}",
            "external_customer_id": customer,
            "code": "tokens",
            "properties": {"n": 1},
        }
        for n in range(3)
        for customer in ("beta", "acme")
    ]
    await world.post("/api/v1/events/batch", {"events": events})
    rows = await world.fetch(
        "select payload from outbox where org_id = $1 and kind = $2 and not id = any($3)",
        USAGE_COUNTED,
        [row["id"] for row in before],
    )
    assert [row["payload"] for row in rows] == [{"external_customer_ids": ["acme", "beta"]}]
