"""One client's connection: commands in, replies and pushes out. Knows the protocol and the rules, and no socket.

Commands are done in their order, one at a time. An idle connection is this object, a timer and its subscriptions: no task.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

import structlog

from nozle_server.core.clock import Clock
from nozle_server.core.errors import Unavailable
from nozle_server.realtime import protocol
from nozle_server.realtime.channels import parse_name
from nozle_server.realtime.gate import Gate
from nozle_server.realtime.hub import Hub
from nozle_server.realtime.model import Claims, Position, Publication
from nozle_server.realtime.protocol import (
    BadFrame,
    Command,
    Connect,
    Disconnect,
    Refresh,
    SubRefresh,
    Subscribe,
    Unoffered,
    Unsubscribe,
)
from nozle_server.realtime.tokens import TokenExpired, TokenRefused

VERSION = "nozle"
PING_EVERY_S = 25
PONG_WITHIN_S = 10
CONNECT_WITHIN_S = 10
EXPIRY_GRACE_S = 25
"""After a token's end, for a client that is just fetching the next."""
MAX_SUBSCRIPTIONS = 16
MAX_PENDING = 128
"""Commands that wait for their turn."""
MAX_OFFSET = 2**63 - 1
"""That the history can have. A client may name a greater one; no channel is there, nor at this one."""

log = structlog.get_logger()


class Transport(Protocol):
    def send(self, text: bytes) -> None:
        """A message to the client; nothing once it is closed."""

    def close(self, why: Disconnect) -> None:
        """Say why, and end the connection; again is harmless."""


class Connection:
    """`lost` must be called when the transport is gone, however it went."""

    __slots__ = (
        "_claims",
        "_clock",
        "_closed",
        "_gate",
        "_hub",
        "_id",
        "_loop",
        "_offsets",
        "_pending",
        "_ponged",
        "_timer",
        "_transport",
        "_work",
    )

    def __init__(self, gate: Gate, hub: Hub, transport: Transport, clock: Clock) -> None:
        self._gate, self._hub, self._transport, self._clock = gate, hub, transport, clock
        self._loop = asyncio.get_running_loop()
        self._id = str(uuid4())
        self._claims: Claims | None = None
        self._offsets: dict[str, int] = {}
        self._pending: deque[Command] = deque()
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._ponged = True
        self._timer = self._loop.call_later(CONNECT_WITHIN_S, self._close, protocol.STALE)

    # From the transport.

    def receive(self, message: bytes) -> None:
        """A message of the client's."""
        if self._closed:
            return
        try:
            commands = protocol.parse_message(message)
        except BadFrame:
            self._close(protocol.BAD_FRAME)
            return
        for command in commands:
            if command.method is not None:
                self._pending.append(command)
            elif self._ponged:
                self._close(protocol.BAD_FRAME)  # to no ping
                return
            else:
                self._ponged = True
        if len(self._pending) > MAX_PENDING:
            self._close(protocol.TOO_MANY_COMMANDS)
        elif self._pending and self._work is None:
            self._work = self._loop.create_task(self._do_pending())

    def lost(self) -> None:
        """The transport is gone."""
        self._closed = True
        self._timer.cancel()
        self._pending.clear()
        for name in self._offsets:
            self._hub.leave(name, self)
        self._offsets.clear()
        if self._claims is not None:
            self._gate.leave(self._claims, self)

    def shut_down(self) -> None:
        """The server leaves; the client connects to another process, or again."""
        self._close(protocol.SHUTDOWN)

    # From the gate.

    def turn_out(self) -> None:
        """Its key has been revoked; a client that is told so does not come back with the same token."""
        self._close(protocol.INVALID_TOKEN)

    # From the hub.

    def publish(self, name: str, publications: Sequence[Publication], text: bytes) -> None:
        offset = self._offsets.get(name)
        if offset is None or publications[-1].offset <= offset:
            return
        self._offsets[name] = publications[-1].offset
        if publications[0].offset != offset + 1:
            news = [one for one in publications if one.offset > offset]
            text = protocol.push_publications(name, news)
        self._transport.send(text)

    def lose(self, name: str) -> None:
        if self._offsets.pop(name, None) is not None:
            self._transport.send(protocol.push_unsubscribe(name, protocol.INSUFFICIENT_STATE))

    # Commands.

    async def _do_pending(self) -> None:
        try:
            while self._pending and not self._closed:
                await self._do(self._pending.popleft())
        except Exception:
            # The edge of a task that nobody awaits. Whatever it is, it ends this connection and no other: a client that is
            # left without its reply would wait for it, one that is told connects again.
            log.exception("realtime_connection_failed")
            self._close(protocol.SERVER_ERROR)
        finally:
            self._work = None

    async def _do(self, command: Command) -> None:
        method = command.method
        if (self._claims is None) != isinstance(method, Connect):
            self._close(protocol.BAD_FRAME)
            return
        try:
            match method:
                case Connect():
                    reply = await self._connect(command.id, method)
                case Refresh():
                    reply = await self._refresh(command.id, method)
                case Subscribe():
                    reply = await self._subscribe(command.id, method)
                case Unsubscribe():
                    reply = self._unsubscribe(command.id, method)
                case SubRefresh():
                    # Subscriptions do not end before their connection's token, so there is nothing to renew.
                    joined = method.channel in self._offsets
                    error = protocol.NOT_AVAILABLE if joined else protocol.PERMISSION_DENIED
                    reply = protocol.error_reply(command.id, error)
                case Unoffered():
                    reply = protocol.error_reply(command.id, method.error)
                case _:
                    self._close(protocol.NOTHING_TO_SEND_TO)
                    return
        except Unavailable:
            reply = protocol.error_reply(command.id, protocol.INTERNAL)
        except TokenExpired:
            if isinstance(method, Refresh):
                # To a client an error is the end of it; after this it comes back, and is asked for another token.
                self._close(protocol.EXPIRED)
                return
            reply = protocol.error_reply(command.id, protocol.TOKEN_EXPIRED)
        except TokenRefused:
            self._close(protocol.INVALID_TOKEN)
            return
        if not self._closed:
            self._transport.send(reply)

    async def _connect(self, command_id: int, asked: Connect) -> bytes:
        claims = await self._gate.check_token(asked.token)
        if not self._closed:
            self._claims = claims
            self._gate.enter(claims, self)
            self._timer.cancel()
            self._timer = self._loop.call_later(min(PING_EVERY_S, self._grace_s()), self._ping)
        return protocol.connected(
            command_id, client=self._id, version=VERSION, ttl_s=self._ttl_s(claims), ping_s=PING_EVERY_S
        )

    async def _refresh(self, command_id: int, asked: Refresh) -> bytes:
        claims = await self._gate.check_token(asked.token)
        assert self._claims is not None, "connected"
        if claims.org_id != self._claims.org_id or not set(self._offsets) <= set(claims.channels):
            raise TokenRefused
        if not self._closed:
            self._gate.leave(self._claims, self)
            self._claims = claims
            self._gate.enter(claims, self)
        return protocol.refreshed(command_id, ttl_s=self._ttl_s(claims))

    async def _subscribe(self, command_id: int, asked: Subscribe) -> bytes:
        assert self._claims is not None, "connected"
        if asked.type != 0:  # other than of publications: we have none
            return protocol.error_reply(command_id, protocol.BAD_REQUEST)
        channel = parse_name(asked.channel)
        if channel is None:
            return protocol.error_reply(command_id, protocol.UNKNOWN_CHANNEL)
        if channel.org_id != self._claims.org_id or asked.channel not in self._claims.channels:
            return protocol.error_reply(command_id, protocol.PERMISSION_DENIED)
        if asked.channel in self._offsets:
            return protocol.error_reply(command_id, protocol.ALREADY_SUBSCRIBED)
        if len(self._offsets) >= MAX_SUBSCRIPTIONS:
            return protocol.error_reply(command_id, protocol.LIMIT_EXCEEDED)
        await self._gate.check_key(self._claims.org_id, self._claims.key_id)
        after = Position(asked.epoch, min(asked.offset, MAX_OFFSET)) if asked.recover else None
        now, missed = await self._hub.join(channel, self, after)
        if self._closed:
            self._hub.leave(asked.channel, self)
            return b""
        if after is not None and missed is None and asked.recovers_or_nothing:
            self._hub.leave(asked.channel, self)
            return protocol.error_reply(command_id, protocol.UNRECOVERABLE)
        self._offsets[asked.channel] = now.offset
        return protocol.subscribed(command_id, now, after=after.offset if after else None, missed=missed)

    def _unsubscribe(self, command_id: int, asked: Unsubscribe) -> bytes:
        if self._offsets.pop(asked.channel, None) is not None:
            self._hub.leave(asked.channel, self)
        return protocol.unsubscribed(command_id)

    # Time.

    def _ttl_s(self, claims: Claims) -> int:
        return max(1, int((claims.expires_at - self._clock.now()).total_seconds()))

    def _ping(self) -> None:
        if self._grace_s() <= 0:
            self._close(protocol.EXPIRED)
            return
        self._ponged = False
        self._transport.send(protocol.PING)
        self._timer = self._loop.call_later(PONG_WITHIN_S, self._expect_pong)

    def _expect_pong(self) -> None:
        if not self._ponged:
            self._close(protocol.NO_PONG)
            return
        self._timer = self._loop.call_later(min(PING_EVERY_S - PONG_WITHIN_S, self._grace_s()), self._ping)

    def _grace_s(self) -> float:
        """How much longer it may stay without another token."""
        assert self._claims is not None, "connected"
        return (self._claims.expires_at - self._clock.now()).total_seconds() + EXPIRY_GRACE_S

    def _close(self, why: Disconnect) -> None:
        if not self._closed:
            self.lost()
            self._transport.close(why)
