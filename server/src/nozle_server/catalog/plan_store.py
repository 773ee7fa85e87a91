"""All SQL of plans, their versions and entitlements, and rows <-> values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.catalog.charge_models import charge_model_name, parse_charge_model, to_properties
from nozle_server.catalog.model import (
    Charge,
    ChargeFilter,
    Entitlement,
    Plan,
    PlanVersion,
)
from nozle_server.core.periods import Interval
from nozle_server.infra.database import Tx

_PLAN = """p.org_id, p.id, p.code, p.name, p.description, p.created_at, p.updated_at,
    v.id as version_id, v.version, v.interval, v.amount_cents, v.currency, v.pay_in_advance, v.credits, v.charges,
    v.created_at as version_created_at,
    (select coalesce(jsonb_agg(jsonb_build_object('feature_id', e.feature_id, 'code', f.code, 'privileges', e.privileges)
                     order by f.code), '[]')
       from plan_entitlements e join features f on f.org_id = e.org_id and f.id = e.feature_id
      where e.org_id = p.org_id and e.plan_id = p.id) as entitlements"""

_PLAN_FROM = "from plans p join plan_versions v on v.org_id = p.org_id and v.id = p.current_version_id"


def charges_to_json(charges: Sequence[Charge]) -> list[dict[str, Any]]:
    return [
        {
            "id": charge.id,
            "metric_id": charge.metric_id,
            "metric_code": charge.metric_code,
            "charge_model": charge_model_name(charge.model),
            "properties": to_properties(charge.model),
            "invoice_display_name": charge.invoice_display_name,
            "created_at": charge.created_at,
            "filters": [
                {
                    "id": one.id,
                    "values": one.values,
                    "properties": to_properties(one.model),
                    "invoice_display_name": one.invoice_display_name,
                }
                for one in charge.filters
            ],
        }
        for charge in charges
    ]


def charge_from_json(data: Mapping[str, Any]) -> Charge:
    name = data["charge_model"]
    return Charge(
        id=UUID(data["id"]),
        metric_id=UUID(data["metric_id"]),
        metric_code=data["metric_code"],
        model=parse_charge_model(name, data["properties"]),
        invoice_display_name=data["invoice_display_name"],
        created_at=datetime.fromisoformat(data["created_at"]),
        filters=tuple(
            ChargeFilter(
                id=UUID(one["id"]),
                values={key: tuple(values) for key, values in one["values"].items()},
                model=parse_charge_model(name, one["properties"]),
                invoice_display_name=one["invoice_display_name"],
            )
            for one in data["filters"]
        ),
    )


# Versions are immutable, so a decoded one is right for ever; bounded because an organization may have very many.
_decoded: dict[UUID, PlanVersion] = {}

_DECODED_AT_MOST = 10_000


def plan_version_from_row(row: Mapping[str, Any]) -> PlanVersion:
    """From a row with version_id, plan_id, version, interval, amount_cents, currency, pay_in_advance, credits,
    charges and version_created_at."""
    known = _decoded.get(row["version_id"])
    if known is not None:
        return known
    version = PlanVersion(
        org_id=row["org_id"],
        id=row["version_id"],
        plan_id=row["plan_id"],
        version=row["version"],
        interval=Interval(row["interval"]),
        amount_cents=row["amount_cents"],
        currency=row["currency"],
        pay_in_advance=row["pay_in_advance"],
        credits=row["credits"],
        charges=tuple(charge_from_json(one) for one in row["charges"]),
        created_at=row["version_created_at"],
    )
    if len(_decoded) >= _DECODED_AT_MOST:
        _decoded.clear()
    _decoded[version.id] = version
    return version


def forget_decoded() -> None:
    """Drop the decoded plan versions (`/admin/reload`)."""
    _decoded.clear()


def plan_from_row(row: asyncpg.Record) -> Plan:
    return Plan(
        org_id=row["org_id"],
        id=row["id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        current=plan_version_from_row({**dict(row), "plan_id": row["id"]}),
        entitlements=tuple(
            Entitlement(UUID(one["feature_id"]), one["code"], one["privileges"])
            for one in row["entitlements"]
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def find_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    row = await tx.fetchrow(
        f"select {_PLAN} {_PLAN_FROM} where p.org_id = $1 and p.code = $2 and p.deleted_at is null",
        org_id,
        code,
    )
    return plan_from_row(row) if row else None


async def lock_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    """The plan, held until the transaction ends: one change at a time, and nobody subscribes meanwhile."""
    await tx.execute(
        "select 1 from plans where org_id = $1 and code = $2 and deleted_at is null for update", org_id, code
    )
    return await find_plan(tx, org_id, code)


async def hold_plan(tx: Tx, org_id: UUID, code: str) -> Plan | None:
    """The plan, which cannot be changed or removed until the transaction ends; others may hold it too."""
    await tx.execute(
        "select 1 from plans where org_id = $1 and code = $2 and deleted_at is null for key share",
        org_id,
        code,
    )
    return await find_plan(tx, org_id, code)


async def list_plans(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Plan], int]:
    total = await tx.fetchval("select count(*) from plans where org_id = $1 and deleted_at is null", org_id)
    rows = await tx.fetch(
        f"""select {_PLAN} {_PLAN_FROM} where p.org_id = $1 and p.deleted_at is null
            order by v.amount_cents, p.code limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [plan_from_row(row) for row in rows], total


async def get_plan_version(tx: Tx, org_id: UUID, version_id: UUID) -> PlanVersion:
    known = _decoded.get(version_id)
    if known is not None and known.org_id == org_id:
        return known
    row = await tx.fetchrow(
        """
        select org_id, id as version_id, plan_id, version, interval, amount_cents, currency, pay_in_advance, credits,
            charges, created_at as version_created_at
        from plan_versions where org_id = $1 and id = $2
        """,
        org_id,
        version_id,
    )
    assert row is not None, "a subscription's plan version exists: it is never deleted"
    return plan_version_from_row(row)


async def insert_plan(
    tx: Tx, *, org_id: UUID, plan_id: UUID, code: str, name: str, description: str | None, now: datetime
) -> bool:
    """False when the code is taken. The version follows in the same transaction."""
    inserted = await tx.fetchval(
        """
        insert into plans (org_id, id, code, name, description, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6)
        on conflict (org_id, code) where deleted_at is null do nothing returning 1
        """,
        org_id,
        plan_id,
        code,
        name,
        description,
        now,
    )
    return inserted is not None


async def add_version(tx: Tx, version: PlanVersion) -> None:
    """Store a version and make it the plan's current one."""
    await tx.execute(
        """
        insert into plan_versions (org_id, id, plan_id, version, interval, amount_cents, currency, pay_in_advance,
            credits, charges, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        version.org_id,
        version.id,
        version.plan_id,
        version.version,
        version.interval,
        version.amount_cents,
        version.currency,
        version.pay_in_advance,
        Decimal(version.credits),
        charges_to_json(version.charges),
        version.created_at,
    )
    await tx.execute(
        "update plans set current_version_id = $3, updated_at = $4 where org_id = $1 and id = $2",
        version.org_id,
        version.plan_id,
        version.id,
        version.created_at,
    )


async def rename_plan(
    tx: Tx, org_id: UUID, plan_id: UUID, *, name: str, description: str | None, now: datetime
) -> None:
    await tx.execute(
        "update plans set name = $3, description = $4, updated_at = $5 where org_id = $1 and id = $2",
        org_id,
        plan_id,
        name,
        description,
        now,
    )


async def delete_plan(tx: Tx, org_id: UUID, plan_id: UUID, now: datetime) -> None:
    await tx.execute("update plans set deleted_at = $3 where org_id = $1 and id = $2", org_id, plan_id, now)


async def count_subscriptions(tx: Tx, org_id: UUID, plan_id: UUID) -> int:
    """Subscriptions on the plan that still run or will."""
    count = await tx.fetchval(
        "select count(*) from subscriptions where org_id = $1 and plan_id = $2 and status in ('active', 'pending')",
        org_id,
        plan_id,
    )
    assert isinstance(count, int)
    return count


async def set_entitlement(
    tx: Tx, org_id: UUID, plan_id: UUID, feature_id: UUID, privileges: Mapping[str, Any], now: datetime
) -> None:
    await tx.execute(
        """
        insert into plan_entitlements (org_id, plan_id, feature_id, privileges, created_at) values ($1, $2, $3, $4, $5)
        on conflict (org_id, plan_id, feature_id) do update set privileges = excluded.privileges
        """,
        org_id,
        plan_id,
        feature_id,
        privileges,
        now,
    )


async def delete_entitlement(tx: Tx, org_id: UUID, plan_id: UUID, feature_id: UUID) -> None:
    await tx.execute(
        "delete from plan_entitlements where org_id = $1 and plan_id = $2 and feature_id = $3",
        org_id,
        plan_id,
        feature_id,
    )


async def plan_names(tx: Tx, org_id: UUID, plan_id: UUID) -> tuple[str, str]:
    """A plan's code and what it is called now."""
    row = await tx.fetchrow("select code, name from plans where org_id = $1 and id = $2", org_id, plan_id)
    assert row is not None, "a subscription's plan exists: plans are only marked as deleted"
    return row["code"], row["name"]


async def find_version_id(tx: Tx, org_id: UUID, plan_id: UUID, number: int) -> UUID | None:
    """The version of a plan that has this number."""
    found = await tx.fetchval(
        "select id from plan_versions where org_id = $1 and plan_id = $2 and version = $3",
        org_id,
        plan_id,
        number,
    )
    assert found is None or isinstance(found, UUID)
    return found
