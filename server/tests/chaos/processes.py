"""Several servers on one database, each a process that can be asked by its own address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.harness import Installation

FEW = {"NOZLE_DATABASE_CONNECTIONS": "4"}
"""So that the database, which was made for one or two servers, has enough for four."""


@asynccontextmanager
async def beside(installation: Installation, *, more: int, **environment: str) -> AsyncIterator[list[str]]:
    """The installation's servers and so many more; the addresses of all."""
    started = [await installation.start_server(**FEW, **environment) for _ in range(more)]
    try:
        yield installation.urls
    finally:
        for server in started:
            await server.stop()
        installation.forget_ended()
