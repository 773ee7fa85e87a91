"""All SQL of operations of product credits, and rows <-> values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.catalog.credit_model import CreditSystem
from nozle_server.catalog.credit_system_store import system_from_row
from nozle_server.core import json
from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import EntryType, GrantSource
from nozle_server.credits.usage_model import (
    OPERATION_OF,
    CreditOperation,
    OperationAllocation,
    OperationStatus,
    OperationType,
    UsageOperation,
)
from nozle_server.infra.database import Tx

_SHOWN = [str(kind) for kind in OPERATION_OF]


@dataclass(frozen=True, slots=True)
class Head:
    """An operation's id, and its place among those of its account; 0 for denials, which have none."""

    id: UUID
    sequence: int = 0


async def insert(tx: Tx, operation: UsageOperation) -> bool:
    """False, and nothing is stored, when its rate does not hold (any more) at the instant that it is about."""
    rate = operation.rate
    stored = await tx.fetchval(
        """
        insert into usage_operations (org_id, id, customer_id, credit_system, type, status, reason, entity_id, metric_id,
            metric_amount, rate_id, rate_metric_amount, rate_credit_amount, credit_amount, occurred_at, created_at, entry_id)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
            case $6 when 'succeeded' then $2::uuid end
        where $11::uuid is null or exists (
            select from credit_rates r where r.org_id = $1 and r.id = $11 and r.effective_from <= $15
              and (r.effective_to is null or r.effective_to > $15))
        returning true
        """,
        operation.org_id,
        operation.id,
        operation.customer_id,
        operation.credit_system,
        operation.type,
        operation.status,
        operation.reason,
        operation.entity_id,
        None if rate is None else rate.metric_id,
        None if rate is None else rate.metric_amount,
        None if rate is None else rate.rate_id,
        None if rate is None else rate.per_amount,
        None if rate is None else rate.credit_amount,
        operation.credit_amount,
        operation.occurred_at,
        operation.created_at,
    )
    return stored is not None


async def list_systems_of_customer(
    tx: Tx, org_id: UUID, customer_id: UUID
) -> list[tuple[CreditSystem, UUID]]:
    """The credit systems that a customer has or had credits of, the oldest first, each with the account."""
    rows = await tx.fetch(
        """
        select s.org_id, s.id, s.code, s.name, s.description, s.unit_name, s.status, s.features, s.created_at,
            s.updated_at, a.id as account_id
        from credit_accounts a join credit_systems s on s.org_id = a.org_id and s.code = a.credit_system
        where a.org_id = $1 and a.customer_id = $2 and a.kind = 'credits' order by s.created_at, s.id
        """,
        org_id,
        customer_id,
    )
    found = []
    for row in rows:
        values = dict(row)
        account_id = values.pop("account_id")
        found.append((system_from_row(values), account_id))
    return found


async def get_systems(tx: Tx, org_id: UUID, codes: Iterable[str]) -> dict[str, CreditSystem]:
    """These credit systems, by code."""
    rows = await tx.fetch(
        """select org_id, id, code, name, description, unit_name, status, features, created_at, updated_at
           from credit_systems where org_id = $1 and code = any($2)""",
        org_id,
        list(codes),
    )
    return {row["code"]: system_from_row(row) for row in rows}


async def list_accounts(tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str | None) -> list[UUID]:
    """A customer's accounts of credits, of one system or of all, in the order in which they were opened."""
    rows = await tx.fetch(
        """select id from credit_accounts
           where org_id = $1 and customer_id = $2 and kind = 'credits' and ($3::text is null or credit_system = $3)
           order by created_at, id""",
        org_id,
        customer_id,
        credit_system,
    )
    return [row["id"] for row in rows]


async def consumed_by(
    tx: Tx, org_id: UUID, entity_id: UUID, account_ids: Sequence[UUID]
) -> dict[UUID, Decimal]:
    """What an entity has spent of each account; those that it spent nothing of are not among the keys."""
    rows = await tx.fetch(
        """select account_id, -sum(amount) as consumed from ledger_entries
           where org_id = $1 and entity_id = $2 and account_id = any($3) and type = 'deduct' group by account_id""",
        org_id,
        entity_id,
        list(account_ids),
    )
    return {row["account_id"]: row["consumed"] for row in rows}


async def list_heads(
    tx: Tx, org_id: UUID, accounts: Sequence[tuple[UUID, int]], entity_id: UUID | None, *, limit: int
) -> list[list[Head]]:
    """Of each (account, sequence) the newest entries below that sequence that are operations, newest first; of one
    entity, or of all."""
    of_entity = "" if entity_id is None else "and e.entity_id = $6"
    rows = await tx.fetch(
        f"""
        select wanted.place, e.id, e.sequence
        from unnest($2::uuid[], $3::bigint[]) with ordinality as wanted (account_id, before, place)
        cross join lateral (
            select e.id, e.sequence from ledger_entries e
            where e.org_id = $1 and e.account_id = wanted.account_id and e.sequence < wanted.before
              and e.type = any($4) {of_entity}
            order by e.sequence desc limit $5
        ) e
        order by wanted.place, e.sequence desc
        """,
        org_id,
        [account_id for account_id, _ in accounts],
        [before for _, before in accounts],
        _SHOWN,
        limit,
        *(() if entity_id is None else (entity_id,)),
    )
    heads: list[list[Head]] = [[] for _ in accounts]
    for row in rows:
        heads[row["place"] - 1].append(Head(row["id"], row["sequence"]))
    return heads


async def list_denials(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str | None,
    entity_id: UUID | None,
    *,
    before: UUID | None,
    limit: int,
) -> list[Head]:
    """What was denied, newest first."""
    rows = await tx.fetch(
        f"""
        select id from usage_operations
        where org_id = $1 and customer_id = $2 and status = 'denied' and ($3::text is null or credit_system = $3)
          {"" if entity_id is None else "and entity_id = $6"} and ($4::uuid is null or id < $4)
        order by id desc limit $5
        """,
        org_id,
        customer_id,
        credit_system,
        before,
        limit,
        *(() if entity_id is None else (entity_id,)),
    )
    return [Head(row["id"]) for row in rows]


async def get_operations(tx: Tx, org_id: UUID, ids: Sequence[UUID]) -> dict[UUID, CreditOperation]:
    """These operations, done or denied, by id.

    What was left of a grant before and after each is what is left of it now, less what has moved since: the newest are
    found fastest.
    """
    rows = await tx.fetch(
        """
        with done as materialized (
            select * from ledger_entries where org_id = $1 and id = any($2)
        ), grants as (
            select distinct l.grant_id from done d
            join ledger_allocations l on l.org_id = $1 and l.entry_id = d.id
        ), since as (
            select account_id, min(sequence) as first from done group by account_id
        ), moves as (
            select e.id as entry_id, g.id as grant_id, g.source, g.entity_id, l.amount, g.remaining - coalesce(sum(l.amount)
                over (partition by g.id order by e.sequence desc rows between unbounded preceding and 1 preceding), 0)
                as after
            from since join ledger_entries e
                on e.org_id = $1 and e.account_id = since.account_id and e.sequence >= since.first
            join ledger_allocations l on l.org_id = $1 and l.entry_id = e.id
            join credit_grants g on g.org_id = $1 and g.id = l.grant_id
            where l.grant_id in (select grant_id from grants)
        ), allocations as (
            select m.entry_id, json_agg(json_build_object('grant_id', m.grant_id, 'source', m.source,
                'entity', n.external_id, 'amount', m.amount, 'after', m.after) order by m.grant_id) as allocations
            from moves m left join entities n on n.org_id = $1 and n.id = m.entity_id
            where m.entry_id in (select id from done) group by m.entry_id
        ), operations as (
            select d.id, a.credit_system, d.type as entry_type, d.entity_id, d.feature, d.description, d.occurred_at,
                abs(d.amount) as credit_amount, l.allocations, null as denied_type, null as reason,
                d.type = 'deduct' and coalesce((select sum(r.amount) from ledger_entries r
                    where r.org_id = $1 and r.refunds_id = d.id), 0) = -d.amount as reversed
            from done d join credit_accounts a on a.org_id = $1 and a.id = d.account_id
            join allocations l on l.entry_id = d.id
            union all
            select u.id, u.credit_system, null, u.entity_id, null, null, u.occurred_at, u.credit_amount, null, u.type,
                u.reason, false
            from usage_operations u where u.org_id = $1 and u.id = any($2) and u.status = 'denied'
        )
        select o.*, n.external_id as entity, coalesce(u.occurred_at, o.occurred_at) as happened_at, m.code as metric_code,
            u.metric_amount, u.rate_id, u.rate_metric_amount, u.rate_credit_amount
        from operations o
        left join usage_operations u on u.org_id = $1 and u.id = o.id
        left join billable_metrics m on m.org_id = $1 and m.id = u.metric_id
        left join entities n on n.org_id = $1 and n.id = o.entity_id
        """,
        org_id,
        list(ids),
    )
    return {row["id"]: _operation(row) for row in rows}


def _operation(row: asyncpg.Record) -> CreditOperation:
    entry_type = row["entry_type"]
    if entry_type is None:
        kind, status = OperationType(row["denied_type"]), OperationStatus.DENIED
    else:
        kind = OPERATION_OF[EntryType(entry_type)]
        status = OperationStatus.REVERSED if row["reversed"] else OperationStatus.SUCCEEDED
    return CreditOperation(
        id=row["id"],
        entity=row["entity"],
        credit_system=row["credit_system"],
        type=kind,
        status=status,
        label=row["feature"],
        metric_code=row["metric_code"],
        metric_amount=row["metric_amount"],
        rate_id=row["rate_id"],
        rate_metric_amount=row["rate_metric_amount"],
        rate_credit_amount=row["rate_credit_amount"],
        credit_amount=row["credit_amount"],
        reason=row["reason"],
        description=row["description"],
        occurred_at=row["happened_at"],
        allocations=tuple(
            _allocation(one) for one in (json.loads(row["allocations"]) if row["allocations"] else ())
        ),
    )


def _allocation(row: dict[str, Any]) -> OperationAllocation:
    delta, after = Decimal(row["amount"]), Decimal(row["after"])
    return OperationAllocation(
        grant_id=UUID(row["grant_id"]),
        entity=row["entity"],
        source=GrantSource(row["source"]),
        delta=delta,
        before=EXACT.subtract(after, delta),
        after=after,
    )
