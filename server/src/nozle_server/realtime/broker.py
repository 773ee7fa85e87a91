"""What stands between those who decide and those who listen: one interface, and two adapters of it.

The embedded broker (`hub.py`) speaks to sockets of this server, the other (`centrifugo.py`) hands publications to a
Centrifugo, where clients are then connected. Both leave it to `freshness.py` when to look at whom.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from nozle_server.realtime.model import Channel


class Looked:
    """What came of a look at a customer: whether something waits to be told, and when to look again. `by_figures`: it was
    decided by figures that may move at any time, and of which there is no news."""

    __slots__ = ("by_figures", "next_at", "waiting")

    def __init__(self, waiting: bool, next_at: datetime | None, *, by_figures: bool = False) -> None:
        self.waiting = waiting
        self.next_at = next_at
        self.by_figures = by_figures


class Broker(Protocol):
    """Who may be listening, as far as this process decides for them, and how publications reach them."""

    async def opened(self, channels: Sequence[Channel], until: datetime) -> None:
        """A token was handed out that opens these channels until then."""

    def organizations(self) -> Collection[UUID]:
        """Those with channels that are heard."""

    def channels(self, org_id: UUID) -> Collection[Channel]:
        """The channels of an organization in which somebody may be listening."""

    def hears(self, channel: Channel) -> bool:
        """Whether somebody may be listening there."""

    async def look(self, org_id: UUID, customer: str) -> Looked:
        """Decide the customer's features anew and tell what differs from what was told; Unavailable when that must be
        tried again."""

    async def begin_anew(self, org_id: UUID) -> bool:
        """Have those who listen to the organization's channel fetch everything, because too much has changed; False
        when that cannot be told, and so every customer has to be looked at."""

    async def run(self) -> None:
        """Until cancelled: hear the news and tell."""
