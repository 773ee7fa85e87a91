"""Add-ons through Core's endpoints."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/add_ons"
SETUP = {"code": "setup", "name": "Setup Fee", "amount_cents": 50000, "amount_currency": "USD"}


async def a_tax(world: World, code: str = "vat", rate: object = "20") -> None:
    await world.post("/core/api/v1/taxes", {"tax": {"code": code, "name": code, "rate": rate}})


async def test_the_life_of_an_add_on(world: World) -> None:
    """Contract 4.12: create, get, list, change, delete, each answering Lago's object with its taxes."""
    await world.turn("2026-01-01")
    await a_tax(world)
    made = (await world.post(PATH, {"add_on": {**SETUP, "tax_codes": ["vat"]}}))["add_on"]
    assert made["lago_id"] == made["nozle_id"]
    assert [one["code"] for one in made["taxes"]] == ["vat"]
    assert made == {
        **SETUP,
        "lago_id": made["lago_id"],
        "nozle_id": made["lago_id"],
        "invoice_display_name": None,
        "description": None,
        "created_at": "2026-01-01T00:00:00Z",
        "taxes": made["taxes"],
    }
    assert (await world.get(f"{PATH}/setup"))["add_on"] == made
    found = await world.get(PATH)
    assert (found["add_ons"], found["meta"]["total_count"]) == ([made], 1)
    assert (await world.call("DELETE", f"{PATH}/setup")).json == {"add_on": made}
    for method, body in (("GET", None), ("PUT", {"add_on": {}}), ("DELETE", None)):
        answer = await world.call(method, f"{PATH}/setup", body)
        assert answer.json == {"status": 404, "error": "Not Found", "code": "add_on_not_found"}
    assert (await world.get(PATH))["add_ons"] == []
    again = (await world.post(PATH, {"add_on": SETUP}))["add_on"]
    assert again["lago_id"] != made["lago_id"]


async def test_a_change_changes_what_it_names(world: World) -> None:
    """As Lago: what a PUT leaves out stays, null empties, an empty list of taxes takes them away; the code is fixed."""
    await a_tax(world)
    await world.post(PATH, {"add_on": {**SETUP, "description": "Once", "tax_codes": ["vat", "vat"]}})

    async def put(**changes: object) -> Any:
        return (await world.call("PUT", f"{PATH}/setup", {"add_on": changes})).json

    changed = (await put(name="Start", amount_cents=7, amount_currency="JPY", invoice_display_name="Hello"))[
        "add_on"
    ]
    assert (changed["name"], changed["amount_cents"], changed["amount_currency"]) == ("Start", 7, "JPY")
    assert (changed["invoice_display_name"], changed["description"]) == ("Hello", "Once")
    assert [one["code"] for one in changed["taxes"]] == ["vat"]
    emptied = (await put(code="setup", description=None, invoice_display_name="", tax_codes=[]))["add_on"]
    assert (emptied["description"], emptied["invoice_display_name"], emptied["taxes"]) == (None, None, [])
    assert (await put(code="other"))["error_details"] == {"code": ["value_is_fixed"]}
    assert (await put(tax_codes=["none"]))["code"] == "tax_not_found"
    assert (await put(name=None))["error_details"] == {"name": ["value_is_mandatory"]}
    assert (await world.get(f"{PATH}/setup"))["add_on"] == emptied


@pytest.mark.parametrize(
    ("change", "status", "details"),
    [
        ({"amount_cents": 0}, 422, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_cents": -1}, 422, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_cents": 10**16}, 422, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_cents": "5"}, 422, {"amount_cents": ["invalid_type"]}),
        ({"amount_currency": "EURO"}, 422, {"amount_currency": ["value_is_invalid"]}),
        ({"amount_currency": None}, 422, {"amount_currency": ["value_is_mandatory"]}),
        ({"name": " "}, 422, {"name": ["value_is_mandatory"]}),
        ({"code": "a\nb"}, 422, {"code": ["value_is_invalid"]}),
        ({"code": "taken"}, 422, {"code": ["value_already_exist"]}),
        ({"tax_codes": ["none"]}, 404, None),
    ],
)
async def test_a_bad_add_on_is_refused_with_the_field_named(
    world: World, change: dict[str, Any], status: int, details: dict[str, list[str]] | None
) -> None:
    await world.post(PATH, {"add_on": {**SETUP, "code": "taken"}})
    answer = await world.call("POST", PATH, {"add_on": {**SETUP, **change}})
    assert (answer.status, answer.json.get("error_details")) == (status, details), answer.body
    assert (await world.get(PATH))["meta"]["total_count"] == 1


async def test_add_ons_are_an_organizations_own(world: World, other_world: World) -> None:
    """Neither another organization nor a publishable key sees or touches them; both may use one code."""
    await world.post(PATH, {"add_on": SETUP})
    assert (await other_world.call("GET", f"{PATH}/setup")).status == 404
    assert (await other_world.post(PATH, {"add_on": SETUP}))["add_on"]["code"] == "setup"
    assert (await world.call("GET", PATH, key=world.publishable)).status == 403
    await a_tax(other_world)
    answer = await world.call("PUT", f"{PATH}/setup", {"add_on": {"tax_codes": ["vat"]}})
    assert (answer.status, answer.code) == (404, "tax_not_found")


async def test_a_repeated_creation_makes_one_add_on(world: World) -> None:
    first = await world.call("POST", PATH, {"add_on": SETUP}, headers={"idempotency-key": "k"})
    again = await world.call("POST", PATH, {"add_on": SETUP}, headers={"idempotency-key": "k"})
    assert (again.status, again.json, again.replayed) == (200, first.json, True)
    assert (await world.get(PATH))["meta"]["total_count"] == 1
