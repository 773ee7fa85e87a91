"""Centrifugo's server API by HTTP: publish, and disconnect (https://centrifugal.dev/docs/server/server_api).

Errors stand in the body of a 200, one for each command of a batch. Everything else than that (no answer in time, another
status, a body that is not of the API) leaves open what was done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import structlog

from nozle_server.core.errors import Unavailable

TIMEOUT_S = 2.0
MAX_COMMANDS = 100
"""In one request."""
MAX_ANSWER_BYTES = 1024 * 1024
PERMANENT = frozenset({102, 103, 104, 107, 108})
"""Unknown channel, permission denied, not found, bad request, not available: the same again would be answered the same,
until somebody configures Centrifugo otherwise. Nobody can be listening meanwhile in a channel that it does not know."""
REVOKED = {"code": 4501, "reason": "invalid token"}
"""Clients that are told so do not come back with the same token."""

log = structlog.get_logger()


class CentrifugoUnavailable(Unavailable):
    """Whether it did what was asked is not known."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Centrifugo cannot be reached: {why}", code="centrifugo_unavailable")


@dataclass(frozen=True, slots=True)
class ToPublish:
    """`data` is JSON text. A publication of the same `key` in the same channel within five minutes is the same one."""

    channel: str
    key: str
    data: bytes


class _Error(msgspec.Struct):
    code: int
    message: str = ""


class _Reply(msgspec.Struct):
    error: _Error | None = None


class _Replies(msgspec.Struct):
    replies: list[_Reply]


_decoder = msgspec.json.Decoder(_Replies)
_encoder = msgspec.json.Encoder()


class CentrifugoApi:
    """`url` is Centrifugo's own address, under which `/api` is."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = f"{url}/api/batch", key
        self._session: aiohttp.ClientSession | None = None

    async def publish(self, publications: Sequence[ToPublish]) -> list[bool]:
        """Which of them may count as told, in their order; the others have to be tried again. In each channel one
        publication follows the other. CentrifugoUnavailable when that is not known of any."""
        commands = [
            {
                "publish": {
                    "channel": one.channel,
                    "data": msgspec.Raw(one.data),
                    "idempotency_key": one.key,
                }
            }
            for one in publications
        ]
        told = []
        for error, one in zip(await self._send(commands), publications, strict=True):
            told.append(error is None or error.code in PERMANENT)
            if error is not None:
                log.error("centrifugo_refused", channel=one.channel, code=error.code, message=error.message)
        return told

    async def disconnect(self, users: Sequence[str]) -> bool:
        """End all connections of these; False when some have to be tried again."""
        errors = await self._send([{"disconnect": {"user": user, "disconnect": REVOKED}} for user in users])
        return all(error is None or error.code in PERMANENT for error in errors)

    async def close(self) -> None:
        """Connections to it are closed."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, commands: Sequence[Any]) -> list[_Error | None]:
        """One error or None for each command. They are done one after the other, never in parallel."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        assert len(commands) <= MAX_COMMANDS, "a batch"
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        body = _encoder.encode({"commands": commands})
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise CentrifugoUnavailable(f"it answers {answer.status}")
                text = await answer.content.read(MAX_ANSWER_BYTES)
                while chunk := await answer.content.read(MAX_ANSWER_BYTES):
                    text += chunk
                    if len(text) > MAX_ANSWER_BYTES:
                        raise CentrifugoUnavailable("its answer has no end")
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise CentrifugoUnavailable(type(fault).__name__) from fault
        try:
            replies = _decoder.decode(text).replies
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise CentrifugoUnavailable("its answer is none of the API") from None
        if len(replies) != len(commands):
            raise CentrifugoUnavailable("it does not answer every command")
        return [reply.error for reply in replies]
