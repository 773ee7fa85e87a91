"""Holds as they are looked at. Those that are open are part of a book (`book_store`)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.credits.model import HoldRecord, HoldStatus
from nozle_server.infra.database import Tx

# Whoever comes next writes down that a hold's time is over; until then it is over all the same.
_STATUS = "case when h.status = 'open' and h.expires_at <= $3 then 'expired' else h.status end"
_HOLD = f"""
    select h.id, a.credit_system, h.amount, h.feature, e.external_id as entity, {_STATUS} as status, h.settled, h.uncovered,
        h.created_at, h.expires_at,
        case when h.status in ('open', 'expired') and h.expires_at <= $3 then h.expires_at else h.ended_at end as ended_at
    from credit_accounts a
    join credit_holds h on h.org_id = a.org_id and h.account_id = a.id
    left join entities e on e.org_id = h.org_id and e.id = h.entity_id
    where a.org_id = $1 and a.customer_id = $2
"""


async def find_hold(
    tx: Tx, org_id: UUID, customer_id: UUID, hold_id: UUID, now: datetime
) -> HoldRecord | None:
    """A hold of this customer, as it is at `now`."""
    row = await tx.fetchrow(f"{_HOLD} and h.id = $4", org_id, customer_id, now, hold_id)
    return None if row is None else _from_row(row)


async def list_holds(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    now: datetime,
    *,
    credit_system: str | None,
    status: HoldStatus | None,
    before: UUID | None,
    limit: int,
) -> Sequence[HoldRecord]:
    """A customer's holds as they are at `now`, newest first."""
    rows = await tx.fetch(
        f"""{_HOLD} and ($4::text is null or a.credit_system = $4) and ($5::text is null or {_STATUS} = $5)
            and ($6::uuid is null or h.id < $6)
            order by h.id desc limit $7""",
        org_id,
        customer_id,
        now,
        credit_system,
        status,
        before,
        limit,
    )
    return [_from_row(row) for row in rows]


def _from_row(row: asyncpg.Record) -> HoldRecord:
    return HoldRecord(**{**dict(row), "status": HoldStatus(row["status"])})
