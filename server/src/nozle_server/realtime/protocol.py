"""Centrifugo's client protocol, JSON: text of a WebSocket message to commands, and replies and pushes to text. Pure.

A message holds commands one a line; each has an `id`, and its reply has the same. An empty command answers a ping. Codes are
those of https://github.com/centrifugal/centrifuge (errors.go, disconnect.go, unsubscribe.go): clients reconnect after
3000-3499 and not after 3500-3999, subscribe again after an unsubscribe of 2500 and up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nozle_server.realtime.model import Position, Publication

MAX_COMMANDS = 64
"""In one message; the official clients batch their subscriptions."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    code: int
    message: str
    temporary: bool = False


INTERNAL = ErrorCode(100, "internal server error", temporary=True)
UNKNOWN_CHANNEL = ErrorCode(102, "unknown channel")
PERMISSION_DENIED = ErrorCode(103, "permission denied")
METHOD_NOT_FOUND = ErrorCode(104, "method not found")
ALREADY_SUBSCRIBED = ErrorCode(105, "already subscribed")
LIMIT_EXCEEDED = ErrorCode(106, "limit exceeded")
BAD_REQUEST = ErrorCode(107, "bad request")
NOT_AVAILABLE = ErrorCode(108, "not available")
TOKEN_EXPIRED = ErrorCode(109, "token expired")
UNRECOVERABLE = ErrorCode(112, "unrecoverable position")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Why the server closes a connection: a WebSocket close code and its reason."""

    code: int
    reason: str


SHUTDOWN = Disconnect(3001, "shutdown")
SERVER_ERROR = Disconnect(3004, "internal server error")
EXPIRED = Disconnect(3005, "connection expired")
SLOW = Disconnect(3008, "slow")
NO_PONG = Disconnect(3012, "no pong")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_FRAME = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
TOO_MANY_COMMANDS = Disconnect(3503, "force disconnect")
NOTHING_TO_SEND_TO = Disconnect(3508, "not available")


INSUFFICIENT_STATE = Disconnect(2500, "insufficient state")
"""Of a subscription, not of the connection: what it missed is not there any more."""

PING = b"{}"

_REJECT_UNRECOVERED = 1 << 1
_MAX_OFFSET = 2**64 - 1


class BadFrame(Exception):
    """The message is not of the protocol."""


class Connect(msgspec.Struct):
    """What else a client says of itself is not asked for."""

    token: str = ""


class Subscribe(msgspec.Struct):
    """`recover` with the position at which the client lost the channel. Without an epoch it takes the channel for the one
    that it knew."""

    channel: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    flag: int = 0
    type: int = 0

    @property
    def recovers_or_nothing(self) -> bool:
        """It would rather be refused than join without what it missed: it keeps a state of its own, which it then reads
        anew first."""
        return self.flag & _REJECT_UNRECOVERED != 0


class Unsubscribe(msgspec.Struct):
    channel: str


class Refresh(msgspec.Struct):
    token: str = ""


class SubRefresh(msgspec.Struct):
    channel: str
    token: str = ""


class Send(msgspec.Struct):
    """A message that has no reply."""


@dataclass(frozen=True, slots=True)
class Unoffered:
    """What Centrifugo can do and no channel of ours allows."""

    error: ErrorCode


Method = Connect | Subscribe | Unsubscribe | Refresh | SubRefresh | Send | Unoffered


@dataclass(frozen=True, slots=True)
class Command:
    """`method` None: the answer to a ping."""

    id: int
    method: Method | None


class _Any(msgspec.Struct):
    pass


class _Command(msgspec.Struct):
    id: int = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    refresh: Refresh | None = None
    sub_refresh: SubRefresh | None = None
    send: Send | None = None
    publish: _Any | None = None
    presence: _Any | None = None
    presence_stats: _Any | None = None
    history: _Any | None = None
    rpc: _Any | None = None


_decoder = msgspec.json.Decoder(_Command)
_encoder = msgspec.json.Encoder()


def parse_message(message: bytes) -> list[Command]:
    """The commands of one message. BadFrame when it holds anything else, or too many."""
    lines = [line for line in message.split(b"\n") if line.strip()]
    if not lines or len(lines) > MAX_COMMANDS:
        raise BadFrame
    return [_parse_command(line) for line in lines]


def _parse_command(line: bytes) -> Command:
    try:
        read = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadFrame from None
    methods = [method for method in _methods(read) if method is not None]
    if len(methods) > 1 or not 0 <= read.id < 2**32:
        raise BadFrame
    method = methods[0] if methods else None
    # What has no id is the answer to a ping, which asks for nothing, or a message, which has no reply.
    if not isinstance(method, Send) and (read.id == 0) != (method is None):
        raise BadFrame
    if isinstance(method, Subscribe | Unsubscribe | SubRefresh) and not method.channel:
        raise BadFrame
    if isinstance(method, Subscribe) and (not 0 <= method.offset <= _MAX_OFFSET or "\0" in method.epoch):
        raise BadFrame
    return Command(read.id, method)


def _methods(read: _Command) -> list[Method | None]:
    unoffered = (
        (read.publish, PERMISSION_DENIED),
        (read.presence, NOT_AVAILABLE),
        (read.presence_stats, NOT_AVAILABLE),
        (read.history, NOT_AVAILABLE),
        (read.rpc, METHOD_NOT_FOUND),
    )
    return [
        read.connect,
        read.subscribe,
        read.unsubscribe,
        read.refresh,
        read.sub_refresh,
        read.send,
        *(None if asked is None else Unoffered(error) for asked, error in unoffered),
    ]


def error_reply(command_id: int, error: ErrorCode) -> bytes:
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.temporary:
        told["temporary"] = True
    return _encoder.encode({"id": command_id, "error": told})


def connected(command_id: int, *, client: str, version: str, ttl_s: int, ping_s: int) -> bytes:
    result = {
        "client": client,
        "version": version,
        "expires": True,
        "ttl": ttl_s,
        "ping": ping_s,
        "pong": True,
    }
    return _encoder.encode({"id": command_id, "connect": result})


def refreshed(command_id: int, *, ttl_s: int) -> bytes:
    result = {"expires": True, "ttl": ttl_s}
    return _encoder.encode({"id": command_id, "refresh": result})


def subscribed(
    command_id: int, now: Position, *, after: int | None, missed: Sequence[Publication] | None
) -> bytes:
    """`after`: the offset from which the client wanted to recover, None when it did not. `missed` None: not recovered, so that
    such a client has to fetch anew."""
    recovered = after is not None and missed is not None
    result: dict[str, Any] = {
        "recoverable": True,
        "positioned": True,
        "epoch": now.epoch,
        # The client moves on from where it was as it handles what it missed: cut off amidst that, it asks for the rest.
        "offset": after if recovered else now.offset,
    }
    if after is not None:
        result["was_recovering"] = True
        result["recovered"] = recovered
    if missed:
        result["publications"] = [_publication(one) for one in missed]
    return _encoder.encode({"id": command_id, "subscribe": result})


def unsubscribed(command_id: int) -> bytes:
    return _encoder.encode({"id": command_id, "unsubscribe": {}})


def push_publications(channel: str, publications: Sequence[Publication]) -> bytes:
    """Pushes, one a line."""
    return b"\n".join(
        _encoder.encode({"push": {"channel": channel, "pub": _publication(one)}}) for one in publications
    )


def push_unsubscribe(channel: str, why: Disconnect) -> bytes:
    told = {"code": why.code, "reason": why.reason}
    return _encoder.encode({"push": {"channel": channel, "unsubscribe": told}})


def _publication(publication: Publication) -> dict[str, Any]:
    return {"data": msgspec.Raw(publication.data), "offset": publication.offset}
