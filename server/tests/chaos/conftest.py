"""What the tests of chaos share: servers that run, a merchant, a seed, and the audit at the end of each."""

import os
import random
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from chaos.auditor import audit
from chaos.clients import Client
from chaos.harness import Installation, Launcher, Merchant, installed
from chaos.processes import beside
from databases import with_database

NewDatabase = Callable[[], Awaitable[str]]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.database)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
async def launcher() -> AsyncIterator[Launcher]:
    async with Launcher() as launcher:
        yield launcher


@pytest.fixture(scope="session")
async def shared_installation(launcher: Launcher) -> AsyncIterator[Installation]:
    """Of all tests that need no other; in the end the product's own command looks over all that they did to it."""
    async with installed(launcher, servers=2) as installation:
        yield installation
        looking = await installation.launch("audit")
        assert await looking.wait(within_s=600) == 0, looking.said()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """Printed, and given back as SEED=... to replay."""
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    print(f"\n{request.node.name}: SEED={seed}", flush=True)
    return seed


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: str) -> random.Random:
    """What a test draws at random depends on the seed and its own name only."""
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
async def installation(shared_installation: Installation) -> AsyncIterator[Installation]:
    """Two servers on one database, which other tests use too: leave them running. Audited afterwards."""
    yield shared_installation
    await audit(shared_installation)
    shared_installation.merchants.clear()


@pytest.fixture
async def urls(installation: Installation) -> AsyncIterator[list[str]]:
    """Of four servers on one database."""
    async with beside(installation, more=2) as urls:
        yield urls


@pytest.fixture
async def merchant(installation: Installation) -> Merchant:
    return await installation.open_merchant()


@pytest.fixture
async def client(installation: Installation, merchant: Merchant, rng: random.Random) -> AsyncIterator[Client]:
    """The merchant's program; each call goes to one of the servers."""
    async with Client(lambda: installation.urls, merchant.secret, rng) as client:
        yield client


@pytest.fixture
async def new_database(installation: Installation) -> AsyncIterator[NewDatabase]:
    """Makes databases with nothing in them, beside the one that the servers use."""
    names: list[str] = []

    async def make() -> str:
        names.append(f"empty_{uuid.uuid4().hex[:12]}")
        async with installation.session() as session:
            await session.execute(f'create database "{names[-1]}"')
        return with_database(installation.database_url, names[-1])

    yield make
    async with installation.session() as session:
        for name in names:
            await session.execute(f'drop database "{name}" with (force)')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under a failure stands what the servers said last."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Installation):
                report.sections.append(("servers", value.last_words()))
                break
