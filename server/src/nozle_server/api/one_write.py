"""Send an answer's head and body in one system call; uvicorn writes them apart, and asyncio sends each at once."""

import asyncio
from typing import Any


class OneWriteTransport:
    """A transport that holds a first write back until the second, or until the loop's next turn at the latest."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    @property
    def inner(self) -> asyncio.Transport:
        """The transport itself, with everything written so far given to it."""
        self._flush()
        return self._transport

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def write_at_once(self, data: bytes) -> None:
        """Write what is whole already."""
        held, self._held = self._held, b""
        self._transport.write(held + data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
