"""The smallest ASGI application under uvicorn, a yardstick: `python bare_asgi.py PORT FILE` answers the file's bytes."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn


def answering(body: bytes) -> Callable[..., Awaitable[None]]:
    """An application that answers every request with `body`."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    rest = {"type": "http.response.body", "body": body}

    async def application(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send(start)
        await send(rest)

    return application


if __name__ == "__main__":
    uvicorn.run(
        answering(Path(sys.argv[2]).read_bytes()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
