"""A book's rows: what to select of an account and of all that it is decided by, and the book that those rows make."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core import json
from nozle_server.credits.book import Book
from nozle_server.credits.model import (
    Account,
    AccountKind,
    Budget,
    BudgetInterval,
    Draw,
    Grant,
    GrantSource,
    Hold,
    Level,
    Receivable,
)
from nozle_server.credits.watching import Alert, RuleStatus, TopUpRule
from nozle_server.entities.model import PoolPolicy

_ACCOUNT = """org_id, id, customer_id, kind, credit_system, balance, granted, consumed, expired, voided, held, refunded,
    adjusted, transferred, receivable, last_sequence, version"""

# What a book is made of, for the account `a` of the customer `c`, and the merchant's ids of entities in `wanted.entities`.
PARTS = """
    coalesce(c.timezone, o.timezone) as timezone,
    (select json_agg(json_build_object('id', g.id, 'amount', g.amount, 'remaining', g.remaining, 'priority', g.priority,
            'source', g.source, 'reference', g.reference, 'description', g.description, 'expires_at', g.expires_at,
            'created_at', g.created_at, 'entity_id', g.entity_id, 'parent_id', g.parent_id))
        from credit_grants g where g.org_id = a.org_id and g.account_id = a.id and (g.remaining > 0
            or g.id in (select unnest(h.grant_ids) from credit_holds h
                where h.org_id = a.org_id and h.account_id = a.id and h.status = 'open'))) as grants,
    (select json_agg(json_build_object('id', h.id, 'amount', h.amount, 'feature', h.feature, 'entity_id', h.entity_id,
            'expires_at', h.expires_at, 'created_at', h.created_at, 'grant_ids', h.grant_ids,
            'drawn', h.drawn, 'pools', h.pools, 'budget_ids', h.budget_ids,
            'budget_windows', h.budget_windows) order by h.expires_at, h.id)
        from credit_holds h where h.org_id = a.org_id and h.account_id = a.id and h.status = 'open') as holds,
    (select json_agg(json_build_object('id', r.id, 'hold_id', h.id, 'feature', h.feature, 'entity_id', h.entity_id,
            'open', r.amount - r.paid) order by r.id)
        from credit_receivables r join credit_holds h on h.org_id = r.org_id and h.id = r.hold_id
        where r.org_id = a.org_id and r.account_id = a.id and r.paid < r.amount) as receivables,
    (select json_agg(json_build_object('id', b.id, 'entity_id', b.entity_id, 'interval', b.interval,
            'limit', b.limit_amount, 'used', (
                select json_agg(json_build_array(u.window_start, u.used)) from (
                    select window_start, used from credit_budget_usage
                    where org_id = b.org_id and budget_id = b.id order by window_start desc limit 2) u)))
        from credit_budgets b where b.org_id = a.org_id and b.account_id = a.id
            and (b.entity_id is null or b.entity_id = any(levels.ids))) as budgets,
    (select json_agg(json_build_object('code', w.code, 'name', w.name, 'threshold', w.threshold) order by w.code)
        from credit_alerts w where w.org_id = a.org_id and w.account_id = a.id) as alerts,
    (select to_json(t) from credit_top_up_rules t where t.org_id = a.org_id and t.account_id = a.id) as rule,
    levels.chains
"""
# The entities asked for and those above them: each chain from the entity up.
LEVELS = """
    cross join lateral (
        select array_agg(chain.id) as ids,
            json_agg(json_build_object('asked', chain.asked, 'id', chain.id, 'external_id', chain.external_id,
                'active', chain.active, 'policy', chain.pool_policy) order by chain.asked, chain.depth) as chains
        from (
            with recursive up as (
                select e.external_id as asked, e.id, e.external_id, e.parent_id, e.status = 'active' as active,
                    e.pool_policy, 0 as depth
                from entities e where e.org_id = a.org_id and e.customer_id = a.customer_id
                    and e.external_id = any(wanted.entities) and e.deleted_at is null
                union all
                select up.asked, p.id, p.external_id, p.parent_id, p.status = 'active', p.pool_policy, up.depth + 1
                from up join entities p on p.org_id = a.org_id and p.id = up.parent_id
                where up.depth < 16
            ) select * from up
        ) chain
    ) levels
"""
ACCOUNT_OF_A = ", ".join(f"a.{name.strip()}" for name in _ACCOUNT.split(","))


def book_from_row(row: asyncpg.Record, entities: Iterable[str]) -> Book:
    account = Account(
        **{name.strip(): row[name.strip()] for name in _ACCOUNT.split(",") if name.strip() != "kind"},
        kind=AccountKind(row["kind"]),
    )
    budgets, used = _budgets(_parsed(row["budgets"]))
    return Book(
        account,
        timezone=row["timezone"],
        grants=[_grant(one) for one in _parsed(row["grants"])],
        holds=[_hold(one) for one in _parsed(row["holds"])],
        receivables=[_receivable(one) for one in _parsed(row["receivables"])],
        budgets=budgets,
        used=used,
        levels=_levels(_parsed(row["chains"]), entities),
        alerts=[Alert(one["code"], one["name"], Decimal(one["threshold"])) for one in _parsed(row["alerts"])],
        rule=None if row["rule"] is None else _rule(json.loads(row["rule"])),
    )


def _parsed(column: str | None) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = [] if column is None else json.loads(column)
    return parsed


def _grant(row: Mapping[str, Any]) -> Grant:
    return Grant(
        UUID(row["id"]),
        Decimal(row["amount"]),
        Decimal(row["remaining"]),
        row["priority"],
        GrantSource(row["source"]),
        row["reference"],
        row["description"],
        None if row["expires_at"] is None else datetime.fromisoformat(row["expires_at"]),
        datetime.fromisoformat(row["created_at"]),
        _uuid(row["entity_id"]),
        _uuid(row["parent_id"]),
    )


def _rule(row: Mapping[str, Any]) -> TopUpRule:
    return TopUpRule(
        amount=Decimal(row["amount"]),
        threshold=Decimal(row["threshold"]),
        monthly_cap=None if row["monthly_cap"] is None else Decimal(row["monthly_cap"]),
        status=RuleStatus(row["status"]),
        wish_id=_uuid(row["wish_id"]),
        wished_at=None if row["wished_at"] is None else datetime.fromisoformat(row["wished_at"]),
        month_start=None if row["month_start"] is None else datetime.fromisoformat(row["month_start"]),
        wished_in_month=Decimal(row["wished_in_month"]),
    )


def _hold(row: Mapping[str, Any]) -> Hold:
    return Hold(
        id=UUID(row["id"]),
        amount=Decimal(row["amount"]),
        feature=row["feature"],
        entity_id=_uuid(row["entity_id"]),
        expires_at=datetime.fromisoformat(row["expires_at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        draws=tuple(
            Draw(UUID(grant_id), Decimal(amount))
            for grant_id, amount in zip(row["grant_ids"], row["drawn"], strict=True)
        ),
        pools=tuple(_uuid(pool) for pool in row["pools"]),
        windows=tuple(
            (UUID(budget_id), datetime.fromisoformat(start))
            for budget_id, start in zip(row["budget_ids"], row["budget_windows"], strict=True)
        ),
    )


def _receivable(row: Mapping[str, Any]) -> Receivable:
    return Receivable(
        UUID(row["id"]),
        UUID(row["hold_id"]),
        row["feature"],
        _uuid(row["entity_id"]),
        Decimal(row["open"]),
    )


def _budgets(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[list[Budget], dict[tuple[UUID, datetime], Decimal]]:
    budgets, used = [], {}
    for row in rows:
        budget = Budget(
            UUID(row["id"]),
            _uuid(row["entity_id"]),
            BudgetInterval(row["interval"]),
            Decimal(row["limit"]),
        )
        budgets.append(budget)
        for start, amount in row["used"] or ():
            used[budget.id, datetime.fromisoformat(start)] = Decimal(amount)
    return budgets, used


def _levels(chains: Iterable[Mapping[str, Any]], entities: Iterable[str]) -> dict[str, Level | None]:
    """Each entity asked for, with those above it; a level is active when all above it are."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in chains:
        grouped.setdefault(row["asked"], []).append(row)
    levels: dict[str, Level | None] = dict.fromkeys(entities)
    for name, rows in grouped.items():
        first, *above = rows
        levels[name] = Level(
            UUID(first["id"]),
            name,
            all(row["active"] for row in rows),
            PoolPolicy(first["policy"]),
            tuple((UUID(row["id"]), row["external_id"]) for row in above),
        )
    return levels


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
