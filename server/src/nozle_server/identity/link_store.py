"""The SQL of signed links: the hashes of live secret keys. They leave this package in signatures only."""

from uuid import UUID

from nozle_server.infra.database import Tx


async def find_newest_secret_key(tx: Tx, org_id: UUID) -> tuple[UUID, bytes] | None:
    row = await tx.fetchrow(
        """
        select id, key_hash from api_keys
        where org_id = $1 and kind = 'secret' and revoked_at is null
        order by created_at desc, id desc limit 1
        """,
        org_id,
    )
    return (row["id"], row["key_hash"]) if row else None


async def find_secret_key(tx: Tx, org_id: UUID, key_id: UUID) -> bytes | None:
    key_hash: bytes | None = await tx.fetchval(
        """
        select key_hash from api_keys
        where org_id = $1 and id = $2 and kind = 'secret' and revoked_at is null
        """,
        org_id,
        key_id,
    )
    return key_hash
