"""Several processes on one database: whoever changes, all hear, in one order, under one epoch."""

import asyncio
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from databases import with_database
from nozle_server.infra.database import Database
from nozle_server.infra.migrate import migrate
from nozle_server.realtime.protocol import INVALID_TOKEN
from nozle_server.workflows.onboarding import open_organization

from .test_server import Talk, talking

pytestmark = [pytest.mark.database, pytest.mark.slow]

PROCESSES = 3


@pytest.fixture
async def servers(database_server: str, tmp_path: Path) -> AsyncIterator[tuple[list[str], str]]:
    """URLs of servers on one database, each a process, and the secret key of an organization in live mode."""
    name = f"nozle_realtime_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    url = with_database(database_server, name)
    await migrate(url)
    database = await Database.connect(url, connections=2)
    secret = await _an_organization(database)
    await database.close()
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PORT": "0",
        "NOZLE_ALLOW_UNSAFE_DURABILITY": "1",
        "NOZLE_DATABASE_CONNECTIONS": "4",
    }
    processes, urls = [], []
    try:
        for n in range(PROCESSES):
            log = tmp_path / f"{n}.log"
            processes.append(
                subprocess.Popen(  # noqa: ASYNC220
                    [str(Path(sys.executable).with_name("nozle-server")), "serve"],
                    env=environment,
                    stdout=log.open("wb"),
                    stderr=subprocess.STDOUT,
                )
            )
            urls.append(await _url_in(log))
        yield urls, secret
    finally:
        for process in processes:
            process.kill()
            process.wait()
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


async def _an_organization(database: Database) -> str:
    from datetime import UTC, datetime

    from nozle_server.identity.model import Mode

    async with database.transaction() as tx:
        _, secret, _ = await open_organization(tx, name="Merchant", mode=Mode.LIVE, now=datetime.now(UTC))
    return secret


async def _url_in(log: Path) -> str:
    async with asyncio.timeout(60):
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.05)
    return found[0]


async def _call(url: str, key: str, method: str, path: str, body: Any = None) -> Any:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, json=body, headers={"authorization": f"Bearer {key}"}) as answer,
    ):
        text = await answer.text()
        assert answer.status == 200, text
        return await answer.json()


async def test_every_process_tells_its_listeners_the_same_in_the_same_order(
    servers: tuple[list[str], str],
) -> None:
    urls, key = servers
    await _call(urls[0], key, "POST", "/core/api/v1/features", {"feature": {"code": "sso"}})
    for code in ("free", "pro"):
        plan = {
            "code": code,
            "name": code,
            "interval": "monthly",
            "amount_cents": 0,
            "amount_currency": "USD",
        }
        await _call(urls[0], key, "POST", "/core/api/v1/plans", {"plan": plan})
    wanted = {"entitlements": {"sso": {}}}
    await _call(urls[0], key, "POST", "/core/api/v1/plans/pro/entitlements", wanted)
    await _call(urls[0], key, "POST", "/api/v1/customers", {"external_id": "acme", "name": "Acme"})
    await _call(urls[0], key, "POST", "/api/v1/subscribe", {"customer_id": "acme", "plan_code": "pro"})
    token = await _call(urls[0], key, "GET", "/api/v1/auth/centrifugo-token?customer_id=acme")
    channel = f"customer:{token['workspace_id']}:acme"
    async with talking(urls[0]) as one, talking(urls[1]) as two, talking(urls[2]) as three:
        talks = [one, two, three]
        joined = [await talk.join(token["token"], channel) for talk in talks]
        assert len({reply["subscribe"]["epoch"] for reply in joined}) == 1
        # On and off, each time by another process.
        for n in range(6):
            method, path = ("DELETE", "/sso") if n % 2 == 0 else ("POST", "")
            path = f"/core/api/v1/plans/pro/entitlements{path}"
            await _call(urls[n % 3], key, method, path, wanted if method == "POST" else None)
            told = [await _next(talk) for talk in talks]
            assert told[0] == told[1] == told[2]
            assert told[0][1] is (n % 2 == 1)
        offsets = joined[0]["subscribe"]["offset"]
        assert told[0][0] == offsets + 6


async def _next(talk: Talk) -> tuple[int, bool]:
    publication = (await talk.hear())["push"]["pub"]
    return publication["offset"], publication["data"]["allowed"]


async def test_a_revoked_key_ends_its_connections_in_every_process(
    servers: tuple[list[str], str], database_server: str
) -> None:
    """C11: nothing announces it."""
    urls, key = servers
    token = await _call(urls[0], key, "GET", "/api/v1/auth/centrifugo-token?customer_id=acme")
    channel = f"customer:{token['workspace_id']}:acme"
    async with talking(urls[0]) as one, talking(urls[1]) as two, talking(urls[2]) as three:
        for talk in (one, two, three):
            await talk.join(token["token"], channel)
        await _revoke_all(database_server, token["workspace_id"])
        assert {await talk.closed_with() for talk in (one, two, three)} == {INVALID_TOKEN.code}


async def _revoke_all(database_server: str, org_id: str) -> None:
    """In whichever database the organization is."""
    admin = await asyncpg.connect(database_server)
    names = await admin.fetch("select datname from pg_database where datname like 'nozle_realtime_%'")
    await admin.close()
    for row in names:
        connection = await asyncpg.connect(with_database(database_server, row["datname"]))
        await connection.execute(
            "update api_keys set revoked_at = now() where org_id = $1", uuid.UUID(org_id)
        )
        await connection.close()
