"""The keys that snapshots are signed with, among the secrets that the server made for itself."""

import secrets
from datetime import datetime

from nozle_server.entitlements.signing_keys import SEED_BYTES, SigningKey
from nozle_server.infra.database import Tx

_PREFIX = "entitlements:"


async def read_keys(tx: Tx) -> list[SigningKey]:
    """All keys, oldest first."""
    rows = await tx.fetch(
        "select name, secret, created_at from server_secrets where starts_with(name, $1)", _PREFIX
    )
    keys = [
        SigningKey(int(row["name"].removeprefix(_PREFIX)), row["secret"], row["created_at"]) for row in rows
    ]
    return sorted(keys, key=lambda one: one.number)


async def add_key(tx: Tx, number: int, real_now: datetime) -> None:
    """A new key of this number; nothing where there is one: of two that make it, one was first."""
    await tx.execute(
        "insert into server_secrets (name, secret, created_at) values ($1, $2, $3) on conflict (name) do nothing",
        f"{_PREFIX}{number}",
        secrets.token_bytes(SEED_BYTES),
        real_now,
    )


async def delete_keys(tx: Tx, numbers: list[int]) -> None:
    await tx.execute(
        "delete from server_secrets where name = any($1)", [f"{_PREFIX}{number}" for number in numbers]
    )
