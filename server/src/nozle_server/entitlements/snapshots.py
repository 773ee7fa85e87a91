"""Snapshots kept in the process, so that `can()` asks the database only for what it does not know.

Three outcomes: a snapshot, one that says nobody has this id, or Unavailable: it could not be told. Nothing is ever
allowed because it could not be told.

A snapshot goes the moment its change is heard, which for changes of this process is the moment of their commit. It is used
only while the bus's lease stands, that is, while everything committed until a few seconds ago has been heard; otherwise
every question is put to the database. Decisions are made anew for each question, at its own time: what ends by time
alone ends at that instant.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

from nozle_server.core.errors import Unavailable
from nozle_server.entitlements.known_entities import KnownEntities
from nozle_server.entitlements.news import Organization, concerned
from nozle_server.entitlements.snapshot import CustomerSnapshot, OrganizationSnapshot
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.change_bus import Change, ChangeBus, Gap
from nozle_server.infra.database import Database

ATTEMPTS = 3
DEADLINE_S = 10.0
SWEPT_AT_ONCE = 200

_Key = tuple[UUID, str]


class Snapshots:
    """One a process. Every key carries the organization: two tenants' equal ids never meet. `kept_at_most` customers of all
    organizations together."""

    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        *,
        kept_at_most: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._monotonic, self._kept_at_most = database, monotonic, kept_at_most
        self.lease = bus.lease
        self._organizations: dict[UUID, OrganizationSnapshot] = {}
        self._customers: dict[_Key, CustomerSnapshot] = {}
        # What is being read. News take readings out: they may have read what was before.
        self._reading_organizations: dict[UUID, asyncio.Task[OrganizationSnapshot]] = {}
        self._reading_customers: dict[_Key, asyncio.Task[CustomerSnapshot]] = {}
        # Questions that nothing may be kept of, while they wait for a connection.
        self._asking: dict[_Key, asyncio.Task[CustomerSnapshot]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self.entities = KnownEntities(database)
        bus.on_news(self.hear)

    def peek(self, org_id: UUID, external_id: str) -> CustomerSnapshot | None:
        """What is known and may be trusted now; None when the database has to be asked."""
        known = self._customers.get((org_id, external_id))
        if known is None or not self._is_complete() or not known.organization.standing.until:
            return None
        return known

    async def get(self, org_id: UUID, external_id: str) -> CustomerSnapshot:
        """What is known, else what the database says: one query at a time for each customer, however many ask.

        Unavailable when the database has to be asked and cannot be.
        """
        known = self.peek(org_id, external_id)
        if known is not None:
            return known
        key = (org_id, external_id)
        if not self._is_complete():
            return await self._ask_database(key)
        reading = self._reading_customers.get(key)
        if reading is None:
            reading = self._reading_customers[key] = asyncio.create_task(self._read_customer(key))
            reading.add_done_callback(_hear_of_fault)
        # Shielded: one caller that hangs up must not take the answer from the others.
        return await asyncio.shield(reading)

    def hear(self, news: Change | Gap) -> None:
        """Drop what the news may have made untrue, also what is being read at this moment."""
        if isinstance(news, Gap):
            self.forget_all()
            return
        whom = concerned(news)
        if isinstance(whom, Organization):
            self._forget_organization(news.org_id)
        elif whom is not None:
            for external_id in whom.external_ids:
                key = (news.org_id, external_id)
                self._reading_customers.pop(key, None)
                _fall(self._customers.pop(key, None))

    def forget_all(self) -> None:
        """Distrust everything."""
        for one in self._organizations.values():
            _fall(one)
        self._organizations.clear()
        self._reading_organizations.clear()
        self._customers.clear()
        self._reading_customers.clear()

    def __len__(self) -> int:
        return len(self._customers)

    def _is_complete(self) -> bool:
        """Whether all news have been heard, but for those of a few seconds."""
        return self.lease.until > self._monotonic()

    def _forget_organization(self, org_id: UUID) -> None:
        """Its customers' snapshots refer to it, and are not used any more."""
        known = self._organizations.pop(org_id, None)
        _fall(known)
        self._reading_organizations.pop(org_id, None)
        for key in [one for one in self._reading_customers if one[0] == org_id]:
            del self._reading_customers[key]
        if known is not None and self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Free what refers to organizations as they were: little by little, since there may be very much of it."""
        try:
            for n, key in enumerate([*self._customers]):
                one = self._customers.get(key)
                if one is not None and not one.organization.standing.until:
                    del self._customers[key]
                    _fall(one)
                if n % SWEPT_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            self._sweeping = None

    async def _ask_database(self, key: _Key) -> CustomerSnapshot:
        """What is so now, kept for nobody. Who asks while another waits for a connection is answered with that one."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._read_unkept(key))
            asking.add_done_callback(_hear_of_fault)
        return await asyncio.shield(asking)

    async def _read_unkept(self, key: _Key) -> CustomerSnapshot:
        org_id, external_id = key
        try:
            async with _in_time(), self._database.connection() as connection:
                del self._asking[key]  # from here on it may miss what is committed before somebody asks
                found = await read_customer(
                    connection, await read_organization(connection, org_id), external_id
                )
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]
        _fall(found)
        return found

    async def _read_customer(self, key: _Key) -> CustomerSnapshot:
        try:
            async with _in_time():
                for _ in range(ATTEMPTS):
                    organization = await self._organization(key[0])
                    async with self._database.connection() as connection:
                        found = await read_customer(connection, organization, key[1])
                    if organization.standing.until:
                        break  # else it has changed, and what was read of the customer may not go with it
        finally:
            current = self._reading_customers.get(key) is asyncio.current_task()
            if current:
                del self._reading_customers[key]
        if current and organization.standing.until:
            _put(self._customers, key, found, self._kept_at_most)
        else:
            _fall(found)
        return found

    async def _organization(self, org_id: UUID) -> OrganizationSnapshot:
        known = self._organizations.get(org_id)
        if known is not None and self._is_complete():
            return known
        reading = self._reading_organizations.get(org_id)
        if reading is None:
            reading = asyncio.create_task(self._read_organization(org_id))
            reading.add_done_callback(_hear_of_fault)
            self._reading_organizations[org_id] = reading
        return await asyncio.shield(reading)

    async def _read_organization(self, org_id: UUID) -> OrganizationSnapshot:
        try:
            async with _in_time(), self._database.connection() as connection:
                found = await read_organization(connection, org_id)
        finally:
            current = self._reading_organizations.get(org_id) is asyncio.current_task()
            if current:
                del self._reading_organizations[org_id]
        if current:
            _put(self._organizations, org_id, found, self._kept_at_most)
        else:
            _fall(found)
        return found


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except TimeoutError:
        raise Unavailable("the database takes too long, try again", code="database_unavailable") from None


_Kept = TypeVar("_Kept", CustomerSnapshot, OrganizationSnapshot)
_Keyed = TypeVar("_Keyed", UUID, _Key)


def _put(kept: dict[_Keyed, _Kept], key: _Keyed, found: _Kept, at_most: int) -> None:
    """Where there is no more room, the one that was read the longest ago goes."""
    before = kept.pop(key, None)
    if before is None and len(kept) >= at_most:
        before = kept.pop(next(iter(kept)))
    _fall(before)
    kept[key] = found


def _fall(snapshot: CustomerSnapshot | OrganizationSnapshot | None) -> None:
    if snapshot is not None:
        snapshot.standing.fall()


def _hear_of_fault(task: "asyncio.Task[object]") -> None:
    if not task.cancelled():
        task.exception()  # whoever waits for it is told
