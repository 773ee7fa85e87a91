"""Numbers of an organization in order: of invoices, of customers.

The counter's row is locked until the caller's transaction ends, so a number given away by a transaction that rolls
back is given again: no twins, and no gaps where every taker uses its number (invoices do; a customer that somebody
else made meanwhile leaves one out), at the price that takers of one counter wait for each other.
"""

from uuid import UUID

from nozle_server.infra.database import Tx


async def next_number(tx: Tx, org_id: UUID, name: str) -> int:
    """The next number of the counter `name`, starting at 1."""
    value = await tx.fetchval(
        """
        insert into organization_counters (org_id, name, value) values ($1, $2, 1)
        on conflict (org_id, name) do update set value = organization_counters.value + 1
        returning value
        """,
        org_id,
        name,
    )
    assert isinstance(value, int)
    return value
