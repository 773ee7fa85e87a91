"""The embedded broker: who of this process listens to which channel, and what reaches them.

The history in the database is the truth: offsets are given out there once, under the channel's lock, whichever process
publishes. Processes hear of publications by the change bus; one that comes out of turn, or a gap in the news, is answered by
reading the history from where this process's listeners stand. Where that is not kept any more, they are told to fetch anew.

Who joins has everything decided first: whatever was missed, and however, is then in the history.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from nozle_server.core.clock import Clock
from nozle_server.entitlements.economics import Economics
from nozle_server.infra.change_bus import Change, Gap, PostgresChangeBus
from nozle_server.infra.database import Database, Tx
from nozle_server.realtime import protocol, store
from nozle_server.realtime.broker import Looked
from nozle_server.realtime.channels import name_of
from nozle_server.realtime.deciding import Differences, find_differences
from nozle_server.realtime.freshness import Freshness
from nozle_server.realtime.model import REALTIME_PUBLISHED, Channel, Position, Publication


class Listener(Protocol):
    def publish(self, name: str, publications: Sequence[Publication], text: bytes) -> None:
        """News of a channel; `text` is the message that tells all of them."""

    def lose(self, name: str) -> None:
        """Not in the channel any more: what was missed cannot be recovered."""


class _Local:
    """A channel that somebody of this process listens to."""

    __slots__ = ("behind", "catching_up", "channel", "listeners", "name", "position")

    def __init__(self, channel: Channel, name: str, position: Position) -> None:
        self.channel, self.name, self.position = channel, name, position
        self.listeners: set[Listener] = set()
        self.catching_up = False
        # News came while it was catching up, which what is being read may not have.
        self.behind = False


class Hub:
    """One a process, as a `Broker`; `run` brings the news."""

    def __init__(
        self, database: Database, economics: Economics, bus: PostgresChangeBus, clock: Clock
    ) -> None:
        self._database, self._economics, self._bus, self._clock = database, economics, bus, clock
        self._freshness = Freshness(database, clock, self)
        self._locals: dict[str, _Local] = {}
        # Channels that somebody listens to or is about to, and for how many reasons.
        self._heard: dict[UUID, dict[Channel, int]] = {}

    # As a broker.

    async def opened(self, channels: Sequence[Channel], until: datetime) -> None:
        """As `Broker.opened`. Who listens is known by the sockets."""

    def organizations(self) -> Collection[UUID]:
        """As `Broker.organizations`."""
        return self._heard.keys()

    def channels(self, org_id: UUID) -> Collection[Channel]:
        """As `Broker.channels`."""
        return self._heard.get(org_id, {}).keys()

    def hears(self, channel: Channel) -> bool:
        """As `Broker.hears`."""
        return channel in self._heard.get(channel.org_id, ())

    async def look(self, org_id: UUID, customer: str) -> Looked:
        """As `Broker.look`."""
        return await self._database.run(lambda tx: self._publish(tx, org_id, customer, joining=False))

    async def begin_anew(self, org_id: UUID) -> bool:
        """As `Broker.begin_anew`."""
        name = name_of(Channel(org_id, None))

        async def begin(tx: Tx) -> None:
            if await store.lock_existing_channel(tx, org_id, name) is not None:
                position = await store.new_epoch(tx, org_id, name)
                payload = {"epoch": position.epoch, "position": 1, "data": []}
                await self._bus.publish(tx, Change(org_id, REALTIME_PUBLISHED, name, payload))

        await self._database.run(begin)
        return True

    async def run(self) -> None:
        """As `Broker.run`."""
        try:
            async for one in self._bus.subscribe():
                self._hear(one)
        finally:
            self._freshness.stop()

    # Listeners.
    async def join(
        self, channel: Channel, listener: Listener, after: Position | None
    ) -> tuple[Position, list[Publication] | None]:
        """Listen from here on: where the channel stands, and what was published `after`, None when that is not known. A
        position without an epoch is one in the epoch that there is.

        The listener has everything up to that position, and is told everything beyond it.
        """
        # Heard from before the look on, so that what is announced between it and the end of this is looked at too.
        self._hold(channel)
        try:
            await self._bring_up_to_date(channel)
            return await self._add(channel, listener, after)
        finally:
            self._release(channel)

    async def _add(
        self, channel: Channel, listener: Listener, after: Position | None
    ) -> tuple[Position, list[Publication] | None]:
        name = name_of(channel)
        while True:
            async with self._database.connection() as connection:
                read = await store.read_since(connection, channel.org_id, name, after or Position("", 0))
                if read is not None and after is not None and not after.epoch:
                    # Of the epoch that there is, whichever.
                    known = Position(read[0].epoch, after.offset)
                    read = await store.read_since(connection, channel.org_id, name, known)
            if read is None:  # pruned this very moment
                await self._bring_up_to_date(channel)
                continue
            now, missed = read
            local = self._locals.get(name)
            if local is None:
                local = self._locals[name] = _Local(channel, name, now)
                self._hold(channel)
            elif local.position.epoch != now.epoch:
                self._lose_all(local)
                continue
            elif local.position.offset > now.offset:
                continue  # told between the reading and now
            local.listeners.add(listener)
            if len(local.listeners) == 1:
                self._catch_up(
                    local
                )  # what was published between the reading and now, when nobody listened here
            if channel.customer is None:
                self._freshness.look_ahead(channel.org_id)
            return now, missed if after is not None else None

    def leave(self, name: str, listener: Listener) -> None:
        """Not listening any more; again is harmless."""
        local = self._locals.get(name)
        if local is not None:
            local.listeners.discard(listener)
            if not local.listeners:
                self._forget(local)

    async def _bring_up_to_date(self, channel: Channel) -> None:
        """Publish what has not been told yet."""
        org_id, customer = channel.org_id, channel.customer
        if customer is None:
            await self._database.run(lambda tx: store.lock_channel(tx, org_id, name_of(channel)))
        else:
            await self._freshness.look(
                org_id,
                customer,
                lambda: self._database.run(lambda tx: self._publish(tx, org_id, customer, joining=True)),
            )

    def _hold(self, channel: Channel) -> None:
        held = self._heard.setdefault(channel.org_id, {})
        held[channel] = held.get(channel, 0) + 1

    def _release(self, channel: Channel) -> None:
        held = self._heard[channel.org_id]
        held[channel] -= 1
        if not held[channel]:
            del held[channel]
        if not held:
            del self._heard[channel.org_id]

    def _forget(self, local: _Local) -> None:
        if self._locals.get(local.name) is local:
            del self._locals[local.name]
            self._release(local.channel)

    def _lose_all(self, local: _Local) -> None:
        self._forget(local)
        for listener in tuple(local.listeners):
            listener.lose(local.name)

    # News.

    def _hear(self, change: Change | Gap) -> None:
        if isinstance(change, Gap):
            for local in tuple(self._locals.values()):
                self._catch_up(local)
        elif change.kind == REALTIME_PUBLISHED:
            self._published(change)
            return
        self._freshness.hear(change)

    def _published(self, change: Change) -> None:
        local = self._locals.get(change.subject)
        if local is None:
            return
        first, data = change.payload["position"], change.payload["data"]
        if change.payload["epoch"] != local.position.epoch or first > local.position.offset + 1:
            self._catch_up(local)
            return
        self._tell(local, [Publication(first + n, text.encode()) for n, text in enumerate(data)])

    def _tell(self, local: _Local, publications: Sequence[Publication]) -> None:
        new = [one for one in publications if one.offset > local.position.offset]
        if not new:
            return
        local.position = Position(local.position.epoch, new[-1].offset)
        text = protocol.push_publications(local.name, new)
        for listener in tuple(local.listeners):
            listener.publish(local.name, new, text)

    def _catch_up(self, local: _Local) -> None:
        if local.catching_up:
            local.behind = True  # the reading under way may not see what is missed now
        else:
            local.catching_up = True
            self._freshness.in_background(self._read_missed(local))

    async def _read_missed(self, local: _Local) -> None:
        async def read(tx: Tx) -> Any:
            return await store.read_since(tx, local.channel.org_id, local.name, local.position)

        found = await self._freshness.patiently(lambda: self._database.run(read))
        local.catching_up = False
        if self._locals.get(local.name) is not local:
            return
        if found is None or found[1] is None:
            self._lose_all(local)
        else:
            self._tell(local, found[1])
            if local.behind:
                local.behind = False
                self._catch_up(local)

    # Publishing.

    async def _publish(self, tx: Tx, org_id: UUID, customer: str, *, joining: bool) -> Looked:
        """Decide the customer's features and publish what differs, in its channel and in the organization's.

        The first to join a channel has yet to ask how things are, so that is only noted; later comers may have missed
        something.
        """
        found = await find_differences(
            tx, self._economics, org_id=org_id, customer=customer, real_now=self._clock.now()
        )
        if joining and found.is_new:
            await store.write_told(tx, org_id, found.name, found.after)
            return Looked(False, found.next_at, by_figures=found.by_figures)
        if found.telling:
            await store.write_told(tx, org_id, found.name, found.telling)
            await self._append_everywhere(tx, org_id, found)
        return Looked(found.waiting, found.next_at, by_figures=found.by_figures)

    async def _append_everywhere(self, tx: Tx, org_id: UUID, found: Differences) -> None:
        await self._append(tx, org_id, found.name, found.position, found.data)
        # After the customer's, always in this order.
        workspace = name_of(Channel(org_id, None))
        stands = await store.lock_existing_channel(tx, org_id, workspace)
        if stands is not None:
            await self._append(tx, org_id, workspace, stands, found.data)

    async def _append(self, tx: Tx, org_id: UUID, name: str, position: Position, data: list[bytes]) -> None:
        await store.append(tx, org_id, name, position, data)
        payload = {
            "epoch": position.epoch,
            "position": position.offset + 1,
            "data": [text.decode() for text in data],
        }
        await self._bus.publish(tx, Change(org_id, REALTIME_PUBLISHED, name, payload))
