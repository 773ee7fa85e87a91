"""What the tests of realtime share: a server on a real port, with the change bus running."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nozle_server.api.app import build_app
from nozle_server.api.server import serve
from nozle_server.bootstrap import Services, background, build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Client, World, open_world

__all__ = ["serving", "url", "world"]


@pytest.fixture
async def serving(database_url: str) -> AsyncIterator[Services]:
    """A process's services, its news coming in."""
    database = await Database.connect(database_url, connections=8, reserve=4)
    services = build_services(database, Settings(), SystemClock())
    async with background(services, jobs=False):
        yield services
    await database.close()


@pytest.fixture
async def url(serving: Services) -> AsyncIterator[str]:
    """Where it serves."""
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        serve(build_app(serving), host="127.0.0.1", port=0, stop=stop, on_listening=listening.set_result)
    )
    yield await listening
    stop.set()
    await running


@pytest.fixture
async def world(serving: Services) -> World:
    return await open_world(Client(build_app(serving)), serving)
