"""Numbers of an organization in order: of invoices, of customers.

The counter's row is locked until the caller's transaction ends, so a number given away by a transaction that rolls
back is given again: no twins, and no gaps where every taker uses its number (invoices do; a customer that somebody
else made meanwhile leaves one out), at the price that takers of one counter wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from nozle_server.infra.batch import is_batch, later, read_once
from nozle_server.infra.database import Tx


async def next_number(tx: Tx, org_id: UUID, name: str) -> int:
    """The next number of the counter `name`, starting at 1."""
    if is_batch(tx):
        counter = await _hold(tx, org_id, name)
        counter.value += 1
        await later(tx, _store, counter)
        return counter.value
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


@dataclass(slots=True)
class _Counter:
    """A counter that is held: the numbers up to `value` are given away."""

    org_id: UUID
    name: str
    value: int


@read_once
async def _hold(tx: Tx, org_id: UUID, name: str) -> _Counter:
    await tx.execute(
        """insert into organization_counters (org_id, name, value) values ($1, $2, 0)
           on conflict (org_id, name) do nothing""",
        org_id,
        name,
    )
    value = await tx.fetchval(
        "select value from organization_counters where org_id = $1 and name = $2 for update", org_id, name
    )
    return _Counter(org_id, name, value)


async def _store(tx: Tx, counters: Sequence[_Counter]) -> None:
    for counter in {(one.org_id, one.name): one for one in counters}.values():
        await tx.execute(
            "update organization_counters set value = $3 where org_id = $1 and name = $2",
            counter.org_id,
            counter.name,
            counter.value,
        )
