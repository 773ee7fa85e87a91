"""The command line beside a running server, as an operator uses it: separate processes on one database."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from nozle_server.identity.tokens import hash_secret

pytestmark = [pytest.mark.database, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "ai-saas.yaml"


class Command:
    """Runs `nozle-server ARGUMENTS` on the test's database."""

    def __init__(self, database_url: str) -> None:
        self._environment = {**os.environ, "DATABASE_URL": database_url}
        self._environment.pop("NOZLE_ORGANIZATION_ID", None)

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from nozle_server.cli import main; main()",
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def json(self, *arguments: str) -> Any:
        code, out, err = await self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def command(database_url: str) -> Command:
    return Command(database_url)


async def test_organizations_and_their_keys(command: Command, database_url: str) -> None:
    """Keys are shown once and stored as hashes; a revoked key keeps its first instant; the two share no suffix."""
    made = await command.json("organizations", "create", "Acme", "--live")
    assert made["mode"] == "live"
    assert made["secret_key"].startswith("sk_live_")
    assert made["publishable_key"].startswith("pk_live_")
    assert made["secret_key"].removeprefix("sk_live_") != made["publishable_key"].removeprefix("pk_live_")
    org = ("--organization", made["organization_id"])

    key = await command.json("keys", "create", "--name", "batch jobs", *org)
    listed = await command.json("keys", "list", *org)
    assert [one["kind"] for one in listed] == ["secret", "publishable", "secret"]
    assert all("key" not in one for one in listed)
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetchval("select key_hash from api_keys where id = $1", key["id"])
    await connection.close()
    assert stored == hash_secret(key["key"])

    revoked = await command.json("keys", "revoke", key["id"], *org)
    again = await command.json("keys", "revoke", key["id"], *org)
    assert revoked["revoked_at"] == again["revoked_at"] is not None

    changed = await command.json("organizations", "update", "--margin-enforcement", "deny", *org)
    assert changed["margin_enforcement"] == "deny"


async def test_snapshot_keys_are_made_changed_and_dropped(command: Command) -> None:
    """A new key waits until everybody can know it; `--at-once` leaves it alone."""
    first = await command.json("snapshot-keys", "list")
    assert [one["signs"] for one in first].count(True) == 1
    rotated = await command.json("snapshot-keys", "rotate")
    assert [one["id"] for one in rotated[:-1]] == [one["id"] for one in first]
    assert not rotated[-1]["signs"]
    only = await command.json("snapshot-keys", "rotate", "--at-once")
    assert [one["signs"] for one in only] == [True]
    assert only[0]["id"] not in {one["id"] for one in rotated}
    assert await command.json("snapshot-keys", "list") == only


async def test_apply_shows_the_difference_and_twice_is_a_no_op(command: Command, tmp_path: Path) -> None:
    """`apply` tells what differs, `--dry-run` changes nothing, a second time finds no difference."""
    made = await command.json("organizations", "create", "Catalog")
    org = ("--organization", made["organization_id"])
    _, planned, _ = await command("apply", str(EXAMPLE), "--dry-run", *org)
    _, applied, _ = await command("apply", str(EXAMPLE), *org)
    assert planned.startswith(applied.strip())
    assert "+ plan pro" in applied
    _, again, _ = await command("apply", str(EXAMPLE), *org)
    assert again.strip() == "no difference: the catalog is as the file says"

    dearer = tmp_path / "dearer.yaml"
    dearer.write_text(EXAMPLE.read_text().replace("amount_cents: 4900", "amount_cents: 5900"))
    _, difference, _ = await command("apply", str(dearer), *org)
    assert difference.split("\n")[:2] == ["~ plan pro", "    amount_cents: 4900 -> 5900"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("keys", "list", "--organization", "nobody"), "an organization's id is a UUID"),
        (
            ("keys", "list", "--organization", "00000000-0000-7000-8000-000000000000"),
            "organization not found",
        ),
        (("apply", "/no/such/file.yaml"), "No such file"),
        (("organizations", "create", " "), "name"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    command: Command, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = await command(*arguments)
    assert code == 1
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
