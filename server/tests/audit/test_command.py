"""`nozle-server audit`, as an operator runs it: it looks and does nothing else, and its exit code is its verdict."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from nozle_server.audit.queries import CHECKS
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from world import Client, World, build_app, open_world

pytestmark = [pytest.mark.database, pytest.mark.slow]

CLEAN, DIFFERENT, COULD_NOT_LOOK = 0, 1, 2


Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """`nozle-server ARGUMENTS` in a process of its own: its exit code, output and errors."""
    # Where modules are compiled anew by every process that is most of a command's time.
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("pycache")), "PYTHONDONTWRITEBYTECODE": ""}
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}

    async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from nozle_server.cli import main; main()",
            *arguments,
            env={**inherited, **compiled, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    return run


@pytest.fixture
async def merchant(fresh_database: Database) -> World:
    """A customer with credits, in a database of its own."""
    services = build_services(fresh_database, Settings(), SystemClock())
    world = await open_world(Client(build_app(services)), services)
    await world.a_customer()
    await world.grant("acme", 10)
    await world.deduct("acme", 3)
    return world


@pytest.fixture
async def reader_url(fresh_database: Database) -> AsyncIterator[str]:
    """The database for a role that may read every table and write none."""
    role = f"nozle_reader_{uuid.uuid4().hex[:12]}"
    owner = await asyncpg.connect(fresh_database.url)
    await owner.execute(f"create role {role}; grant select on all tables in schema public to {role}")
    try:
        yield as_role(fresh_database.url, role)
    finally:
        await owner.execute(f"drop owned by {role}; drop role {role}")
        await owner.close()


def as_role(url: str, role: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}role={role}"


async def corrupt(world: World) -> None:
    owner = await asyncpg.connect(world.database.url)
    await owner.execute("set session_replication_role = replica")
    await owner.execute("update credit_accounts set granted = granted + 1, consumed = consumed + 1")
    await owner.close()


async def rows(world: World) -> list[int]:
    """How many there are in each table."""
    async with world.database.connection() as connection:
        tables = await connection.fetch(
            "select tablename from pg_tables where schemaname = 'public' order by 1"
        )
        return [await connection.fetchval(f"select count(*) from {row[0]}") for row in tables]


async def test_a_role_that_cannot_write_audits_and_the_exit_code_is_the_verdict(
    command: Command, merchant: World, reader_url: str
) -> None:
    """X00: 0 when clean; 1 with the row, what it should say and what it says."""
    before = await rows(merchant)
    code, out, err = await command("audit", "--json", DATABASE_URL=reader_url)
    assert (code, err) == (CLEAN, "")
    report = json.loads(out)
    assert report["clean"] is True
    assert {one["name"] for one in report["checks"]} >= {one.name for one in CHECKS}
    assert await rows(merchant) == before

    await corrupt(merchant)
    code, out, _ = await command("audit", "--json", DATABASE_URL=reader_url)
    assert code == DIFFERENT
    [found] = [one for one in json.loads(out)["checks"] if one["findings_count"]]
    assert (found["name"], found["findings_count"]) == ("totals_are_the_sums_of_entries", 1)
    [finding] = found["findings"]
    assert finding["organization_id"] == str(merchant.org_id)
    assert set(finding["ids"]) == {"account_id", "customer_id"}
    assert finding["expected"] != finding["found"]

    code, out, _ = await command("audit", DATABASE_URL=reader_url)
    assert code == DIFFERENT
    assert f"organization {merchant.org_id}, account_id {finding['ids']['account_id']}" in out


async def test_one_organization_alone(command: Command, merchant: World) -> None:
    other = await open_world(merchant.client, merchant.services)
    await corrupt(merchant)
    url = merchant.database.url
    for organization, code in ((other.org_id, CLEAN), (merchant.org_id, DIFFERENT)):
        assert (await command("audit", "--organization", str(organization), DATABASE_URL=url))[0] == code
    assert (await command("audit", NOZLE_ORGANIZATION_ID=str(other.org_id), DATABASE_URL=url))[0] == DIFFERENT


async def test_when_it_cannot_look_it_says_so_and_does_not_call_the_books_right(
    command: Command, merchant: World, database_server: str, tmp_path: Path
) -> None:
    """2, with one line: no such organization, no database, a database of another release, no right to read it."""
    owner = await asyncpg.connect(merchant.database.url)
    role = f"nozle_nobody_{uuid.uuid4().hex[:12]}"
    await owner.execute(f"create role {role}")
    url = merchant.database.url
    nowhere = tmp_path / "nothing"
    try:
        for arguments, environment, sentence in (
            (("--organization", str(uuid.uuid4())), {"DATABASE_URL": url}, "organization not found"),
            ((), {"DATABASE_URL": as_role(url, role)}, "permission denied"),
            ((), {"DATABASE_URL": database_server}, "holds no Nozle"),
            ((), {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "could not audit"),
            ((), {"NOZLE_DATA_DIR": str(nowhere)}, "there is no database in"),
        ):
            code, out, err = await command("audit", *arguments, **environment)
            assert (code, out) == (COULD_NOT_LOOK, ""), (sentence, out, err)
            assert sentence in err
            assert err.count("\n") == 1
        assert not nowhere.exists()
        await owner.execute("update alembic_version set version_num = '0001'")
        assert (await command("audit", DATABASE_URL=url))[0] == COULD_NOT_LOOK
        assert await owner.fetchval("select version_num from alembic_version") == "0001"
    finally:
        await owner.execute(f"drop role {role}")
        await owner.close()


async def test_the_embedded_database_of_a_stopped_server(command: Command, tmp_path: Path) -> None:
    """It is started for the audit alone, and stopped after it."""
    data = {"NOZLE_DATA_DIR": str(tmp_path / "data")}
    assert (await command("organizations", "create", "Acme", **data))[0] == 0
    for _ in range(2):
        code, out, err = await command("audit", **data)
        assert code == CLEAN, out + err
        assert "0 rows differ" in out
