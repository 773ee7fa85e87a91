"""SQL about grants of plans: what the subscriptions of a chain have granted."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.workflows.plan_credit_references import Granted, prefix_of


async def list_granted(
    tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str, chain: Sequence[UUID], since: datetime | None
) -> list[Granted]:
    """What the plans of these subscriptions granted of a credit system to the customer and its entities, from `since` on
    (None: ever)."""
    return await _list(
        tx, org_id, customer_id, credit_system, chain, "$5::timestamptz is null or g.created_at >= $5", since
    )


async def list_ending(
    tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str, chain: Sequence[UUID], at: datetime
) -> list[Granted]:
    """What the plans of these subscriptions granted until `at`, in the order that it came."""
    return await _list(tx, org_id, customer_id, credit_system, chain, "g.expires_at = $5", at)


async def _list(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    chain: Sequence[UUID],
    condition: str,
    at: datetime | None,
) -> list[Granted]:
    rows = await tx.fetch(
        f"""
        select g.reference, g.amount, g.entity_id from credit_accounts a
        join credit_grants g on g.org_id = a.org_id and g.account_id = a.id
        where a.org_id = $1 and a.customer_id = $2 and a.credit_system = $3 and a.kind = 'credits'
          and g.source = 'plan' and g.reference ^@ any($4) and ({condition})
        order by g.created_at, g.id
        """,
        org_id,
        customer_id,
        credit_system,
        [prefix_of(one) for one in chain],
        at,
    )
    return [Granted(**dict(row)) for row in rows]
