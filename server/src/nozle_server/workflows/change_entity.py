"""Change the entities of a customer: what they are, and with it who spends which credits."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.customers.model import Customer
from nozle_server.customers.queries import lock_customer
from nozle_server.entities import operations
from nozle_server.entities.drafts import Snapshot
from nozle_server.entities.model import EntityChange
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams


async def put_entities(
    tx: Tx, seams: Seams, *, org_id: UUID, customer_id: str, snapshots: Sequence[Snapshot], now: datetime
) -> tuple[Customer, tuple[EntityChange, ...]]:
    """As `entities.operations.put_entities`, for the customer with this external id. NotFound `customer_not_found`."""
    customer = await lock_customer(tx, org_id, customer_id)
    changes = await operations.put_entities(
        tx, seams.change_bus, customer=customer, snapshots=snapshots, now=now
    )
    return customer, changes
