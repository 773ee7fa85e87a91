"""Realtime as the rest of the program sees it: tokens, and the broker that the settings ask for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.core.clock import Clock
from nozle_server.entitlements.economics import Economics
from nozle_server.infra.change_bus import PostgresChangeBus
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from nozle_server.realtime.broker import Broker
from nozle_server.realtime.gate import Gate
from nozle_server.realtime.hub import Hub
from nozle_server.realtime.model import Channel
from nozle_server.realtime.tokens import TokenRefused


@dataclass(frozen=True, slots=True)
class Realtime:
    """One a process. `hub` None: clients connect elsewhere, at `url`; otherwise to this server."""

    gate: Gate
    broker: Broker
    hub: Hub | None
    url: str | None = None

    async def new_token(
        self, *, org_id: UUID, key_id: UUID, scope: str, channels: Sequence[Channel]
    ) -> tuple[str, datetime]:
        """A connection token for these channels, and when it ends. Who has it may be listening from here on."""
        made = await self.gate.new_token(org_id=org_id, key_id=key_id, scope=scope, channels=channels)
        await self.broker.opened(channels, made[1])
        return made

    async def may_join(self, *, org_id: UUID, key_id: UUID, channel: Channel) -> bool:
        """Whether somebody whose token names this channel, and was made with this key, may still join it elsewhere."""
        try:
            await self.gate.check_key(org_id, key_id, exactly=True)
        except TokenRefused:
            return False
        await self.broker.opened([channel], self.gate.now())
        return True

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.gate.run())
            group.create_task(self.broker.run())


def build_realtime(
    database: Database, economics: Economics, bus: PostgresChangeBus, clock: Clock, settings: Settings
) -> Realtime:
    """The embedded broker, or the one for `CENTRIFUGO_URL` where that is set."""
    gate = Gate(database, clock, settings.centrifugo_token_hmac_secret)
    if settings.centrifugo_url is None:
        hub = Hub(database, economics, bus, clock)
        return Realtime(gate, hub, hub)
    # Imported for those alone who use it: an HTTP client is ten megabytes of every process.
    from nozle_server.realtime.centrifugo import CentrifugoBroker
    from nozle_server.realtime.centrifugo_api import CentrifugoApi

    assert settings.centrifugo_api_key is not None, "the settings go together"
    api = CentrifugoApi(settings.centrifugo_url, settings.centrifugo_api_key)
    url = (
        settings.centrifugo_public_url
        or f"ws{settings.centrifugo_url.removeprefix('http')}/connection/websocket"
    )
    return Realtime(gate, CentrifugoBroker(database, economics, bus, clock, api), None, url)
