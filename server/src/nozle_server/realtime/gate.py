"""Who may come in, and who has to leave: tokens, and the keys that they were made with.

A revoked key's connections are closed within about `CHECK_EVERY_S`, in every process: each asks the database about the keys of
its own connections, all at once, so that it takes no news to arrive. For as long a key that was alive counts as alive, so
that thousands who come at once with tokens of one key are one question.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from nozle_server.core.clock import Clock
from nozle_server.core.errors import Unavailable
from nozle_server.infra.database import Database
from nozle_server.realtime import store
from nozle_server.realtime.channels import name_of
from nozle_server.realtime.model import Channel, Claims
from nozle_server.realtime.tokens import TokenRefused, mint, verify

SECRET_NAME = "realtime tokens"
CHECK_EVERY_S = 0.5

_Key = tuple[UUID, UUID]


class Guest(Protocol):
    def turn_out(self) -> None:
        """The key that let it in has been revoked."""


class Gate:
    """One a process; `run` keeps looking at the keys of those inside."""

    def __init__(self, database: Database, clock: Clock, secret: str | None) -> None:
        self._database, self._clock = database, clock
        self._secret = secret.encode() if secret else None
        self._inside: dict[_Key, set[Guest]] = {}
        # Until when, by the monotonic clock, a key counts as alive.
        self._alive: dict[_Key, float] = {}

    async def new_token(
        self, *, org_id: UUID, key_id: UUID, scope: str, channels: Sequence[Channel]
    ) -> tuple[str, datetime]:
        """A connection token for these channels, and when it ends."""
        names = tuple(name_of(channel) for channel in channels)
        secret = await self._get_secret()
        return mint(
            secret, org_id=org_id, key_id=key_id, scope=scope, channels=names, real_now=self._clock.now()
        )

    async def check_token(self, token: str) -> Claims:
        """What it says, when its key is still good too. TokenRefused, TokenExpired."""
        claims = verify(await self._get_secret(), token, self._clock.now())
        await self.check_key(claims.org_id, claims.key_id)
        return claims

    async def check_key(self, org_id: UUID, key_id: UUID, *, exactly: bool = False) -> None:
        """TokenRefused when the key that the token was made with has been revoked; `exactly`: at this moment, for those
        who are let in elsewhere and not looked after here."""
        key, asked_at = (org_id, key_id), time.monotonic()
        if not exactly and self._alive.get(key, 0.0) > asked_at:
            return
        async with self._database.connection() as connection:
            if await store.dead_keys(connection, [key]):
                raise TokenRefused
        self._alive[key] = asked_at + CHECK_EVERY_S

    def now(self) -> datetime:
        """The time by which tokens live."""
        return self._clock.now()

    def enter(self, claims: Claims, guest: Guest) -> None:
        """From here on `guest` is turned out when the key is revoked."""
        self._inside.setdefault((claims.org_id, claims.key_id), set()).add(guest)

    def leave(self, claims: Claims, guest: Guest) -> None:
        """It is gone; again is harmless."""
        key = (claims.org_id, claims.key_id)
        guests = self._inside.get(key)
        if guests is not None:
            guests.discard(guest)
            if not guests:
                del self._inside[key]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self._alive = {key: until for key, until in self._alive.items() if until > time.monotonic()}
            if not self._inside:
                continue
            try:
                async with self._database.connection() as connection:
                    dead = await store.dead_keys(connection, list(self._inside))
            except Unavailable:
                continue  # nobody can tell; nor can anybody come in
            for key in dead:
                self._alive.pop(key, None)
                for guest in tuple(self._inside.get(key, ())):
                    guest.turn_out()

    async def _get_secret(self) -> bytes:
        if self._secret is None:
            self._secret = await self._database.run(lambda tx: store.signing_secret(tx, SECRET_NAME))
        return self._secret
