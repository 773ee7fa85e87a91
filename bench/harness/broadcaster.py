"""The yardstick of `realtime`: a server that writes given bytes to every connection it has, and knows nothing else.

    python broadcaster.py PORT FILE

Whoever sends it a byte has the content of FILE written to all others; it answers when it has written to the last.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

CONNECTIONS: set[asyncio.Transport] = set()


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        CONNECTIONS.add(self._transport)

    def data_received(self, _data: bytes) -> None:
        for transport in CONNECTIONS:
            if transport is not self._transport:
                transport.write(MESSAGE)
        self._transport.write(b"!")

    def connection_lost(self, _error: Exception | None) -> None:
        CONNECTIONS.discard(self._transport)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", int(sys.argv[1]), backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    MESSAGE = Path(sys.argv[2]).read_bytes()
    uvloop.run(main())
