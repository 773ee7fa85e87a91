"""Move the subscribers of a plan to another of its versions, each when its billing period ends.

A subscription that moves is followed by one on the target version, as by a downgrade: same external id, anchor and trial,
and both are billed for what is theirs. What a subscription has otherwise than its plan, it keeps.
"""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Plan, PlanVersion
from nozle_server.catalog.plan_terms import rebase_overrides
from nozle_server.catalog.queries import get_plan, get_version_of_plan, unknown_plan
from nozle_server.core.errors import Conflict, InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import lifecycle, store
from nozle_server.subscriptions import version_migration_store as migrations
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.version_migration import MigrationStatus, VersionMigration
from nozle_server.subscriptions.version_moves import (
    Move,
    Subscriber,
    newest_by_predecessor,
    plan_moves,
)


async def preview_migration(
    tx: Tx, *, org_id: UUID, code: str, from_version: int, to_version: int | None, now: datetime
) -> tuple[PlanVersion, list[tuple[Move, int]]]:
    """The target version, and what a migration would do: each move with the fixed fee that follows it, in minor units."""
    plan = await get_plan(tx, org_id, code)
    target = await _target(tx, plan, from_version, to_version)
    found = await migrations.list_subscribers(tx, org_id, plan.id, from_version, target.id)
    moves = plan_moves(await _subscribers(tx, plan, found), target, now)
    return target, [
        (move, (await _version_for(tx, move.subscriber, target, now)).amount_cents) for move in moves
    ]


async def start_migration(
    tx: Tx, *, org_id: UUID, code: str, from_version: int, to_version: int | None, now: datetime
) -> VersionMigration:
    """Have the subscribers of a version move; Conflict `migration_running` while another of the plan is not done."""
    await hold_subscribers(tx, org_id=org_id, code=code)
    plan = await plan_store.lock_plan(tx, org_id, parse_id(code, "code"))
    if plan is None:
        raise unknown_plan()
    target = await _target(tx, plan, from_version, to_version)
    for one in await migrations.list_migrations(tx, org_id, plan.id):
        if one.status is MigrationStatus.RUNNING:
            raise Conflict("a migration of this plan is running", code="migration_running")
    return await _migrate(tx, plan, from_version, target, now)


async def hold_subscribers(tx: Tx, *, org_id: UUID, code: str) -> None:
    """Hold a plan's subscribers before the plan itself, in the order in which everybody takes them."""
    plan = await get_plan(tx, org_id, code)
    await migrations.lock_subscribers(tx, org_id, plan.id)


async def cascade(tx: Tx, plan: Plan, now: datetime) -> VersionMigration:
    """Have all subscribers of a plan, whose row the caller holds, move to its current version. Those that were about to
    move to another version move to this one."""
    return await _migrate(tx, plan, None, plan.current, now)


async def list_migrations(tx: Tx, *, org_id: UUID, code: str) -> list[VersionMigration]:
    """All migrations of a plan, newest first."""
    plan = await get_plan(tx, org_id, code)
    return await migrations.list_migrations(tx, org_id, plan.id)


async def get_migration(tx: Tx, *, org_id: UUID, code: str, migration_id: str) -> VersionMigration:
    """NotFound `plan_version_migration_not_found`."""
    plan = await get_plan(tx, org_id, code)
    try:
        found = await migrations.find_migration(tx, org_id, plan.id, UUID(migration_id))
    except ValueError:
        found = None
    if found is None:
        raise NotFound("migration not found", code="plan_version_migration_not_found")
    return found


async def cancel_migration(
    tx: Tx, *, org_id: UUID, code: str, migration_id: str, now: datetime
) -> VersionMigration:
    """Call off what has not moved; Conflict `migration_not_running` when nothing is left to."""
    await hold_subscribers(tx, org_id=org_id, code=code)
    if await plan_store.lock_plan(tx, org_id, parse_id(code, "code")) is None:
        raise unknown_plan()
    migration = await get_migration(tx, org_id=org_id, code=code, migration_id=migration_id)
    if migration.status is not MigrationStatus.RUNNING:
        raise Conflict("the migration is not running", code="migration_not_running")
    await migrations.cancel_migration(tx, org_id, migration.id, now)
    return await get_migration(tx, org_id=org_id, code=code, migration_id=migration_id)


async def _target(tx: Tx, plan: Plan, from_version: int, to_version: int | None) -> PlanVersion:
    source = await get_version_of_plan(tx, plan, from_version)
    target = plan.current if to_version is None else await get_version_of_plan(tx, plan, to_version)
    if source.id == target.id:
        raise InvalidInput(
            "from_version and to_version are the same", details={"to_version": ["value_is_invalid"]}
        )
    return target


async def _migrate(
    tx: Tx, plan: Plan, from_version: int | None, target: PlanVersion, now: datetime
) -> VersionMigration:
    org_id, migration_id = plan.org_id, new_id()
    await migrations.lock_subscribers(tx, org_id, plan.id)  # those who came before the plan was held
    found = await migrations.list_subscribers(tx, org_id, plan.id, from_version, target.id)
    moves = plan_moves(await _subscribers(tx, plan, found), target, now)
    await migrations.insert_migration(
        tx,
        org_id=org_id,
        migration_id=migration_id,
        plan_id=plan.id,
        from_version=from_version,
        to_version_id=target.id,
        now=now,
    )
    items = []
    for move in moves:
        follower = None if move.skip_reason else await _make(tx, move, target, now)
        items.append((move.subscriber.subscription.id, follower, move.skip_reason, move.effective_at))
    await migrations.insert_items(tx, org_id, migration_id, items)
    migration = await migrations.find_migration(tx, org_id, plan.id, migration_id)
    assert migration is not None, "it was stored just now"
    return migration


async def _make(tx: Tx, move: Move, target: PlanVersion, now: datetime) -> UUID:
    """The subscription that will be on the target version."""
    subscription = move.subscriber.subscription
    version = await _version_for(tx, move.subscriber, target, now)
    if version.id != target.id:
        await plan_store.add_version(tx, version)
    if move.replans is not None:
        await store.update(tx, lifecycle.replanned(move.replans, version, now))
        return move.replans.id
    assert move.effective_at is not None, "a subscription that moves does so at an instant"
    follower = lifecycle.following(
        subscription,
        version,
        at=move.effective_at,
        name=subscription.name,
        ending_at=subscription.ending_at,
        now=now,
    )
    await store.insert(tx, follower)
    return follower.id


async def _version_for(tx: Tx, one: Subscriber, target: PlanVersion, now: datetime) -> PlanVersion:
    if one.version.overrides is None:
        return target
    base = await plan_store.get_plan_version(tx, target.org_id, one.version.overrides)
    return rebase_overrides(one.version, base, target, now)


async def _subscribers(tx: Tx, plan: Plan, found: list[tuple[Subscription, str]]) -> list[Subscriber]:
    versions = await plan_store.get_plan_versions(
        tx, plan.org_id, sorted({one.plan_version_id for one, _ in found})
    )
    pending = await migrations.list_pending_followers(tx, plan.org_id, [one.id for one, _ in found])
    followers = newest_by_predecessor(pending)
    return [
        Subscriber(one, customer, versions[one.plan_version_id], followers.get(one.id))
        for one, customer in found
    ]
