"""Fixtures: the fake server under a real port, and a state directory."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from demo_fake_server import FakeServer, serving


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    """A fresh fake server; `fake.url` is where it answers."""
    server = FakeServer()
    async with serving(server):
        yield server
