from collections.abc import AsyncIterator

import pytest

from held_writes import Writes
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.infra.database import Database
from world import World, client, live_world, other_world, services, world

__all__ = ["client", "live_world", "other_world", "services", "world"]


@pytest.fixture
async def group(world: World) -> AsyncIterator[GroupCommit]:
    """A process of its own, besides the one that serves the API."""
    database = await Database.connect(world.database.url, connections=4, generic_plans=True)
    group = GroupCommit(database, world.services.bus)
    yield group
    await group.close()
    await database.close()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch, group: GroupCommit) -> Writes:
    """Its writes, each held up until it is let go."""
    return Writes(monkeypatch, group)
