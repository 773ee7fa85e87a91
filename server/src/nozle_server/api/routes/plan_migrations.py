"""Moving a plan's subscribers to another of its versions (contract 4.8), in Core's form."""

from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.core.periods import local_date
from nozle_server.subscriptions.version_migration import ItemStatus, MigrationItem, VersionMigration
from nozle_server.subscriptions.version_migration_store import list_items
from nozle_server.workflows import migrate_version

_MOVE_STATUS = {
    ItemStatus.PENDING: "scheduled",
    ItemStatus.SUCCEEDED: "applied",
    ItemStatus.CANCELED: "canceled",
    ItemStatus.SKIPPED: None,
}


class VersionMigrationBody(msgspec.Struct):
    """From which version to which; `to_version` left out: to the current one."""

    from_version: int
    to_version: int | None = None


def migration_json(migration: VersionMigration) -> dict[str, object]:
    return {
        "lago_id": migration.id,
        "nozle_id": migration.id,
        "plan_code": migration.plan_code,
        "from_version": migration.from_version,
        "to_version": migration.to_version,
        "status": migration.status,
        "matched_count": migration.matched_count,
        "succeeded_count": migration.succeeded_count,
        "skipped_count": migration.skipped_count,
        # A move is a subscription of its own that begins; when its bill fails, that is told by the invoice.
        "failed_count": 0,
        "started_at": migration.created_at,
        "finished_at": migration.finished_at,
        "canceled_at": migration.canceled_at,
        "created_at": migration.created_at,
    }


def item_json(item: MigrationItem) -> dict[str, object]:
    return {
        "external_subscription_id": item.external_subscription_id,
        "external_customer_id": item.external_customer_id,
        "status": item.status,
        "skip_reason": item.skip_reason,
        "error": None,
        "effective_at": item.effective_at,
        "move_status": _MOVE_STATUS[item.status],
    }


async def preview(call: Call) -> object:
    body: VersionMigrationBody = call.body
    target, moves = await migrate_version.preview_migration(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        from_version=body.from_version,
        to_version=body.to_version,
        now=call.now,
    )
    items = []
    for move, new_amount_cents in moves:
        one = move.subscriber
        zone = one.subscription.timezone
        items.append(
            {
                "external_subscription_id": one.subscription.external_id,
                "external_customer_id": one.external_customer_id,
                "outcome": "skip" if move.skip_reason else "move",
                "skip_reason": move.skip_reason,
                "effective_on": move.effective_at and local_date(move.effective_at, zone),
                "current_amount_cents": one.version.amount_cents,
                "new_amount_cents": one.version.amount_cents if move.skip_reason else new_amount_cents,
            }
        )
    return {
        "plan_version_migration_preview": {
            "plan_code": call.path["code"],
            "from_version": body.from_version,
            "to_version": target.version,
            "items": items,
        }
    }


async def start(call: Call) -> object:
    body: VersionMigrationBody = call.body
    migration = await migrate_version.start_migration(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        from_version=body.from_version,
        to_version=body.to_version,
        now=call.now,
    )
    await rights_changed(call)
    return {"plan_version_migration": migration_json(migration)}


async def index(call: Call) -> object:
    migrations = await migrate_version.list_migrations(call.tx, org_id=call.org_id, code=call.path["code"])
    return {"plan_version_migrations": [migration_json(one) for one in migrations]}


async def show(call: Call) -> object:
    migration = await migrate_version.get_migration(
        call.tx, org_id=call.org_id, code=call.path["code"], migration_id=call.path["migration_id"]
    )
    return await _with_items(call, migration)


async def cancel(call: Call) -> object:
    migration = await migrate_version.cancel_migration(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        migration_id=call.path["migration_id"],
        now=call.now,
    )
    await rights_changed(call)
    return await _with_items(call, migration)


async def _with_items(call: Call, migration: VersionMigration) -> object:
    items = await list_items(call.tx, call.org_id, migration.id)
    return {
        "plan_version_migration": {**migration_json(migration), "items": [item_json(one) for one in items]}
    }


_ONE = shape(plan_version_migration=ANY_OBJECT)
_SENT = {"from_version": 1, "to_version": 2}
_MIGRATION: dict[str, object] = {
    "nozle_id": "0198c4a5-5e8e-7c1e-8f4e-8a4d1f6f8f10",
    "plan_code": "pro",
    "from_version": 1,
    "to_version": 2,
    "status": "running",
    "matched_count": 1,
    "succeeded_count": 0,
    "skipped_count": 0,
    "failed_count": 0,
    "started_at": "2026-01-10T00:00:00Z",
    "finished_at": None,
    "canceled_at": None,
    "created_at": "2026-01-10T00:00:00Z",
}
_ITEM = {
    "external_subscription_id": "sub_1",
    "external_customer_id": "acme",
    "status": "pending",
    "skip_reason": None,
    "error": None,
    "effective_at": "2026-02-01T00:00:00Z",
    "move_status": "scheduled",
}
_PREVIEW = {
    "plan_code": "pro",
    "from_version": 1,
    "to_version": 2,
    "items": [
        {
            "external_subscription_id": "sub_1",
            "external_customer_id": "acme",
            "outcome": "move",
            "skip_reason": None,
            "effective_on": "2026-02-01",
            "current_amount_cents": 4900,
            "new_amount_cents": 5900,
        }
    ],
}


def _endpoint(method: str, path: str, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path="/plans/{code}/version-migrations" + path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Plans",
        **more,
    )


ENDPOINTS = (
    _endpoint(
        "POST",
        "/preview",
        preview,
        "Preview a migration between versions of a plan",
        description="Who would move, when, and from which fixed fee to which; nothing is stored.",
        body=VersionMigrationBody,
        reply_schema=shape(plan_version_migration_preview=ANY_OBJECT),
        errors=(404, 422),
        example=Example(request=_SENT, response={"plan_version_migration_preview": _PREVIEW}),
    ),
    _endpoint(
        "POST",
        "",
        start,
        "Migrate subscribers to another version of a plan",
        description=(
            "Each subscription moves when its billing period ends, and keeps what it has otherwise than the plan. One"
            " that is about to end or to change plans is skipped."
        ),
        body=VersionMigrationBody,
        reply_schema=_ONE,
        errors=(404, 409, 422),
        idempotent=True,
        example=Example(request=_SENT, response={"plan_version_migration": _MIGRATION}),
    ),
    _endpoint(
        "GET",
        "",
        index,
        "List a plan's migrations",
        description="Newest first.",
        reply_schema=shape(plan_version_migrations=array(ANY_OBJECT)),
        errors=(404,),
        example=Example(response={"plan_version_migrations": [_MIGRATION]}),
    ),
    _endpoint(
        "GET",
        "/{migration_id}",
        show,
        "Get a migration with what becomes of each subscription",
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"plan_version_migration": {**_MIGRATION, "items": [_ITEM]}}),
    ),
    _endpoint(
        "POST",
        "/{migration_id}/cancel",
        cancel,
        "Cancel a migration",
        description="What has moved stays; the rest keeps its version.",
        reply_schema=_ONE,
        errors=(404, 409),
        example=Example(
            response={"plan_version_migration": {**_MIGRATION, "status": "canceled", "items": [_ITEM]}}
        ),
    ),
)
