# ruff: noqa: E402
from collections.abc import AsyncIterator

import pytest
from lago_python_client import Client

pytest.register_assert_rewrite("core_client.shop")  # before it is imported, so that its assertions tell more

from core_client.shop import Shop
from fuzz.served import Served, served
from nozle_server.core.clock import SystemClock
from nozle_server.identity.model import Mode
from nozle_server.infra.database import Database
from nozle_server.workflows.onboarding import open_organization

__all__ = ["served"]


@pytest.fixture(scope="package")
async def served_database(served: Served) -> AsyncIterator[Database]:
    """The database of the server's process, for what an operator does on it."""
    database = await Database.connect(served.environment["DATABASE_URL"], connections=2)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def shop(served: Served, served_database: Database) -> Shop:
    """A new organization on 15 January 2026."""

    async def make(tx):
        return await open_organization(tx, name="Merchant", mode=Mode.TEST, now=SystemClock().now())

    _, key, _ = await served_database.run(make)
    # The client joins "api/v1/" to its URL as a browser would, so the last slash is needed.
    shop = Shop(Client(api_key=key, api_url=served.url + "/core/"), served.url, key)
    shop.turn("2026-01-15")
    return shop
