"""All SQL of cost models, and rows <-> values."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.rounding import EXACT
from nozle_server.costs.model import CostModel, CostTier, CostType, ModelRate, TierMode
from nozle_server.infra.database import Tx

_COLUMNS = """org_id, id, name, metric_code, cost_type, model, amount_cents, model_rates, tier_mode, tiers, created_at,
    updated_at"""


def from_row(row: asyncpg.Record) -> CostModel:
    return CostModel(
        org_id=row["org_id"],
        id=row["id"],
        name=row["name"],
        metric_code=row["metric_code"],
        cost_type=CostType(row["cost_type"]),
        model=row["model"],
        amount_cents=row["amount_cents"],
        model_rates={
            name: ModelRate(Decimal(rate["input"]), Decimal(rate["output"]))
            for name, rate in (row["model_rates"] or {}).items()
        },
        tier_mode=TierMode(row["tier_mode"]) if row["tier_mode"] else None,
        tiers=tuple(
            CostTier(
                None if tier["up_to"] is None else Decimal(tier["up_to"]),
                Decimal(tier["unit_amount_cents"]),
                Decimal(tier["flat_amount_cents"]),
            )
            for tier in row["tiers"] or ()
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def rates_to_json(cost_model: CostModel) -> dict[str, Any] | None:
    rates = {
        name: {"input": rate.input, "output": rate.output} for name, rate in cost_model.model_rates.items()
    }
    return rates or None


def tiers_to_json(cost_model: CostModel) -> list[dict[str, Any]] | None:
    tiers = [
        {"up_to": t.up_to, "unit_amount_cents": t.unit_amount_cents, "flat_amount_cents": t.flat_amount_cents}
        for t in cost_model.tiers
    ]
    return tiers or None


async def insert(tx: Tx, cost_model: CostModel) -> None:
    await tx.execute(
        f"insert into cost_models ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        cost_model.org_id,
        cost_model.id,
        cost_model.name,
        cost_model.metric_code,
        cost_model.cost_type,
        cost_model.model,
        cost_model.amount_cents,
        rates_to_json(cost_model),
        cost_model.tier_mode,
        tiers_to_json(cost_model),
        cost_model.created_at,
        cost_model.updated_at,
    )


async def find(tx: Tx, org_id: UUID, cost_model_id: UUID) -> CostModel | None:
    row = await tx.fetchrow(
        f"select {_COLUMNS} from cost_models where org_id = $1 and id = $2 and deleted_at is null",
        org_id,
        cost_model_id,
    )
    return from_row(row) if row else None


async def list_all(tx: Tx, org_id: UUID) -> list[CostModel]:
    rows = await tx.fetch(
        f"select {_COLUMNS} from cost_models where org_id = $1 and deleted_at is null order by created_at, id",
        org_id,
    )
    return [from_row(row) for row in rows]


# A cost model never changes (another price is another cost model), so a decoded one is right for ever.
_decoded: dict[UUID, CostModel] = {}
_DECODED_AT_MOST = 10_000

IDS_OF_METRIC = """array(select cm.id from cost_models cm
    where cm.org_id = $1 and cm.metric_code = {code} and cm.deleted_at is null)"""
"""SQL for the ids of a metric's cost models, to be read together with other facts; `get_many` gives the values."""


async def get_many(tx: Tx, org_id: UUID, ids: Sequence[UUID]) -> list[CostModel]:
    """Cost models by id; a query only for those not seen before."""
    found = {one: _decoded[one] for one in ids if one in _decoded}
    if len(found) < len(ids):
        missing = [one for one in ids if one not in found]
        rows = await tx.fetch(
            f"select {_COLUMNS} from cost_models where org_id = $1 and id = any($2)", org_id, missing
        )
        fresh = {row["id"]: from_row(row) for row in rows}
        if len(_decoded) + len(fresh) > _DECODED_AT_MOST:
            _decoded.clear()
        _decoded.update(fresh)
        found |= fresh
    return [found[one] for one in ids]


def forget_decoded() -> None:
    """Drop the decoded cost models (`/admin/reload`)."""
    _decoded.clear()


async def delete(tx: Tx, org_id: UUID, cost_model_id: UUID, now: datetime) -> bool:
    deleted = await tx.fetchval(
        """update cost_models set deleted_at = $3, updated_at = $3
           where org_id = $1 and id = $2 and deleted_at is null returning 1""",
        org_id,
        cost_model_id,
        now,
    )
    return deleted is not None


async def add_to_month(
    tx: Tx, org_id: UUID, cost_model_id: UUID, month_start: date, quantity: Decimal
) -> Decimal:
    """Add to a tiered cost model's month; returns the month's quantity before. Holds the row until the transaction
    ends, so that each event finds its place in the tiers."""
    after = await tx.fetchval(
        """
        insert into cost_tier_usage (org_id, cost_model_id, month_start, quantity) values ($1, $2, $3, $4)
        on conflict (org_id, cost_model_id, month_start)
            do update set quantity = cost_tier_usage.quantity + excluded.quantity
        returning quantity
        """,
        org_id,
        cost_model_id,
        month_start,
        quantity,
    )
    assert isinstance(after, Decimal)
    return EXACT.subtract(after, quantity)


async def set_event_costs(tx: Tx, org_id: UUID, costs: Sequence[tuple[datetime, UUID, Decimal]]) -> None:
    """Write tiered costs on events (their instant, id and cost) stored in this same transaction."""
    await tx.execute(
        """
        update events e set cost_cents = c.cost_cents
        from unnest($2::timestamptz[], $3::uuid[], $4::numeric[]) as c (occurred_at, id, cost_cents)
        where e.org_id = $1 and e.occurred_at = c.occurred_at and e.id = c.id
          and e.occurred_at >= $5 and e.occurred_at <= $6
        """,
        org_id,
        [at for at, _, _ in costs],
        [event_id for _, event_id, _ in costs],
        [cost for _, _, cost in costs],
        min(at for at, _, _ in costs),
        max(at for at, _, _ in costs),
    )


async def month_quantity(tx: Tx, org_id: UUID, cost_model_id: UUID, month_start: date) -> Decimal:
    """What a tiered cost model's month has counted so far."""
    quantity = await tx.fetchval(
        "select quantity from cost_tier_usage where org_id = $1 and cost_model_id = $2 and month_start = $3",
        org_id,
        cost_model_id,
        month_start,
    )
    return Decimal(0) if quantity is None else quantity


async def recent_cost(
    tx: Tx, org_id: UUID, metric_id: UUID, model: str | None, *, since: datetime, until: datetime, limit: int
) -> tuple[Decimal, Decimal]:
    """Cost and quantity of a metric's latest events, at most `limit`, of one AI model or of all."""
    row = await tx.fetchrow(
        """
        select coalesce(sum(cost_cents), 0) as cost, coalesce(sum(quantity), 0) as quantity from (
            select cost_cents, quantity from events
            where org_id = $1 and occurred_at >= $4 and occurred_at <= $5 and metric_id = $2
              and ($3::text is null or model = $3) and cost_cents is not null
            order by occurred_at desc limit $6
        ) latest
        """,
        org_id,
        metric_id,
        model,
        since,
        until,
        limit,
    )
    assert row is not None, "an aggregate has a row"
    return row["cost"], row["quantity"]
