"""Thousands of sockets in this process that wait for what a server sends to all of them."""

import asyncio
import json
import time
from collections.abc import Sequence

from harness.client import HOST
from harness.measurement import BenchError

AT_ONCE = 200
"""Sockets that are being opened."""
OPEN_WITHIN_S = 300.0
HEAR_WITHIN_S = 60.0

_HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_PING = b"\x81\x02{}"


def frame(text: bytes) -> bytes:
    """A client's text message, with a mask of zeros."""
    if len(text) < 126:
        return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text
    return b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text


class Round:
    """One publication: when each socket had received it."""

    def __init__(self, sockets: int) -> None:
        self.left, self.last_at = sockets, 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receipt(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.last_at = time.perf_counter()
            self.done.set_result(None)

    async def last(self, since: float) -> float:
        """Seconds until the last of them."""
        try:
            async with asyncio.timeout(HEAR_WITHIN_S):
                await self.done
        except TimeoutError:
            raise BenchError(f"{self.left:,} sockets have not heard of a publication") from None
        return self.last_at - since


class Listeners:
    """`said` is what each says first, and `ready` stands in the answer after which it listens; None: at once."""

    def __init__(self, port: int, said: bytes, ready: bytes | None) -> None:
        self._port, self.said, self.ready = port, said, ready
        self._sockets: list[_Socket] = []
        self.round: Round | None = None
        self.example = b""

    def __len__(self) -> int:
        return len(self._sockets)

    async def open(self, count: int) -> None:
        """Open so many more."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with gate:
                loop = asyncio.get_running_loop()
                _, socket = await loop.create_connection(lambda: _Socket(self), HOST, self._port)
                await socket.listens
                self._sockets.append(socket)

        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await asyncio.gather(*(one() for _ in range(count)))
        except TimeoutError:
            raise BenchError(f"only {len(self._sockets):,} sockets could be opened") from None

    def begin(self) -> Round:
        """From here on what arrives is the next publication."""
        self.round = Round(len(self._sockets))
        return self.round

    async def close(self) -> None:
        for socket in self._sockets:
            socket.transport.abort()
        self._sockets.clear()
        await asyncio.sleep(0.2)


class _Socket(asyncio.Protocol):
    __slots__ = ("_heard", "_of", "listens", "transport")

    def __init__(self, of: Listeners) -> None:
        self._of, self._heard = of, b""
        self.listens: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self.transport.write(self._of.said)
        if self._of.ready is None:
            self.listens.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self.listens.done():
            self._heard += data
            if self._of.ready is not None and self._of.ready in self._heard:
                self._heard = b""
                self.listens.set_result(None)
            elif b'"error"' in self._heard:
                self.listens.set_exception(BenchError(self._heard.decode(errors="replace")))
        elif data == _PING:
            self.transport.write(frame(b"{}"))
        elif self._of.round is not None:
            # Publications are far smaller than what a socket takes in one read.
            self._of.example = data
            self._of.round.receipt()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.listens.done():
            self.listens.set_exception(BenchError("the server closed a connection"))


def web_sockets(port: int, token: str, channel: str) -> Listeners:
    """Sockets that speak as a client of Centrifugo's: connect, and subscribe to one channel."""
    commands: Sequence[object] = (
        {"id": 1, "connect": {"token": token}},
        {"id": 2, "subscribe": {"channel": channel}},
    )
    said = _HANDSHAKE + b"".join(frame(json.dumps(one).encode()) for one in commands)
    return Listeners(port, said, b'"recoverable":true')
