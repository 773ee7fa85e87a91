"""Organizations and keys in the database."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.identity import operations, queries
from nozle_server.identity.model import KeyKind, Mode
from nozle_server.infra.database import Database

pytestmark = pytest.mark.database

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


async def test_a_new_organization_has_one_key_of_each_kind(database: Database) -> None:
    async with database.transaction() as tx:
        made, secret, publishable = await operations.create_organization(
            tx, name="Acme", mode=Mode.LIVE, now=NOW
        )
        assert await queries.get_organization(tx, made.id) == made
        assert made in await queries.list_organizations(tx)
        keys = await queries.list_keys(tx, made.id)
        rows = await tx.fetch("select k::text from api_keys k where org_id = $1", made.id)
    assert (made.name, made.mode, made.default_currency, made.test_now) == ("Acme", Mode.LIVE, "USD", None)
    assert secret.startswith("sk_live_")
    assert publishable.startswith("pk_live_")
    assert [key.kind for key in keys] == [KeyKind.SECRET, KeyKind.PUBLISHABLE]
    for text in (secret, publishable):
        assert not any(text in row["k"] or text[8:] in row["k"] for row in rows)


async def test_keys_come_and_go(database: Database) -> None:
    later = datetime(2026, 2, 1, tzinfo=UTC)
    async with database.transaction() as tx:
        made, _, _ = await operations.create_organization(tx, name="Acme", mode=Mode.TEST, now=NOW)
        key, text = await operations.create_key(
            tx, organization=made, kind=KeyKind.SECRET, now=NOW, name="ci"
        )
        assert (key.name, key.revoked_at) == ("ci", None)
        assert text.startswith("sk_test_")
        revoked = await operations.revoke_key(tx, org_id=made.id, key_id=key.id, now=NOW)
        again = await operations.revoke_key(tx, org_id=made.id, key_id=key.id, now=later)
        assert revoked.revoked_at == again.revoked_at == NOW
        assert again in await queries.list_keys(tx, made.id)
        with pytest.raises(NotFound):
            await operations.revoke_key(tx, org_id=uuid4(), key_id=key.id, now=NOW)


async def test_settings_change_one_by_one(database: Database) -> None:
    async with database.transaction() as tx:
        made, _, _ = await operations.create_organization(tx, name="Acme", mode=Mode.TEST, now=NOW)
        changed = await operations.update_organization(
            tx,
            org_id=made.id,
            settings={"publishable_key_access": "catalog_only", "min_margin_percent": Decimal(25)},
        )
        assert changed.publishable_key_access == "catalog_only"
        assert changed.min_margin_percent == 25
        assert changed.name == "Acme"
        assert await operations.update_organization(tx, org_id=made.id, settings={}) == changed


@pytest.mark.parametrize(
    "settings",
    [
        {"name": " "},
        {"name": 5},
        {"mode": "live"},
        {"test_now": NOW},
        {"id": uuid4()},
        {"name = 'x' --": "y"},
        {"default_currency": "dollars"},
        {"timezone": "Mars/Olympus"},
        {"publishable_key_access": "closed"},
        {"margin_enforcement": "sometimes"},
        {"show_margin_to_publishable_keys": 1},
        {"min_margin_percent": 25.0},
        {"min_margin_percent": Decimal("NaN")},
        {"min_margin_percent": Decimal(101)},
    ],
)
async def test_other_settings_are_refused(database: Database, settings: dict[str, object]) -> None:
    async with database.transaction() as tx:
        made, _, _ = await operations.create_organization(tx, name="Acme", mode=Mode.TEST, now=NOW)
        with pytest.raises(InvalidInput):
            await operations.update_organization(tx, org_id=made.id, settings=settings)


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    async with database.transaction() as tx:
        for attempt in (
            queries.get_organization(tx, uuid4()),
            operations.lock_organization(tx, uuid4()),
            operations.update_organization(tx, org_id=uuid4(), settings={"name": "x"}),
        ):
            with pytest.raises(NotFound):
                await attempt


async def test_an_organization_lives_on_its_test_clock(database: Database) -> None:
    turned = datetime(2031, 1, 1, tzinfo=UTC)
    async with database.transaction() as tx:
        made, _, _ = await operations.create_organization(tx, name="Acme", mode=Mode.TEST, now=NOW)
        assert await queries.get_time(tx, made.id, NOW) == NOW
        await tx.execute("update organizations set test_now = $2 where id = $1", made.id, turned)
        assert await queries.get_time(tx, made.id, NOW) == turned
