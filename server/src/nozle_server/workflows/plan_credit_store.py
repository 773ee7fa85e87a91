"""SQL about grants of plans: what the subscriptions of a chain have granted."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.workflows.plan_credit_references import Granted, prefix_of


async def list_granted(
    tx: Tx, org_id: UUID, customer_id: UUID, credit_system: str, chain: Sequence[UUID], since: datetime | None
) -> list[Granted]:
    """What the plans of these subscriptions granted the customer of a credit system, from `since` on (None: ever)."""
    rows = await tx.fetch(
        """
        select g.reference, g.amount, g.expires_at from credit_accounts a
        join credit_grants g on g.org_id = a.org_id and g.account_id = a.id
        where a.org_id = $1 and a.customer_id = $2 and a.credit_system = $3 and a.kind = 'credits'
          and g.source = 'plan' and g.reference ^@ any($4) and ($5::timestamptz is null or g.created_at >= $5)
        """,
        org_id,
        customer_id,
        credit_system,
        [prefix_of(one) for one in chain],
        since,
    )
    return [Granted(**dict(row)) for row in rows]
