"""Subscribers keep their version of a plan until they are migrated, and then move when their billing period ends."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

import announced
from nozle_server.catalog import plan_store
from nozle_server.catalog.drafts import ChargeOverride, PlanOverrides
from nozle_server.catalog.operations.plans import override_version
from nozle_server.catalog.queries import get_plan
from nozle_server.core.errors import NotFound
from nozle_server.customers.queries import lock_customer
from nozle_server.identity.queries import get_time
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.workflows.change_plan import change_plan
from world import World

pytestmark = pytest.mark.database

PLANS = "/core/api/v1/plans"
PATH = f"{PLANS}/pro/version-migrations"
CHARGE = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}


async def two_versions(world: World, **more: Any) -> None:
    """A plan of 49.00 and a cent a token, with acme on it; then one of 59.00 and two cents."""
    await world.turn("2026-01-10")
    await world.a_metric()
    await world.a_plan(amount_cents=4900, charges=[CHARGE], **more)
    await world.a_customer()
    await world.subscribe("acme", "pro", billing_time="calendar")
    dearer = {**CHARGE, "properties": {"amount": "0.02"}}
    answer = await world.call("PUT", f"{PLANS}/pro", {"plan": {"amount_cents": 5900, "charges": [dearer]}})
    assert answer.json["plan"]["version"] == 2


async def put_on(world: World, customer: str, code: str) -> None:
    """Change the customer's plan: to a dearer one at once, to a cheaper one at the period's end."""

    async def change(tx: Tx) -> None:
        now = await get_time(tx, world.org_id, datetime.now(UTC))
        held = await lock_customer(tx, world.org_id, customer)
        found = await subscriptions_store.list_of_customer(tx, world.org_id, held.id)
        [running] = [one for one in found if one.status is Status.ACTIVE]
        version = (await get_plan(tx, world.org_id, code)).current
        await change_plan(tx, world.services.seams, subscription=running, version=version, now=now)

    await world.database.run(change)


async def migrate(world: World, **more: Any) -> dict[str, Any]:
    made = (await world.post(PATH, {"from_version": 1, **more}))["plan_version_migration"]
    assert isinstance(made, dict)
    return made


async def shown(world: World, migration: dict[str, Any]) -> tuple[str, list[tuple[Any, ...]]]:
    """Its status, and (customer, status, reason, when, how the move stands) of each item."""
    found = (await world.get(f"{PATH}/{migration['nozle_id']}"))["plan_version_migration"]
    names = ("external_customer_id", "status", "skip_reason", "effective_at", "move_status")
    return found["status"], [tuple(item[name] for name in names) for item in found["items"]]


async def version_counts(world: World) -> list[int]:
    versions = (await world.get(f"{PLANS}/pro/versions"))["versions"]
    return [one["active_subscriptions_count"] for one in versions]


@pytest.mark.parametrize("in_advance", [False, True])
async def test_a_subscriber_moves_when_its_period_ends(world: World, in_advance: bool) -> None:
    """Until then it is billed by the old version, from then on by the new one: nothing twice, nothing left out."""
    await two_versions(world, pay_in_advance=in_advance)
    preview = await world.post(f"{PATH}/preview", {"from_version": 1})
    external_id = (await world.get("/core/api/v1/subscriptions"))["subscriptions"][0]["external_id"]
    assert preview["plan_version_migration_preview"] == {
        "plan_code": "pro",
        "from_version": 1,
        "to_version": 2,
        "items": [
            {
                "external_subscription_id": external_id,
                "external_customer_id": "acme",
                "outcome": "move",
                "skip_reason": None,
                "effective_on": "2026-02-01",
                "current_amount_cents": 4900,
                "new_amount_cents": 5900,
            }
        ],
    }
    assert (await world.get(PATH)) == {"plan_version_migrations": []}
    migration = await migrate(world, to_version=2)
    assert (migration["status"], migration["matched_count"], migration["finished_at"]) == ("running", 1, None)
    await world.use("acme", 100)
    when = "2026-02-01T00:00:00Z"
    assert await shown(world, migration) == ("running", [("acme", "pending", None, when, "scheduled")])
    assert (await world.call("POST", PATH, {"from_version": 1})).code == "migration_running"
    assert await version_counts(world) == [1, 0]
    await world.turn("2026-02-01")
    assert await shown(world, migration) == ("succeeded", [("acme", "succeeded", None, when, "applied")])
    assert (await world.get(PATH))["plan_version_migrations"][0]["finished_at"] == when
    assert await version_counts(world) == [0, 1]
    amounts = [amount for _, amount in await world.lines("acme")]
    # 22 of January's 31 days of the old fee, where it was not paid in advance; 100 tokens at the old price.
    assert sorted(amounts) == sorted([100, 5900] if in_advance else [100, 3477])
    await world.use("acme", 100)
    await world.turn("2026-03-01")
    assert sorted(amount for _, amount in await world.lines("acme")) == [200, 5900]
    [subscription] = (await world.get("/core/api/v1/subscriptions"))["subscriptions"]
    assert (subscription["external_id"], subscription["plan_code"]) == (external_id, "pro")


async def test_a_canceled_migration_leaves_the_version_as_it_was(world: World) -> None:
    await two_versions(world)
    migration = await migrate(world)
    canceled = (await world.post(f"{PATH}/{migration['nozle_id']}/cancel", None))["plan_version_migration"]
    assert (canceled["status"], canceled["canceled_at"]) == ("canceled", "2026-01-10T00:00:00Z")
    assert [(one["status"], one["move_status"]) for one in canceled["items"]] == [("canceled", "canceled")]
    again = await world.call("POST", f"{PATH}/{migration['nozle_id']}/cancel")
    assert (again.status, again.code) == (409, "migration_not_running")
    await world.turn("2026-03-01")
    assert await version_counts(world) == [1, 0]
    assert [amount for _, amount in await world.lines("acme")] == [4900, 0]
    assert (await migrate(world))["status"] == "running"


async def test_who_cannot_move_is_skipped_with_the_reason(world: World) -> None:
    """One that ends with its period, and one that is about to change plans, are left alone."""
    await two_versions(world)
    await world.a_plan(code="free", amount_cents=0)
    for customer in ("ending", "leaving"):
        await world.a_customer(customer)
    await world.call("PUT", f"{PLANS}/pro", {"plan": {"amount_cents": 4900, "charges": [CHARGE]}})
    await world.subscribe("ending", "pro", billing_time="calendar", ending_at="2026-01-20T00:00:00Z")
    await world.subscribe("leaving", "pro", billing_time="calendar")
    await world.call("PUT", f"{PLANS}/pro", {"plan": {"amount_cents": 6900}})
    await put_on(world, "leaving", "free")
    migration = (await world.post(PATH, {"from_version": 3}))["plan_version_migration"]
    assert (migration["matched_count"], migration["skipped_count"], migration["status"]) == (
        2,
        2,
        "succeeded",
    )
    assert await shown(world, migration) == (
        "succeeded",
        [
            ("ending", "skipped", "subscription_is_ending", None, None),
            ("leaving", "skipped", "plan_change_pending", None, None),
        ],
    )


async def test_a_change_of_plan_meanwhile_stands_above_the_migration(world: World) -> None:
    await two_versions(world)
    migration = await migrate(world)
    await world.a_plan(code="max", amount_cents=9900)
    await put_on(world, "acme", "max")
    status, [item] = await shown(world, migration)
    assert (status, item[1], item[2]) == ("succeeded", "skipped", "subscription_changed")
    await world.turn("2026-02-01")
    [subscription] = (await world.get("/core/api/v1/subscriptions"))["subscriptions"]
    assert subscription["plan_code"] == "max"


async def test_what_cannot_be_migrated_is_refused(world: World, other_world: World) -> None:
    await two_versions(world)
    for body, status, code in (
        ({"from_version": 9}, 404, "plan_version_not_found"),
        ({"from_version": 1, "to_version": 9}, 404, "plan_version_not_found"),
        ({"from_version": 2}, 422, "validation_errors"),
        ({}, 422, "validation_errors"),
    ):
        for path in (PATH, f"{PATH}/preview"):
            answer = await world.call("POST", path, body)
            assert (answer.status, answer.code) == (status, code)
    assert (await other_world.call("POST", PATH, {"from_version": 1})).code == "plan_not_found"
    migration = await migrate(world)
    await other_world.a_plan()
    for target in (migration["nozle_id"], "none"):
        answer = await other_world.call("GET", f"{PATH}/{target}")
        assert (answer.status, answer.code) == (404, "plan_version_migration_not_found")


async def test_cascade_updates_takes_the_subscribers_along(world: World) -> None:
    """Lago's switch: with it a change reaches those who have subscribed, here when their period ends; a second change
    before that reaches them in the same move."""
    await two_versions(world)
    path = f"{PLANS}/pro/charges/tokens"
    await world.call("PUT", path, {"charge": {"properties": {"amount": "0.03"}}})
    assert (await world.get(PATH))["plan_version_migrations"] == []
    await world.call("PUT", path, {"charge": {"properties": {"amount": "0.04"}, "cascade_updates": True}})
    await world.call("PUT", f"{PLANS}/pro", {"plan": {"amount_cents": 6900, "cascade_updates": True}})
    newest, before = (await world.get(PATH))["plan_version_migrations"]
    assert (newest["from_version"], newest["to_version"], before["to_version"]) == (None, 5, 4)
    await world.turn("2026-02-01")
    await world.use("acme", 100)
    await world.turn("2026-03-01")
    assert sorted(amount for _, amount in await world.lines("acme")) == [400, 6900]
    assert await version_counts(world) == [0, 0, 0, 0, 1]
    rows = await world.fetch("select count(*) from subscriptions where org_id = $1")
    assert rows[0][0] == 2
    removed = await world.call("DELETE", path, {"charge": {"cascade_updates": True}})
    assert removed.status == 200
    await world.turn("2026-05-01")
    assert [amount for _, amount in await world.lines("acme")] == [6900]


async def overridden(world: World, overrides: PlanOverrides) -> Any:
    """The plan's current version as one subscription has it, put on acme's."""
    async with world.database.transaction() as tx:
        plan = await plan_store.find_plan(tx, world.org_id, "pro")
        assert plan is not None
        version = await override_version(tx, base=plan.current, overrides=overrides, now=plan.created_at)
        await tx.execute(
            "update subscriptions set plan_version_id = $2 where org_id = $1", world.org_id, version.id
        )
        await announced.overlook(tx)
    return version


async def test_what_a_subscription_has_otherwise_it_keeps(world: World) -> None:
    """An agreed price stays through a migration; what was not agreed follows the plan, new charges included."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_metric(code="calls", how="count_agg")
    await world.a_plan(amount_cents=4900, charges=[CHARGE, {**CHARGE, "code": "more"}])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    plan = (await world.get(f"{PLANS}/pro"))["plan"]
    agreed = ChargeOverride(id=UUID(plan["charges"][0]["lago_id"]), properties={"amount": "0.005"})
    version = await overridden(world, PlanOverrides(amount_cents=1900, name="For acme", charges=[agreed]))
    assert (version.version, version.invoice_display_name) == (1, "For acme")
    assert [str(one.id) for one in version.charges] == [one["lago_id"] for one in plan["charges"]]
    assert await version_counts(world) == [1]
    dearer = [{"id": one["lago_id"], "properties": {"amount": "0.10"}} for one in plan["charges"]]
    calls = {**CHARGE, "billable_metric_code": "calls", "properties": {"amount": "1"}}
    change = {"amount_cents": 9900, "charges": [*dearer, calls], "trial_period": 3}
    assert (await world.call("PUT", f"{PLANS}/pro", {"plan": change})).status == 200
    preview = (await world.post(f"{PATH}/preview", {"from_version": 1}))["plan_version_migration_preview"]
    assert [(one["current_amount_cents"], one["new_amount_cents"]) for one in preview["items"]] == [
        (1900, 1900)
    ]
    await migrate(world)
    await world.turn("2026-02-01")
    assert await version_counts(world) == [0, 1]
    async with world.database.transaction() as tx:
        [row] = await tx.fetch(
            "select plan_version_id from subscriptions where org_id = $1 and status = 'active'", world.org_id
        )
        moved = await plan_store.get_plan_version(tx, world.org_id, row["plan_version_id"])
    assert (moved.amount_cents, moved.version, moved.trial_days) == (1900, 2, 3)
    assert [one.metric_code for one in moved.charges] == ["tokens", "tokens", "calls"]
    assert [str(one.model.amount) for one in moved.charges] == ["0.005", "0.1", "1"]  # type: ignore[union-attr]


async def test_overrides_name_what_the_plan_has(world: World) -> None:
    await two_versions(world)
    async with world.database.transaction() as tx:
        plan = await plan_store.find_plan(tx, world.org_id, "pro")
        assert plan is not None
        same = await override_version(tx, base=plan.current, overrides=PlanOverrides(), now=plan.created_at)
        assert same is plan.current
        first = await override_version(
            tx, base=same, overrides=PlanOverrides(amount_cents=1), now=plan.created_at
        )
        second = await override_version(
            tx, base=first, overrides=PlanOverrides(tax_codes=["vat"]), now=plan.created_at
        )
        assert (second.amount_cents, second.tax_codes, second.overrides) == (1, ("vat",), same.id)
        with pytest.raises(NotFound):
            await override_version(
                tx,
                base=same,
                overrides=PlanOverrides(charges=[ChargeOverride(id=plan.id)]),
                now=plan.created_at,
            )
    assert len((await world.get(f"{PLANS}/pro/versions"))["versions"]) == 2
