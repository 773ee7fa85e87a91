"""All SQL of identity, and rows <-> values.

Keys and tokens are looked up by the SHA-256 of what the caller sent; the text itself is never stored.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.identity.model import ApiKey, CustomerSession, KeyKind, Mode, Organization, Principal
from nozle_server.infra.database import Tx

_ORGANIZATION = """
    id, name, mode, default_currency, timezone, publishable_key_access, show_margin_to_publishable_keys,
    workspace_channel_for_publishable_keys, margin_enforcement, min_margin_percent, test_now, created_at,
    net_payment_term, invoice_grace_period, finalize_zero_invoices, document_number_prefix, details
"""
_KEY = "id, org_id, kind, hint, name, created_at, revoked_at"
# Of keys that are alive.
_PRINCIPAL = """
    select k.key_hash, k.org_id, k.id, k.kind, o.mode, o.publishable_key_access, o.show_margin_to_publishable_keys
    from api_keys k join organizations o on o.id = k.org_id
    where k.revoked_at is null
"""

# The settings an organization may change; also the only column names that reach the UPDATE below.
SETTINGS = frozenset(
    (
        "name",
        "default_currency",
        "timezone",
        "publishable_key_access",
        "show_margin_to_publishable_keys",
        "workspace_channel_for_publishable_keys",
        "margin_enforcement",
        "min_margin_percent",
        "net_payment_term",
        "invoice_grace_period",
        "finalize_zero_invoices",
        "document_number_prefix",
        "details",
    )
)


def organization_from_row(row: asyncpg.Record) -> Organization:
    return Organization(**{**row, "mode": Mode(row["mode"])})


def key_from_row(row: asyncpg.Record) -> ApiKey:
    return ApiKey(**{**row, "kind": KeyKind(row["kind"])})


async def insert_organization(tx: Tx, org_id: UUID, name: str, mode: Mode, now: datetime) -> Organization:
    row = await tx.fetchrow(
        f"""
        insert into organizations (id, name, mode, created_at) values ($1, $2, $3, $4)
        returning {_ORGANIZATION}
        """,
        org_id,
        name,
        mode.value,
        now,
    )
    return organization_from_row(row)


async def find_organization(tx: Tx, org_id: UUID, *, lock: bool = False) -> Organization | None:
    suffix = " for no key update" if lock else ""
    row = await tx.fetchrow(f"select {_ORGANIZATION} from organizations where id = $1{suffix}", org_id)
    return organization_from_row(row) if row else None


async def list_organizations(tx: Tx) -> list[Organization]:
    rows = await tx.fetch(f"select {_ORGANIZATION} from organizations order by created_at, id")
    return [organization_from_row(row) for row in rows]


async def update_organization(tx: Tx, org_id: UUID, settings: Mapping[str, object]) -> Organization | None:
    assert settings.keys() <= SETTINGS, "column names come from our own list"
    assignments = ", ".join(
        f"{name} = {'details || ' if name == 'details' else ''}${place}"
        for place, name in enumerate(settings, start=2)
    )
    if "timezone" in settings:  # by which days and months of budgets are cut
        assignments += ", credits_version = credits_version + 1"
    row = await tx.fetchrow(
        f"update organizations set {assignments} where id = $1 returning {_ORGANIZATION}",
        org_id,
        *settings.values(),
    )
    return organization_from_row(row) if row else None


async def get_test_now(tx: Tx, org_id: UUID) -> datetime | None:
    now: datetime | None = await tx.fetchval("select test_now from organizations where id = $1", org_id)
    return now


async def insert_key(tx: Tx, key: ApiKey, key_hash: bytes) -> None:
    await tx.execute(
        f"insert into api_keys (key_hash, {_KEY}) values ($1, $2, $3, $4, $5, $6, $7, $8)",
        key_hash,
        key.id,
        key.org_id,
        key.kind.value,
        key.hint,
        key.name,
        key.created_at,
        key.revoked_at,
    )


async def list_keys(tx: Tx, org_id: UUID) -> list[ApiKey]:
    rows = await tx.fetch(f"select {_KEY} from api_keys where org_id = $1 order by created_at, id", org_id)
    return [key_from_row(row) for row in rows]


async def revoke_key(tx: Tx, org_id: UUID, key_id: UUID, now: datetime) -> ApiKey | None:
    """The key, dead from now on; one that was revoked before keeps its first instant."""
    row = await tx.fetchrow(
        f"""
        update api_keys set revoked_at = coalesce(revoked_at, $3)
        where org_id = $1 and id = $2
        returning {_KEY}
        """,
        org_id,
        key_id,
        now,
    )
    return key_from_row(row) if row else None


async def find_principal(connection: Tx, key_hash: bytes) -> tuple[bytes, Principal] | None:
    """Whom a live key speaks for, with the hash as it is stored."""
    row = await connection.fetchrow(f"{_PRINCIPAL} and k.key_hash = $1", key_hash)
    return None if row is None else (row["key_hash"], _principal_from_row(row))


async def find_principals(connection: Tx, key_hashes: Collection[bytes]) -> dict[bytes, Principal]:
    """Whom these live keys speak for, by hash, in one statement; nothing of those that are not alive."""
    rows = await connection.fetch(f"{_PRINCIPAL} and k.key_hash = any($1::bytea[])", list(key_hashes))
    return {row["key_hash"]: _principal_from_row(row) for row in rows}


def _principal_from_row(row: asyncpg.Record) -> Principal:
    return Principal(
        org_id=row["org_id"],
        key_id=row["id"],
        kind=KeyKind(row["kind"]),
        mode=Mode(row["mode"]),
        publishable_key_access=row["publishable_key_access"],
        show_margin_to_publishable_keys=row["show_margin_to_publishable_keys"],
    )


async def insert_session(tx: Tx, session: CustomerSession, token_hash: bytes, now: datetime) -> None:
    await tx.execute(
        """
        insert into customer_sessions (org_id, token_hash, customer_id, scopes, expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6)
        """,
        session.org_id,
        token_hash,
        session.customer_id,
        list(session.scopes),
        session.expires_at,
        now,
    )


async def find_session(tx: Tx, org_id: UUID, token_hash: bytes) -> CustomerSession | None:
    row = await tx.fetchrow(
        """
        select org_id, customer_id, scopes, expires_at from customer_sessions
        where org_id = $1 and token_hash = $2
        """,
        org_id,
        token_hash,
    )
    if row is None:
        return None
    scopes: Sequence[str] = row["scopes"]
    return CustomerSession(row["org_id"], row["customer_id"], tuple(scopes), row["expires_at"])
