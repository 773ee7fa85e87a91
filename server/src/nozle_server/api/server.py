"""Serve an application over HTTP until told to stop, and then let what is under way finish."""

import asyncio
import contextlib
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nozle_server.api.lane import LaneProtocol

KEEP_ALIVE_S = 30
GRACE_S = 10
BACKLOG = 2048
LAST_ACCEPTED_S = 0.5
"""A server that leaves goes on accepting until nobody waits, at most for so long."""

_log = structlog.get_logger()


async def serve(
    app: Callable[..., Any],
    *,
    host: str,
    port: int,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set; then return when the last answer is out, within
    10 s.

    With `stop` given, signals stay with the caller. Port 0 takes a free one; `on_listening` is told the URL.
    OSError when the address cannot be had.
    """
    with listen(host, port) as listener:
        await serve_on(listener, app, stop=stop, on_listening=on_listening)


async def serve_on(
    listener: socket.socket,
    app: Callable[..., Any],
    *,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """As `serve`, on a socket that is bound."""
    config = uvicorn.Config(
        app,
        http=LaneProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # The peer is who connected to us. What a proxy says about its own peer is a header like any other.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    assert issubclass(config.http_protocol_class, HttpToolsProtocol), (
        "only httptools refuses smuggled requests"
    )
    server = _Server(config, url_of(listener), stop, on_listening)
    await server.serve(sockets=[listener])


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one (not on Windows)."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


class _Server(uvicorn.Server):
    """uvicorn's server, but one that ends as it was told to: uvicorn raises the signal again and so exits
    with 143.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        url: str,
        stop: asyncio.Event | None,
        on_listening: Callable[[str], None] | None,
    ) -> None:
        super().__init__(config)
        self._url = url
        self._stop = stop
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        _log.info("listening", url=self._url)
        if self._on_listening is not None:
            self._on_listening(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            await _until_nobody_waits(listener)
        await super().shutdown(sockets=sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if self._stop is not None:
            waiting = asyncio.ensure_future(self._stop.wait())
            waiting.add_done_callback(lambda _: self._leave())
            try:
                yield
            finally:
                waiting.cancel()
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _leave(self) -> None:
        self.should_exit = True


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens there, beside others if they are all `shared`; OSError when the address cannot be had."""
    # Bound here and not by uvicorn, which answers an address in use by ending the process.
    [(family, _, _, _, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=shared)


async def _until_nobody_waits(listener: socket.socket) -> None:
    """Let the loop accept who has connected already: closing the socket would reset their connections."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    deadline = asyncio.get_running_loop().time() + LAST_ACCEPTED_S
    while waiting.poll(0) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)


def url_of(listener: socket.socket) -> str:
    """Where it listens, for clients."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
