"""Serve an application over HTTP until told to stop, and then let what is under way finish."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nozle_server.api.http_protocol import BoundedHttpProtocol

KEEP_ALIVE_S = 30
GRACE_S = 10
BACKLOG = 2048

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
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
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
    with _listen(host, port) as listener:
        server = _Server(config, _url(listener), stop, on_listening)
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


def _listen(host: str, port: int) -> socket.socket:
    # Bound here and not by uvicorn, which answers an address in use by ending the process.
    [(family, _, _, _, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
