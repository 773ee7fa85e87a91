"""A connection that has become a WebSocket: bytes in and out, around one `realtime.connection.Connection`.

Written on websockets' Sans-I/O protocol rather than as an ASGI application: a connection then has no task, no queue and no
deflate window of its own (idle ones are what there are most of), and a publication is framed once for everybody who hears it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from nozle_server.core.clock import Clock
from nozle_server.realtime.connection import Connection
from nozle_server.realtime.gate import Gate
from nozle_server.realtime.hub import Hub
from nozle_server.realtime.protocol import Disconnect

MAX_MESSAGE_BYTES = 64 * 1024
MAX_UNSENT_BYTES = 256 * 1024
"""A reader for whom so much waits is cut; what it misses it recovers."""
CLOSE_WITHIN_S = 5.0
HANDSHAKE_WITHIN_S = 10.0

SUBPROTOCOL = Subprotocol("centrifuge-json")


def _select_subprotocol(_protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """A browser that names some goes on with one of them alone; most clients name none for JSON."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


_last_framed: tuple[bytes, bytes] = (b"", b"")


class WebSocket(asyncio.Protocol):
    """One connection, from its handshake on. `connections` are all of the server's, which tells each when it leaves."""

    __slots__ = (
        "_clock",
        "_closing",
        "_connections",
        "_gate",
        "_hub",
        "_parts",
        "_protocol",
        "_session",
        "_timer",
        "_transport",
    )

    def __init__(
        self, gate: Gate, hub: Hub, clock: Clock, origins: Sequence[str] | None, connections: set[Any]
    ) -> None:
        allowed = None if origins is None else [None, *(cast(Origin, one) for one in origins)]
        self._protocol = ServerProtocol(
            origins=allowed, select_subprotocol=_select_subprotocol, max_size=MAX_MESSAGE_BYTES
        )
        self._gate, self._hub, self._clock, self._connections = gate, hub, clock, connections
        self._session: Connection | None = None
        self._parts: tuple[bytes, ...] = ()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_WITHIN_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._handle_events()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._handle_events()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._session is not None:
            self._session.lost()

    # From uvicorn.

    def shutdown(self) -> None:
        """The server leaves."""
        if self._session is not None:
            self._session.shut_down()
        else:
            self._transport.close()

    # From the connection.

    def send(self, text: bytes) -> None:
        global _last_framed
        if self._closing or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._cut()
            return
        if _last_framed[0] is not text:
            # A server's frames are not masked, so that one serves all.
            _last_framed = (text, Frame(Opcode.TEXT, text).serialize(mask=False))
        self._transport.write(_last_framed[1])

    def close(self, why: Disconnect) -> None:
        if self._closing:
            return
        self._closing = True
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(why.code, why.reason)
            self._flush()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self._transport.abort)

    def _cut(self) -> None:
        """It reads too slowly: a close frame would only wait behind the rest."""
        self._closing = True
        self._transport.abort()

    def _handle_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._take(event)
        self._flush()
        if self._protocol.close_expected():
            self._closing = True
            self._transport.close()

    def _shake_hands(self, request: Request) -> None:
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        assert self._timer is not None, "set when the connection was made"
        self._timer.cancel()
        self._timer = None
        if self._protocol.state is State.OPEN:
            self._session = Connection(self._gate, self._hub, self, self._clock)

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts += (bytes(frame.data),)
            if frame.fin:
                message, self._parts = b"".join(self._parts), ()
                if self._session is not None:
                    self._session.receive(message)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
