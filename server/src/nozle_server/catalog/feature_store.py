"""All SQL of features, and rows <-> values."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.catalog.model import (
    Feature,
    Privilege,
)
from nozle_server.infra.database import Tx

_FEATURE = """f.org_id, f.id, f.code, f.name, f.description, f.metric_id, fm.code as metric_code, f.privileges,
    f.created_at, f.updated_at"""


def feature_from_row(row: asyncpg.Record) -> Feature:
    return Feature(
        **{**dict(row), "privileges": tuple(Privilege(**one) for one in row["privileges"])},
    )


async def find_feature(tx: Tx, org_id: UUID, code: str) -> Feature | None:
    row = await tx.fetchrow(
        f"""select {_FEATURE} from features f
            left join billable_metrics fm on fm.org_id = f.org_id and fm.id = f.metric_id
            where f.org_id = $1 and f.code = $2 and f.deleted_at is null""",
        org_id,
        code,
    )
    return feature_from_row(row) if row else None


async def find_features(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, Feature]:
    """Those of these features that exist, by code."""
    if not codes:
        return {}
    rows = await tx.fetch(
        f"""select {_FEATURE} from features f
            left join billable_metrics fm on fm.org_id = f.org_id and fm.id = f.metric_id
            where f.org_id = $1 and f.code = any($2) and f.deleted_at is null""",
        org_id,
        list(codes),
    )
    return {row["code"]: feature_from_row(row) for row in rows}


async def list_features(tx: Tx, org_id: UUID, *, limit: int, offset: int) -> tuple[list[Feature], int]:
    total = await tx.fetchval(
        "select count(*) from features where org_id = $1 and deleted_at is null", org_id
    )
    rows = await tx.fetch(
        f"""select {_FEATURE} from features f
            left join billable_metrics fm on fm.org_id = f.org_id and fm.id = f.metric_id
            where f.org_id = $1 and f.deleted_at is null order by f.created_at desc, f.id desc limit $2 offset $3""",
        org_id,
        limit,
        offset,
    )
    return [feature_from_row(row) for row in rows], total


async def features_of_metric(tx: Tx, org_id: UUID, metric_id: UUID) -> list[str]:
    rows = await tx.fetch(
        "select code from features where org_id = $1 and metric_id = $2 and deleted_at is null order by code",
        org_id,
        metric_id,
    )
    return [row["code"] for row in rows]


async def insert_feature(tx: Tx, feature: Feature) -> bool:
    """False when the code is taken."""
    inserted = await tx.fetchval(
        """
        insert into features (org_id, id, code, name, description, metric_id, privileges, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (org_id, code) where deleted_at is null do nothing returning 1
        """,
        *_feature_values(feature),
    )
    return inserted is not None


async def update_feature(tx: Tx, feature: Feature) -> None:
    await tx.execute(
        """
        update features set code = $3, name = $4, description = $5, metric_id = $6, privileges = $7, created_at = $8,
            updated_at = $9
        where org_id = $1 and id = $2
        """,
        *_feature_values(feature),
    )


def _feature_values(feature: Feature) -> tuple[object, ...]:
    privileges = [
        {"code": one.code, "name": one.name, "value_type": one.value_type, "config": one.config}
        for one in feature.privileges
    ]
    return (
        feature.org_id,
        feature.id,
        feature.code,
        feature.name,
        feature.description,
        feature.metric_id,
        privileges,
        feature.created_at,
        feature.updated_at,
    )


async def delete_feature(tx: Tx, org_id: UUID, feature_id: UUID, now: datetime) -> None:
    await tx.execute(
        "delete from plan_entitlements where org_id = $1 and feature_id = $2", org_id, feature_id
    )
    await tx.execute(
        "update features set deleted_at = $3 where org_id = $1 and id = $2", org_id, feature_id, now
    )


async def delete_privilege_values(tx: Tx, org_id: UUID, feature_id: UUID, privilege_code: str) -> None:
    """Take the privilege's value out of every plan's entitlement."""
    await tx.execute(
        """
        update plan_entitlements set privileges = privileges - $3::text
        where org_id = $1 and feature_id = $2 and privileges ? $3::text
        """,
        org_id,
        feature_id,
        privilege_code,
    )
