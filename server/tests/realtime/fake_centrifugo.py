"""A stand-in for Centrifugo's server API over HTTP, as https://centrifugal.dev/docs/server/server_api documents it: the
batch method with its replies in a 200, publish with histories and idempotency keys, disconnect, the API's key; and, when told
to, the faults of a server that is away, slow, misconfigured or talks nonsense."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiohttp import web

KEY = "the-api-key-of-centrifugo"
NAMESPACES = {"customer", "workspace"}


class FakeCentrifugo:
    """`histories` are what subscribers of a channel heard; `commands` everything that was asked, also in vain.

    `fault` is called with each request before (`"before"`) and after (`"after"`) it is done, and may return a response or
    raise instead; `refuse` gives the error of a command, if any.
    """

    def __init__(self) -> None:
        self.histories: dict[str, list[Any]] = defaultdict(list)
        self.disconnected: list[str] = []
        self.commands: list[Any] = []
        self.fault: Callable[[str], Any] = lambda _: None
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
        app.router.add_post("/api/batch", self._batch)
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

    async def _batch(self, request: web.Request) -> web.Response:
        if request.headers.get("X-API-Key") != KEY:
            return web.Response(status=401)
        body = await request.json()
        self.commands += body["commands"]
        self.changed.set()
        if (instead := await self._fail("before")) is not None:
            return instead
        replies = [self._do(command) for command in body["commands"]]
        self.changed.set()
        if (instead := await self._fail("after")) is not None:
            return instead
        return web.json_response({"replies": replies})

    async def _fail(self, when: str) -> web.Response | None:
        result = self.fault(when)
        if asyncio.iscoroutine(result):
            result = await result
        assert result is None or isinstance(result, web.Response)
        return result

    def _do(self, command: Any) -> Any:
        if (code := self.refuse(command)) is not None:
            return {"error": {"code": code, "message": "refused"}}
        if "disconnect" in command:
            self.disconnected.append(command["disconnect"]["user"])
            return {"disconnect": {}}
        asked = command["publish"]
        channel, key = asked["channel"], asked.get("idempotency_key")
        if channel.partition(":")[0] not in NAMESPACES:
            return {"error": {"code": 102, "message": "unknown channel"}}
        if (channel, key) not in self._done:
            self.histories[channel].append(asked["data"])
            self._done[channel, key] = {"offset": len(self.histories[channel]), "epoch": "fake"}
        return {"publish": self._done[channel, key]}
