"""The external broker: a Centrifugo of the merchant's, where clients are connected, is told through its server API.

Nobody is connected to us, so that somebody may be listening wherever a token lives that we handed out. One process at a time
(it holds a lease) looks at all of those and tells. What must be told is never kept: it is the difference between what holds
and what was told, so that after any failure the next look finds it.

A look goes: under the channel's lock decide, and doubt that what differs was told; commit; publish; note what was told.
Whoever dies or hears no answer in between leaves it doubted, and it is told again; the process that heard no answer uses the
same idempotency key for it. Who comes to note it after another look has doubted it anew, notes nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from nozle_server.core.clock import Clock
from nozle_server.core.errors import Unavailable
from nozle_server.core.ids import new_id
from nozle_server.entitlements.economics import Economics
from nozle_server.infra.change_bus import Change, Gap, PostgresChangeBus
from nozle_server.infra.database import Database, Tx
from nozle_server.realtime import audience_store, tokens
from nozle_server.realtime.broker import Looked
from nozle_server.realtime.centrifugo_api import (
    MAX_COMMANDS,
    TIMEOUT_S,
    CentrifugoApi,
    CentrifugoUnavailable,
    ToPublish,
)
from nozle_server.realtime.channels import name_of, parse_name
from nozle_server.realtime.deciding import Differences, find_differences
from nozle_server.realtime.flips import Told, Urgency, urgency
from nozle_server.realtime.freshness import Freshness
from nozle_server.realtime.model import REALTIME_OPENED, Channel

LEASE = "realtime publisher"
LEASE_S = 6.0
RENEW_EVERY_S = 1.0
MARGIN_S = TIMEOUT_S + 0.5
"""Nothing is sent when less than this is left of the lease: it is answered, or given up, before another may begin."""
PAUSE_S = 1.0
"""After no answer, before anything else is tried."""
SWEEP_EVERY_S = 60.0
AGAIN_AFTER_S = 5.0
"""When the connections of a revoked key are ended once more: one may have been let in at the very moment."""
GRACE = timedelta(seconds=60)
"""Clients stay connected a little longer than their tokens live."""

log = structlog.get_logger()


class CentrifugoBroker:
    """One a process, as a `Broker`. All note who may listen; the one that holds the lease decides and tells."""

    def __init__(
        self,
        database: Database,
        economics: Economics,
        bus: PostgresChangeBus,
        clock: Clock,
        api: CentrifugoApi,
    ) -> None:
        self._database, self._economics, self._bus, self._clock = database, economics, bus, clock
        self._api = api
        self._freshness = Freshness(database, clock, self)
        self._holder = new_id()
        self._leads_until = 0.0
        self._audiences: dict[UUID, dict[Channel, datetime]] = {}
        # When their connections were ended first, and None when for the last time.
        self._turned_out: dict[UUID, float | None] = {}
        # Of a channel's features what may have been told, and by which key, while nobody has heard whether it was.
        self._doubts: dict[str, dict[str, tuple[Told, str]]] = {}
        self._down_until = self._sweep_at = 0.0

    # As a broker.

    async def opened(self, channels: Sequence[Channel], until: datetime) -> None:
        """As `Broker.opened`. The process that tells looks at them: whoever comes may have missed something."""
        until += GRACE

        async def note(tx: Tx) -> None:
            for org_id in {channel.org_id for channel in channels}:
                names = [name_of(channel) for channel in channels if channel.org_id == org_id]
                await audience_store.open_until(tx, org_id, names, until)
                payload = {"channels": names, "until": until.isoformat()}
                await self._bus.publish(tx, Change(org_id, REALTIME_OPENED, names[0], payload))

        await self._database.run(note)

    def organizations(self) -> Collection[UUID]:
        """As `Broker.organizations`."""
        return self._audiences.keys() if self._leads() else ()

    def channels(self, org_id: UUID) -> Collection[Channel]:
        """As `Broker.channels`."""
        return [channel for channel in tuple(self._audiences.get(org_id, ())) if self.hears(channel)]

    def hears(self, channel: Channel) -> bool:
        """As `Broker.hears`."""
        until = self._audiences.get(channel.org_id, {}).get(channel)
        if until is None or not self._leads():
            return False
        return until > self._clock.now()

    async def look(self, org_id: UUID, customer: str) -> Looked:
        """As `Broker.look`. While Centrifugo is away nobody is looked at: what will have to be told is known then."""
        if time.monotonic() < self._down_until:
            raise CentrifugoUnavailable("a moment ago it did not answer")
        this_look = new_id()
        found = await self._database.run(lambda tx: self._find(tx, org_id, customer, this_look))
        if found.telling:
            await self._tell(org_id, found, this_look)
        return Looked(found.waiting, found.next_at, by_figures=found.by_figures)

    async def begin_anew(self, org_id: UUID) -> bool:  # noqa: ARG002 - as the interface has it
        """As `Broker.begin_anew`. Its server API has nothing of the kind, so that every customer is looked at."""
        return False

    async def run(self) -> None:
        """As `Broker.run`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_lease())
                group.create_task(self._listen())
                group.create_task(self._turn_out_revoked())
        finally:
            self._freshness.stop()
            await self._api.close()
            with contextlib.suppress(Unavailable):
                await self._database.run(
                    lambda tx: audience_store.give_up_lease(tx, LEASE, self._holder), deadline_s=1.0
                )

    # News.

    async def _listen(self) -> None:
        async for change in self._bus.subscribe():
            if isinstance(change, Gap):
                self._freshness.in_background(self._look_at_all())
            elif change.kind == REALTIME_OPENED:
                self._note(change)
            else:
                self._freshness.hear(change)

    def _note(self, change: Change) -> None:
        if self._leads():
            self._listened(change.payload["channels"], datetime.fromisoformat(change.payload["until"]))

    def _listened(self, names: Sequence[str], until: datetime) -> None:
        """Somebody may be listening there: look at it, as at everything else that somebody comes to."""
        for name in names:
            channel = parse_name(name)
            assert channel is not None, "only names of ours are stored"
            audience = self._audiences.setdefault(channel.org_id, {})
            audience[channel] = max(until, audience.get(channel, until))
            if channel.customer is None:
                self._freshness.look_ahead(channel.org_id)
            else:
                self._freshness.mark(channel.org_id, channel.customer)

    async def _look_at_all(self) -> None:
        """News may have been missed, or another process has heard them: look at everybody."""
        if not self._leads():
            return
        found = await self._freshness.patiently(
            lambda: self._database.run(lambda tx: audience_store.read_audiences(tx, self._clock.now()))
        )
        for name, until in found:
            self._listened([name], until)
        for org_id in tuple(self.organizations()):
            if self.hears(Channel(org_id, None)):
                self._freshness.everybody_changed(org_id)

    # The lease.

    def _leads(self) -> bool:
        return time.monotonic() < self._leads_until

    async def _keep_lease(self) -> None:
        while True:
            asked_at = time.monotonic()
            try:
                if await self._database.run(
                    lambda tx: audience_store.take_lease(tx, LEASE, self._holder, timedelta(seconds=LEASE_S)),
                    deadline_s=RENEW_EVERY_S,
                ):
                    # Asked now, not before: news that came while the lease lapsed were not heard.
                    led = self._leads()
                    self._leads_until = asked_at + LEASE_S
                    if not led:
                        self._doubts.clear()  # another may have told otherwise since: these keys would pass for old
                        log.info("realtime_publishes_to_centrifugo")
                        self._freshness.in_background(self._look_at_all())
                else:
                    self._leads_until = 0.0
            except Unavailable:
                pass  # what is left of it is still ours
            if time.monotonic() > self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_EVERY_S
                self._forget_lapsed()
            await asyncio.sleep(RENEW_EVERY_S)

    def _forget_lapsed(self) -> None:
        """Of those to whom nobody can be listening any more, nothing is kept."""
        now = self._clock.now()
        for org_id, audience in tuple(self._audiences.items()):
            for channel in [one for one, until in audience.items() if until <= now]:
                del audience[channel]
                self._doubts.pop(name_of(channel), None)
            if not audience:
                del self._audiences[org_id]

    # Publishing.

    async def _find(self, tx: Tx, org_id: UUID, customer: str, look: UUID) -> Differences:
        found = await find_differences(
            tx, self._economics, org_id=org_id, customer=customer, real_now=self._clock.now()
        )
        if found.telling:
            await audience_store.doubt_told(tx, org_id, found.name, found.telling, look)
        return found

    async def _tell(self, org_id: UUID, found: Differences, look: UUID) -> None:
        # Nothing was told, and nothing may be noted as told.
        if time.monotonic() > self._leads_until - MARGIN_S:
            raise CentrifugoUnavailable("another process may be publishing")
        customer = parse_name(found.name)
        assert customer is not None, "a name of ours"
        channels = [name_of(channel) for channel in (customer, Channel(org_id, None)) if self.hears(channel)]
        keys = self._keys_of(found)
        publications = [
            ToPublish(name, keys[feature], data)
            for feature, data in zip(found.telling, found.data, strict=True)
            for name in channels
        ]
        failed = await self._publish(publications)
        told = {feature: one for feature, one in found.telling.items() if keys[feature] not in failed}
        if told:
            await self._database.run(lambda tx: audience_store.note_told(tx, org_id, found.name, told, look))
            doubts = self._doubts.get(found.name, {})  # gone where the audience has lapsed meanwhile
            for feature in told:
                doubts.pop(feature, None)
            if not doubts:
                self._doubts.pop(found.name, None)
        if failed:
            raise CentrifugoUnavailable("it could not publish everything")

    def _keys_of(self, found: Differences) -> dict[str, str]:
        """A key for each feature that is told: the same as before where the same may have been told already."""
        doubts = self._doubts.setdefault(found.name, {})
        for feature, one in found.telling.items():
            doubted = doubts.get(feature)
            if doubted is None or urgency(doubted[0], one) is not Urgency.NOTHING:
                doubts[feature] = (one, str(new_id()))
        return {feature: doubts[feature][1] for feature in found.telling}

    async def _publish(self, publications: Sequence[ToPublish]) -> set[str]:
        """The keys of those that have to be tried again."""
        failed: set[str] = set()
        for first in range(0, len(publications), MAX_COMMANDS):
            if time.monotonic() > self._leads_until - MARGIN_S:
                raise CentrifugoUnavailable("another process may be publishing")
            some = publications[first : first + MAX_COMMANDS]
            try:
                done = await self._api.publish(some)
            except CentrifugoUnavailable as fault:
                self._down_until = time.monotonic() + PAUSE_S
                log.warning("centrifugo_unavailable", error=str(fault))
                raise
            failed |= {one.key for one, told in zip(some, done, strict=True) if not told}
        return failed

    # Revoked keys.

    async def _turn_out_revoked(self) -> None:
        """End the connections of keys that were revoked while a token of theirs may live; those who come again are
        refused by the subscribe proxy."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S / 2)
            if not self._leads():
                self._turned_out.clear()
                continue
            try:
                await self._turn_out()
            except Unavailable as fault:
                log.warning("realtime_turning_out_failed", error=str(fault))

    async def _turn_out(self) -> None:
        since = self._clock.now() - tokens.LIFETIME - GRACE
        async with self._database.connection() as connection:
            revoked = await audience_store.keys_revoked_since(connection, since)
        now = time.monotonic()
        first = [key_id for key_id in revoked if key_id not in self._turned_out]
        again = [
            key_id
            for key_id, at in self._turned_out.items()
            if at is not None and now - at > AGAIN_AFTER_S and key_id in revoked
        ]
        users = [user for key_id in [*first, *again] for user in tokens.subjects_of(key_id)]
        for some in range(0, len(users), MAX_COMMANDS):
            if not await self._api.disconnect(users[some : some + MAX_COMMANDS]):
                return
        self._turned_out = {key_id: at for key_id, at in self._turned_out.items() if key_id in revoked}
        self._turned_out.update(dict.fromkeys(first, now))
        self._turned_out.update(dict.fromkeys(again))
