"""A stand-in for Centrifugo's server API over HTTP, as https://centrifugal.dev/docs/server/server_api documents it and as its
official client reads it (test_official_server_client.py): publish and disconnect, alone and in a batch, with histories,
idempotency keys and the API's key; and, when told to, the faults of a server that is away, slow, misconfigured or talks
nonsense. It knows no other method, and forgets no idempotency key.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from aiohttp import web

KEY = "the-api-key-of-centrifugo"
NAMESPACES = {"customer", "workspace"}
MESSAGES = {
    100: "internal server error",
    102: "unknown channel",
    104: "not found",
    107: "bad request",
    108: "not available",
}
"""https://github.com/centrifugal/centrifugo/blob/master/internal/apiproto/errors.go"""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, also in vain; `body` as JSON text."""

    path: str
    headers: Mapping[str, str]
    body: bytes


# As Centrifugo reads them (internal/apiproto/api.proto): what is left out is empty, what it does not know is passed over, and
# what is of another type makes the whole request a bad one.


class _Publish(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    idempotency_key: str = ""


class _Code(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    reason: str = ""


class _Disconnect(msgspec.Struct):
    user: str = ""
    disconnect: _Code | None = None


class _Command(msgspec.Struct):
    publish: _Publish | None = None
    disconnect: _Disconnect | None = None


class _Batch(msgspec.Struct):
    commands: list[_Command] = []
    parallel: bool = False


class FakeCentrifugo:
    """`histories` are what subscribers of a channel heard; `requests` and the `commands` in them are everything that was
    asked, also in vain.

    `fault` is called with each request's commands before (`"before"`) and after (`"after"`) they are done, and may return a
    response or raise instead; `refuse` gives the error of a command, if any.
    """

    def __init__(self) -> None:
        self.histories: dict[str, list[Any]] = defaultdict(list)
        self.disconnected: list[str] = []
        self.requests: list[Request] = []
        self.commands: list[Any] = []
        self.fault: Callable[[str, Sequence[Any]], Any] = lambda *_: None
        self.refuse: Callable[[Any], int | None] = lambda _: None
        self.changed = asyncio.Event()
        self._done: dict[tuple[str, str], Any] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        for method in ("publish", "disconnect", "batch"):
            app.router.add_post(f"/api/{method}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def heard(self, channel: str, **wanted: object) -> list[Any]:
        """What subscribers heard there of that kind."""
        return [
            one
            for one in self.histories[channel]
            if all(one.get(name) == value for name, value in wanted.items())
        ]

    async def until(self, found: Callable[[], Any]) -> Any:
        """What it is once it is."""
        async with asyncio.timeout(30):
            while not (result := found()):
                self.changed.clear()
                await self.changed.wait()
        return result

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(Request(request.path, request.headers.copy(), body))
        if request.headers.get("X-API-Key") != KEY:
            return web.Response(status=401)
        method = request.path.removeprefix("/api/")
        alone = method != "batch"
        if alone:
            body = b'{"commands":[{"%s":%s}]}' % (method.encode(), body)
        try:
            commands = _decoder.decode(body).commands
        except msgspec.MsgspecError:
            return web.Response(status=400, text="Bad Request")
        asked = json.loads(body)["commands"]
        self.commands += asked
        self.changed.set()
        if (instead := await self._fail("before", asked)) is not None:
            return instead
        replies = [self._do(command, as_asked) for command, as_asked in zip(commands, asked, strict=True)]
        self.changed.set()
        if (instead := await self._fail("after", asked)) is not None:
            return instead
        if not alone:
            return web.json_response({"replies": replies})
        [reply] = replies
        return web.json_response(reply if "error" in reply else {"result": reply[method]})

    async def _fail(self, when: str, commands: Sequence[Any]) -> web.Response | None:
        result = self.fault(when, commands)
        if asyncio.iscoroutine(result):
            result = await result
        assert result is None or isinstance(result, web.Response)
        return result

    def _do(self, command: _Command, as_asked: Any) -> dict[str, Any]:
        if (code := self.refuse(as_asked)) is not None:
            return _error(code)
        if command.publish is not None:
            return self._publish(command.publish)
        if command.disconnect is not None:
            self.disconnected.append(command.disconnect.user)
            return {"disconnect": {}}
        return _error(104)

    def _publish(self, asked: _Publish) -> dict[str, Any]:
        if not asked.channel:
            return _error(107)
        if asked.channel.partition(":")[0] not in NAMESPACES:
            return _error(102)
        if not bytes(asked.data):
            return _error(107)
        done = self._done.get((asked.channel, asked.idempotency_key)) if asked.idempotency_key else None
        if done is None:
            history = self.histories[asked.channel]
            history.append(json.loads(bytes(asked.data)))
            done = {"offset": len(history), "epoch": "fake"}
            self._done[asked.channel, asked.idempotency_key] = done
        return {"publish": done}


def _error(code: int) -> dict[str, Any]:
    return {"error": {"code": code, "message": MESSAGES[code]}}


_decoder = msgspec.json.Decoder(_Batch)


@asynccontextmanager
async def standing_in() -> AsyncIterator[FakeCentrifugo]:
    fake = FakeCentrifugo()
    await fake.start()
    yield fake
    await fake.stop()
