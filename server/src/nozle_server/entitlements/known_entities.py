"""Whether a customer's entity may use anything, kept beside the customer's snapshot and as long as that.

A customer may have more entities than a snapshot should hold, so each is read when it is asked for. News of an entity drop
its customer's snapshot, and with it all that was known of that customer's entities.
"""

from uuid import UUID

from nozle_server.core.standing import Standing
from nozle_server.entities.queries import find_standing
from nozle_server.entitlements.model import Reason
from nozle_server.entitlements.snapshot import CustomerSnapshot
from nozle_server.infra.database import Database

KEPT_AT_MOST = 100_000
"""Entities, of all customers together."""


class KnownEntities:
    """One a process."""

    def __init__(self, database: Database, *, kept_at_most: int = KEPT_AT_MOST) -> None:
        self._database, self._kept_at_most = database, kept_at_most
        self._known: dict[tuple[UUID, UUID, str], tuple[Reason | None, Standing]] = {}

    async def why_not(self, snapshot: CustomerSnapshot, external_id: str) -> Reason | None:
        """Why an entity of this customer, by the merchant's id, may use nothing; None: it may, as the customer may.
        Unavailable when it cannot be told."""
        if snapshot.customer_id is None:
            return Reason.ENTITY_NOT_FOUND
        key = (snapshot.organization.org_id, snapshot.customer_id, external_id)
        known = self._known.get(key)
        if known is not None and known[1] is snapshot.standing:
            return known[0]
        async with self._database.connection() as connection:
            active = await find_standing(connection, *key)
        reason = None if active else Reason.ENTITY_NOT_FOUND if active is None else Reason.ENTITY_INACTIVE
        if snapshot.standing.until:
            # What is committed from here on is news to come, of which the snapshot falls.
            self._known.pop(key, None)
            if len(self._known) >= self._kept_at_most:
                del self._known[next(iter(self._known))]
            self._known[key] = reason, snapshot.standing
        return reason
