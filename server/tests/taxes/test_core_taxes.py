"""Taxes through Core's endpoints, and whose they are."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.core.errors import NotFound
from nozle_server.taxes.operations import set_customer_taxes
from nozle_server.taxes.queries import customer_or_default_taxes, find_taxes, taxes_of_customers
from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/taxes"
VAT = {"code": "vat", "name": "TVA", "rate": "20.0"}


async def a_tax(world: World, code: str = "vat", rate: object = "20.0", **more: object) -> None:
    await world.post(PATH, {"tax": {"code": code, "name": code, "rate": rate, **more}})


async def customer_id(world: World, external_id: str = "acme") -> uuid.UUID:
    await world.a_customer(external_id)
    [row] = await world.fetch("select id from customers where org_id = $1 and external_id = $2", external_id)
    found: uuid.UUID = row["id"]
    return found


async def taxes_for(world: World, customer: uuid.UUID) -> list[str]:
    async with world.database.transaction() as tx:
        return [tax.code for tax in await customer_or_default_taxes(tx, world.org_id, customer)]


async def give(world: World, customer: uuid.UUID, *codes: str) -> None:
    async with world.database.transaction() as tx:
        await set_customer_taxes(tx, world.org_id, customer, codes)


async def test_the_life_of_a_tax(world: World) -> None:
    """Contract 4.12: create, get, list, change, delete, each answering Lago's object."""
    await world.turn("2026-01-01")
    made = (await world.post(PATH, {"tax": {**VAT, "description": "French"}}))["tax"]
    assert made == {
        "lago_id": made["nozle_id"],
        "nozle_id": made["nozle_id"],
        "code": "vat",
        "name": "TVA",
        "description": "French",
        "rate": 20,
        "applied_to_organization": False,
        "customers_count": 0,
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert (await world.get(f"{PATH}/vat"))["tax"] == made
    found = await world.get(PATH)
    assert (found["taxes"], found["meta"]["total_count"]) == ([made], 1)
    changed = (await world.call("PUT", f"{PATH}/vat", {"tax": {"rate": Decimal("19.6")}})).json["tax"]
    assert changed == {**made, "rate": Decimal("19.6")}
    changes = {"name": "VAT", "description": None, "applied_to_organization": True, "code": "vat"}
    changed = (await world.call("PUT", f"{PATH}/vat", {"tax": changes})).json["tax"]
    assert changed == {**made, **changes, "rate": Decimal("19.6")}
    assert (await world.call("DELETE", f"{PATH}/vat")).json == {"tax": changed}
    for method, body in (("GET", None), ("PUT", {"tax": {}}), ("DELETE", None)):
        answer = await world.call(method, f"{PATH}/vat", body)
        assert answer.json == {"status": 404, "error": "Not Found", "code": "tax_not_found"}
    assert (await world.post(PATH, {"tax": VAT}))["tax"]["lago_id"] != made["lago_id"]


@pytest.mark.parametrize(
    ("change", "status", "details"),
    [
        ({"rate": -1}, 422, {"rate": ["value_is_out_of_range"]}),
        ({"rate": "twenty"}, 422, {"rate": ["invalid_amount"]}),
        ({"rate": None}, 422, {"rate": ["value_is_mandatory"]}),
        ({"name": ""}, 422, {"name": ["value_is_mandatory"]}),
        ({"code": " vat"}, 422, {"code": ["value_is_invalid"]}),
        ({"applied_to_organization": "yes"}, 422, {"applied_to_organization": ["invalid_type"]}),
        ({"code": "taken"}, 422, {"code": ["value_already_exist"]}),
    ],
)
async def test_a_bad_tax_is_refused_with_the_field_named(
    world: World, change: dict[str, Any], status: int, details: dict[str, list[str]]
) -> None:
    await a_tax(world, "taken")
    answer = await world.call("POST", PATH, {"tax": {**VAT, **change}})
    assert (answer.status, answer.json["error_details"]) == (status, details), answer.body
    assert (await world.get(PATH))["meta"]["total_count"] == 1


async def test_a_tax_keeps_its_code_and_its_exact_rate(world: World) -> None:
    await a_tax(world, rate="0.000000000001")
    answer = await world.call("PUT", f"{PATH}/vat", {"tax": {"code": "other", "rate": 5}})
    assert (answer.status, answer.json["error_details"]) == (422, {"code": ["value_is_fixed"]})
    assert (await world.get(f"{PATH}/vat"))["tax"]["rate"] == Decimal("0.000000000001")


async def test_a_customers_own_taxes_stand_above_the_organizations(world: World) -> None:
    """https://getlago.com/docs/guide/invoicing/invoicing-settings/taxes; without any, the organization's apply."""
    acme, beta = await customer_id(world, "acme"), await customer_id(world, "beta")
    assert await taxes_for(world, acme) == []
    await a_tax(world, "vat", applied_to_organization=True)
    await a_tax(world, "city", applied_to_organization=True)
    await a_tax(world, "export", rate=0)
    assert await taxes_for(world, acme) == ["city", "vat"]
    await give(world, acme, "export", "export")
    assert (await taxes_for(world, acme), await taxes_for(world, beta)) == (["export"], ["city", "vat"])

    async def counts() -> dict[str, int]:
        return {one["code"]: one["customers_count"] for one in (await world.get(PATH))["taxes"]}

    assert await counts() == {"vat": 1, "city": 1, "export": 1}
    await give(world, acme, "vat", "export")
    assert await counts() == {"vat": 2, "city": 1, "export": 1}
    await give(world, acme)
    assert await taxes_for(world, acme) == ["city", "vat"]
    assert await counts() == {"vat": 2, "city": 2, "export": 0}


async def test_an_unknown_tax_changes_nothing(world: World) -> None:
    acme = await customer_id(world)
    await a_tax(world)
    await give(world, acme, "vat")
    with pytest.raises(NotFound, match="tax not found"):
        await give(world, acme, "vat", "none")
    async with world.database.transaction() as tx:
        assert [tax.code for tax in (await taxes_of_customers(tx, world.org_id, [acme]))[acme]] == ["vat"]
        assert list(await find_taxes(tx, world.org_id, ["none", "vat"])) == ["vat"]


async def test_a_deleted_tax_applies_to_nobody(world: World) -> None:
    acme = await customer_id(world)
    await a_tax(world, "vat", applied_to_organization=True)
    await a_tax(world, "own")
    await give(world, acme, "own")
    add_on = {
        "code": "setup",
        "name": "Setup",
        "amount_cents": 1,
        "amount_currency": "USD",
        "tax_codes": ["own"],
    }
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    assert (await world.call("DELETE", f"{PATH}/own")).status == 200
    assert await taxes_for(world, acme) == ["vat"]
    assert (await world.get("/core/api/v1/add_ons/setup"))["add_on"]["taxes"] == []
    await world.call("DELETE", f"{PATH}/vat")
    assert await taxes_for(world, acme) == []


async def test_taxes_are_an_organizations_own(world: World, other_world: World) -> None:
    await a_tax(world, applied_to_organization=True)
    theirs = await customer_id(other_world)
    assert await taxes_for(other_world, theirs) == []
    assert (await other_world.call("DELETE", f"{PATH}/vat")).status == 404
    with pytest.raises(NotFound):
        await give(other_world, theirs, "vat")
    assert (await world.call("POST", PATH, {"tax": VAT}, key=world.publishable)).status == 403


async def test_a_list_pages_newest_first(world: World) -> None:
    for n in range(5):
        await a_tax(world, f"t{n}")
    pages = [await world.get(f"{PATH}?per_page=2&page={page}") for page in (1, 2, 3)]
    assert [one["code"] for page in pages for one in page["taxes"]] == ["t4", "t3", "t2", "t1", "t0"]
