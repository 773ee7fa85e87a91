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
from nozle_server.workflows.grant_plan_credits import grant_to_entities


async def put_entities(
    tx: Tx, seams: Seams, *, org_id: UUID, customer_id: str, snapshots: Sequence[Snapshot], now: datetime
) -> tuple[Customer, tuple[EntityChange, ...]]:
    """As `entities.operations.put_entities`, for the customer with this external id. NotFound `customer_not_found`."""
    customer = await lock_customer(tx, org_id, customer_id)
    changes = await operations.put_entities(
        tx, seams.change_bus, customer=customer, snapshots=snapshots, now=now
    )
    if opened := [one.entity.id for one in changes if one.opens]:
        await grant_to_entities(tx, seams, org_id=org_id, customer_id=customer.id, entity_ids=opened, now=now)
    return customer, changes
