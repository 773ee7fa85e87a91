"""POST /customers in both forms: one customer an id, whatever is sent and however often."""

import asyncio
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest

from world import Answer, World

pytestmark = pytest.mark.database


async def core(world: World, **fields: object) -> dict[str, Any]:
    """An upsert in Core's form; the customer."""
    answer = await world.post("/core/api/v1/customers", {"customer": {"external_id": "acme", **fields}})
    customer = answer["customer"]
    assert isinstance(customer, dict)
    return customer


async def stored(world: World) -> list[str]:
    """The external ids of all customers."""
    rows = await world.fetch("select external_id from customers where org_id = $1 order by sequential_id")
    return [row["external_id"] for row in rows]


async def test_the_flat_form_creates_and_updates_what_is_given(world: World) -> None:
    """Contract 1.5: what is left out stays; null means left out; unknown fields are ignored."""
    made = await world.post(
        "/api/v1/customers", {"external_id": "acme", "name": "Acme", "email": "a@acme.com"}
    )
    assert made == {"external_id": "acme", "name": "Acme", "email": "a@acme.com"}
    assert await world.post("/api/v1/customers", {"externalId": "acme", "nonsense": [1]}) == made
    changed = await world.post(
        "/api/v1/customers", {"external_id": "acme", "name": None, "email": "b@acme.com"}
    )
    assert changed == {**made, "email": "b@acme.com"}
    assert await stored(world) == ["acme"]


async def test_cores_form_on_both_mounts_is_the_same_customer(world: World) -> None:
    """Contract 1.5, 4.12: `{"customer": ...}` answers Core's object, on /api/v1 too; details are kept as sent."""
    metadata = [{"key": "tier", "value": "gold", "display_in_invoice": True}]
    made = await core(
        world, name="Acme", country="DE", timezone="Europe/Berlin", currency="EUR", metadata=metadata
    )
    assert (made["applicable_timezone"], made["country"]) == ("Europe/Berlin", "DE")
    assert [{**one, "lago_id": None, "created_at": None} for one in made["metadata"]] == [
        {**one, "lago_id": None, "created_at": None} for one in metadata
    ]
    assert made["lago_id"] == made["nozle_id"]
    body = {"customer": {"external_id": "acme", "legal_name": "Acme GmbH"}}
    again = (await world.post("/api/v1/customers", body))["customer"]
    assert again["legal_name"] == "Acme GmbH"
    assert {**again, "legal_name": None, "updated_at": None} == {**made, "updated_at": None}
    flat = await world.post("/api/v1/customers", {"external_id": "acme", "email": "a@acme.com"})
    assert flat == {"external_id": "acme", "name": "Acme", "email": "a@acme.com"}
    assert (await core(world))["metadata"] == made["metadata"]


async def test_mass_assignment_has_no_effect(world: World, other_world: World) -> None:
    """B11: ids, organization, instants and balances cannot be sent."""
    made = await core(world)
    hostile = {
        "id": other_world.org_id.hex,
        "lago_id": str(other_world.org_id),
        "nozle_id": str(other_world.org_id),
        "org_id": str(other_world.org_id),
        "organization_id": str(other_world.org_id),
        "sequential_id": 999,
        "slug": "x",
        "created_at": "2000-01-01T00:00:00Z",
        "balance": 1_000_000,
        "details": {"lago_id": "x"},
        "is_admin": True,
        "applicable_timezone": "Asia/Tokyo",
    }
    again = await core(world, **hostile)
    assert {**again, "updated_at": None} == {**made, "updated_at": None}
    await world.post("/api/v1/customers", {"external_id": "acme", **hostile})
    assert {**(await core(world)), "updated_at": None} == {**made, "updated_at": None}
    assert await world.balance("acme") == 0
    assert await stored(other_world) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "nobody"),
        ("email", "@acme.com"),
        ("email", "a@"),
        ("email", "a b@acme.com"),
        ("email", "a@acme.com" + "x" * 320),
        ("email", "a@acme.com\n"),
        ("email", 7),
        ("name", "x" * 4097),
        ("name", ["Acme"]),
        ("timezone", "Berlin"),
        ("timezone", ""),
        ("timezone", "../../etc/passwd"),
        ("currency", "usd"),
        ("currency", "US"),
        ("currency", "XYZ"),
        ("currency", ""),
        ("metadata", "gold"),
        ("external_id", ""),
        ("external_id", " acme"),
        ("external_id", "acme\n"),
        ("external_id", "x" * 256),
        ("external_id", "é" * 128),
        ("external_id", 7),
        ("external_id", None),
    ],
)
async def test_a_bad_field_is_refused_by_both_forms(world: World, field: str, value: object) -> None:
    """B07: 400 on the seed's paths, 422 with the field named on Core's; nothing is stored."""
    fields = {"external_id": "acme", field: value}
    answer = await world.call("POST", "/core/api/v1/customers", {"customer": fields})
    assert (answer.status, answer.code) == (422, "validation_errors")
    assert answer.json["error_details"]
    assert (await world.call("POST", "/api/v1/customers", {"customer": fields})).status == 400
    if field in ("external_id", "name", "email"):
        assert (await world.call("POST", "/api/v1/customers", fields)).status == 400
    assert await stored(world) == []


@pytest.mark.parametrize(
    "external_id",
    [
        "a/b/../c",
        "a%2Fb",
        "a b",
        "a;b?c#d&e=f",
        "user@example.com",
        "Ünïcödé 客户 🙂",
        "x" * 255,
        "é" * 127,
        "current",
        "'; drop table customers; --",
    ],
)
async def test_any_printable_id_of_255_bytes_is_an_id(world: World, external_id: str) -> None:
    """B09: ids are opaque bytes, percent-decoded after routing; a path names exactly that customer."""
    await world.a_customer(external_id)
    assert await stored(world) == [external_id]
    shown = await world.get(f"/api/v1/credits/{quote(external_id, safe='')}/balance")
    assert shown["customer_id"] == external_id
    assert (await world.get("/api/v1/billing/status", customer_id=external_id))["customer_id"] == external_id


@pytest.mark.parametrize("path", ["/core/api/v1/customers", "/api/v1/customers"])
async def test_a_nul_is_not_even_json_to_us(world: World, path: str) -> None:
    """B05: a string that PostgreSQL cannot hold is refused by the reader, before anybody looks at the fields."""
    for fields in ({"external_id": "a\x00b"}, {"external_id": "acme", "name": "a\x00b"}):
        answer = await world.call("POST", path, {"customer": fields})
        assert (answer.status, answer.code) == (400, "invalid_string")
    assert await stored(world) == []


async def test_dots_in_a_path_are_no_customer_and_no_other_route(world: World) -> None:
    """B09: a segment that proxies would resolve leads nowhere, also when a customer has that name."""
    await world.a_customer("..")
    for target in ("/api/v1/credits/../balance", "/api/v1/credits/../credits/acme/balance"):
        assert (await world.call("GET", target)).status == 404
    assert (await world.get("/api/v1/billing/status", customer_id=".."))["status"] == "none"


async def test_ids_are_compared_byte_by_byte(world: World) -> None:
    """B07: case, composed and decomposed letters and homoglyphs are different customers; nothing is normalized."""
    composed = unicodedata.normalize("NFC", "é")
    decomposed = unicodedata.normalize("NFD", "é")
    twins = ["acme", "Acme", "\u0430cme", composed, decomposed]
    for twin in twins:
        await world.a_customer(twin, name=twin)
    assert await stored(world) == twins
    await world.grant(composed, 5)
    assert [await world.balance(twin) for twin in twins] == [0, 0, 0, 5, 0]


async def test_first_upserts_at_once_make_one_customer(world: World) -> None:
    """Twenty at once, in both forms, each with a detail of its own: one customer, one number, and no 5xx or 409."""

    async def send(n: int) -> Answer:
        fields = {"external_id": "acme", "name": f"Acme {n}"}
        body = {"customer": fields} if n % 2 else fields
        return await world.call("POST", "/api/v1/customers", body)

    answers = await asyncio.gather(*map(send, range(20)))
    assert {answer.status for answer in answers} == {200}
    assert await stored(world) == ["acme"]
    ids = {answer.json["customer"]["lago_id"] for answer in answers if "customer" in answer.json}
    assert len(ids) == 1


async def test_numbers_of_customers_have_no_gap_after_a_race(world: World) -> None:
    """Ten customers at once, each sent twice: ten rows, and slugs that no two share."""
    names = [f"c{n}" for n in range(10)]
    await asyncio.gather(*(world.a_customer(name) for name in names * 2))
    rows = await world.fetch("select external_id, sequential_id from customers where org_id = $1")
    assert sorted(row["external_id"] for row in rows) == names
    assert len({row["sequential_id"] for row in rows}) == 10


async def test_customers_are_an_organizations_own(world: World, other_world: World) -> None:
    """The same id in two organizations is two customers; pk_ may make none."""
    await world.a_customer(name="ours")
    await other_world.a_customer(name="theirs")
    assert (await core(world))["name"] == "ours"
    body = {"external_id": "acme", "name": "public"}
    assert (await world.call("POST", "/api/v1/customers", body, key=world.publishable)).status == 403
    assert (await core(world))["name"] == "ours"
