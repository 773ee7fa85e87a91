"""Realtime as the rest of the program sees it: tokens, and the broker that the settings ask for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.realtime.broker import Broker
from nozle_server.realtime.gate import Gate
from nozle_server.realtime.hub import Hub
from nozle_server.realtime.model import Channel


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

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.gate.run())
            group.create_task(self.broker.run())
