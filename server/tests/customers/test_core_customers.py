"""Core's customers in full: every field, the list, and what cannot change."""

from typing import Any
from urllib.parse import quote

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/customers"


async def core(world: World, external_id: str = "acme", **fields: object) -> dict[str, Any]:
    answer = await world.post(PATH, {"customer": {"external_id": external_id, **fields}})
    customer = answer["customer"]
    assert isinstance(customer, dict)
    return customer


async def refusal(world: World, **fields: object) -> tuple[int, dict[str, list[str]]]:
    answer = await world.call("POST", PATH, {"customer": {"external_id": "acme", **fields}})
    details = answer.json["error_details"]
    assert isinstance(details, dict)
    return answer.status, details


async def ids(world: World, **query: object) -> list[str]:
    return [one["external_id"] for one in (await world.get(PATH, **query))["customers"]]


async def test_a_customer_has_every_field_of_lagos(world: World) -> None:
    await world.turn("2026-01-01")
    await world.post("/core/api/v1/taxes", {"tax": {"code": "vat", "name": "VAT", "rate": "20"}})
    texts = {
        "name": "Acme",
        "firstname": "Ada",
        "lastname": "Lovelace",
        "email": "a@acme.com",
        "legal_name": "Acme GmbH",
        "legal_number": "HRB 1",
        "tax_identification_number": "DE1",
        "logo_url": "https://acme.com/logo.png",
        "url": "https://acme.com",
        "phone": "+49 30 1",
        "address_line1": "Street 1",
        "address_line2": "2nd floor",
        "city": "Berlin",
        "state": "Berlin",
        "zipcode": "10115",
        "external_salesforce_id": "sf_1",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "customer_type": "company",
    }
    made = await core(
        world,
        **texts,
        country="de",
        net_payment_term=30,
        finalize_zero_amount_invoice="skip",
        shipping_address={"city": "Paris", "country": "FR"},
        billing_configuration={
            "invoice_grace_period": 3,
            "document_locale": "en",
            "payment_provider": "stripe",
            "provider_customer_id": "cus_1",
            "provider_payment_methods": ["card"],
        },
        metadata=[{"key": "PO", "value": "1", "display_in_invoice": True}],
        tax_codes=["vat"],
    )
    [entry], [tax] = made["metadata"], made["taxes"]
    assert made == {
        **texts,
        "lago_id": made["nozle_id"],
        "nozle_id": made["nozle_id"],
        "billing_entity_code": "default",
        "external_id": "acme",
        "account_type": "customer",
        "sequential_id": 1,
        "slug": "CUS-001",
        "country": "DE",
        "applicable_timezone": "Europe/Berlin",
        "net_payment_term": 30,
        "finalize_zero_amount_invoice": "skip",
        "billing_configuration": {
            "invoice_grace_period": 3,
            "document_locale": "en",
            "payment_provider": "stripe",
            "payment_provider_code": None,
            "provider_customer_id": "cus_1",
            "provider_payment_methods": ["card"],
        },
        "shipping_address": {
            "address_line1": None,
            "address_line2": None,
            "city": "Paris",
            "state": None,
            "zipcode": None,
            "country": "FR",
        },
        "skip_invoice_custom_sections": False,
        "metadata": [
            {
                "lago_id": entry["lago_id"],
                "key": "PO",
                "value": "1",
                "display_in_invoice": True,
                "created_at": "2026-01-01T00:00:00Z",
            }
        ],
        "taxes": [tax],
        "integration_customers": [],
        "applicable_invoice_custom_sections": [],
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    assert (tax["code"], tax["customers_count"]) == ("vat", 1)
    assert (await world.get(f"{PATH}/acme"))["customer"] == made


async def test_what_is_left_out_stays_and_null_clears(world: World) -> None:
    await world.post("/core/api/v1/taxes", {"tax": {"code": "vat", "name": "VAT", "rate": "20"}})
    made = await core(
        world,
        name="Acme",
        net_payment_term=30,
        finalize_zero_amount_invoice="finalize",
        legal_name="Acme GmbH",
        billing_configuration={"invoice_grace_period": 3, "payment_provider": "stripe"},
        shipping_address={"city": "Paris", "state": "IdF"},
        metadata=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}],
        tax_codes=["vat"],
    )
    assert {**(await core(world)), "updated_at": None} == {**made, "updated_at": None}
    changed = await core(
        world,
        name=None,
        net_payment_term=None,
        finalize_zero_amount_invoice=None,
        legal_name=None,
        billing_configuration={"invoice_grace_period": None, "provider_customer_id": "cus_1"},
        shipping_address={"city": None},
        metadata=[{"key": "b", "value": "3"}],
        tax_codes=[],
    )
    assert (changed["name"], changed["net_payment_term"], changed["legal_name"]) == (None, None, None)
    assert changed["finalize_zero_amount_invoice"] == "inherit"
    configuration = changed["billing_configuration"]
    assert (configuration["invoice_grace_period"], configuration["payment_provider"]) == (None, "stripe")
    assert (changed["shipping_address"]["city"], changed["shipping_address"]["state"]) == (None, "IdF")
    [entry] = changed["metadata"]
    assert (entry["value"], entry["lago_id"]) == ("3", made["metadata"][1]["lago_id"])
    assert changed["taxes"] == []


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"country": "Germany"}, {"country": ["not_a_valid_country_code"]}),
        ({"shipping_address": {"country": "X"}}, {"shipping_address.country": ["not_a_valid_country_code"]}),
        ({"customer_type": "robot"}, {"customer_type": ["value_is_invalid"]}),
        ({"finalize_zero_amount_invoice": "never"}, {"finalize_zero_amount_invoice": ["invalid_value"]}),
        ({"net_payment_term": -1}, {"net_payment_term": ["value_is_out_of_range"]}),
        (
            {"billing_configuration": {"invoice_grace_period": 10**6}},
            {"invoice_grace_period": ["value_is_out_of_range"]},
        ),
        ({"metadata": [{"key": str(n), "value": "1"} for n in range(6)]}, {"metadata": ["invalid_count"]}),
        ({"metadata": [{"key": "a", "value": "1"}] * 2}, {"metadata.key": ["value_already_exist"]}),
        ({"metadata": [{"key": "a" * 21, "value": "1"}]}, {"metadata.key": ["value_is_too_long"]}),
        ({"metadata": [{"key": "a", "value": "1" * 101}]}, {"metadata.value": ["value_is_too_long"]}),
        ({"account_type": "partner"}, {"account_type": ["not_supported"]}),
        (
            {"integration_customers": [{"integration_type": "netsuite"}]},
            {"integration_customers": ["not_supported"]},
        ),
        (
            {"invoice_custom_section_codes": ["legal"]},
            {"invoice_custom_section_codes": ["not_supported"]},
        ),
        (
            {"billing_configuration": {"sync_with_provider": True}},
            {"billing_configuration.sync_with_provider": ["not_supported"]},
        ),
        (
            {"billing_configuration": {"document_locale": "xx"}},
            {"billing_configuration.document_locale": ["not_supported"]},
        ),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(
    world: World, fields: dict[str, object], details: dict[str, list[str]]
) -> None:
    assert await refusal(world, **fields) == (422, details)
    assert await ids(world) == []


async def test_unknown_taxes_and_billing_entities_are_404_and_change_nothing(world: World) -> None:
    for fields, code in (
        ({"tax_codes": ["vat"]}, "tax_not_found"),
        ({"billing_entity_code": "other"}, "billing_entity_not_found"),
    ):
        answer = await world.call("POST", PATH, {"customer": {"external_id": "acme", **fields}})
        assert (answer.status, answer.code) == (404, code)
    assert (await world.call("GET", PATH + "?billing_entity_codes[]=other")).status == 404
    assert await ids(world) == []
    assert await core(world, billing_entity_code="default")


async def test_the_currency_cannot_change_once_something_is_billed_in_it(world: World) -> None:
    await world.a_plan(code="usd", amount_cents=100, amount_currency="USD")
    await core(world, currency="EUR")
    assert (await core(world, currency="USD"))["currency"] == "USD"
    await world.subscribe("acme", "usd")
    assert await refusal(world, currency="EUR") == (422, {"currency": ["currencies_does_not_match"]})
    assert (await core(world, currency="USD", name="Acme"))["currency"] == "USD"


async def test_a_new_time_zone_leaves_running_subscriptions_as_they_are(world: World) -> None:
    """T04: a subscription keeps the zone it started in, so that its periods have no gap and no overlap."""
    await world.turn("2026-01-10")
    await world.a_plan(amount_cents=3100)
    await core(world, timezone="UTC")
    await world.subscribe("acme", "pro")
    assert (await core(world, timezone="Asia/Tokyo"))["applicable_timezone"] == "Asia/Tokyo"
    [row] = await world.fetch("select timezone from subscriptions where org_id = $1")
    assert row["timezone"] == "UTC"


async def test_the_list_is_searched_and_filtered(world: World, other_world: World) -> None:
    await core(other_world, "theirs", currency="EUR")
    await core(world, "acme", name="Acme Corp", currency="EUR", country="DE", zipcode="10115", state="BE")
    await core(world, "globex", email="x@globex.com", currency="USD", country="US", customer_type="company")
    await core(
        world, "initech", legal_name="Initech LLC", tax_identification_number="T1", lastname="Lumbergh"
    )
    await core(world, "tagged", metadata=[{"key": "tier", "value": "gold"}])
    assert await ids(world) == ["tagged", "initech", "globex", "acme"]
    assert await ids(world, search_term="CORP") == ["acme"]
    assert await ids(world, search_term="globex.com") == ["globex"]
    assert await ids(world, search_term="initech llc") == ["initech"]
    assert await ids(world, search_term="%") == []
    assert await ids(world, **{"currencies[]": ["EUR", "USD"]}) == ["globex", "acme"]
    assert await ids(world, **{"countries[]": ["DE"]}) == ["acme"]
    assert await ids(world, **{"states[]": ["BE"], "zipcodes[]": ["10115"]}) == ["acme"]
    assert await ids(world, customer_type="company") == ["globex"]
    assert await ids(world, has_customer_type="false") == ["tagged", "initech", "acme"]
    assert await ids(world, has_tax_identification_number="true") == ["initech"]
    assert await ids(world, **{"metadata[tier]": "gold"}) == ["tagged"]
    assert await ids(world, **{"metadata[tier]": "silver"}) == []
    assert await ids(world, **{"metadata[tier]": ""}) == ["initech", "globex", "acme"]
    assert await ids(world, **{"account_type[]": ["partner"]}) == []
    page = await world.get(PATH, per_page=3, page=2)
    assert [one["external_id"] for one in page["customers"]] == ["acme"]
    assert (page["meta"]["total_count"], page["meta"]["prev_page"]) == (4, 1)


async def test_an_unknown_customer_is_404(world: World, other_world: World) -> None:
    await core(other_world)
    answer = await world.call("GET", f"{PATH}/{quote('acme')}")
    assert (answer.status, answer.code) == (404, "customer_not_found")


async def test_deleting_a_customer_ends_what_it_has_and_keeps_its_documents(world: World) -> None:
    """As Lago: subscriptions end with a last invoice, drafts become final, coupons and wallets end."""
    await world.turn("2026-01-01")
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
    await world.a_plan(amount_cents=3100, charges=[charge])
    made = await core(world, billing_configuration={"invoice_grace_period": 5})
    await world.post(
        "/core/api/v1/wallets",
        {
            "wallet": {
                "external_customer_id": "acme",
                "currency": "USD",
                "rate_amount": "1",
                "granted_credits": "5",
            }
        },
    )
    await world.subscribe("acme", "pro")
    await world.at("2026-01-10").use("acme", 7, id="e1")
    await world.turn("2026-01-11")
    gone = (await world.call("DELETE", f"{PATH}/acme")).json["customer"]
    assert gone["lago_id"] == made["lago_id"]
    assert (await world.call("GET", f"{PATH}/acme")).status == 404
    assert (await world.call("DELETE", f"{PATH}/acme")).status == 404
    assert await ids(world) == []
    [invoice] = await world.fetch(
        "select status, fees_amount_cents, prepaid_credit_amount_cents from invoices where org_id = $1"
    )
    assert (invoice["status"], int(invoice["fees_amount_cents"])) == ("finalized", 1100 + 700)
    assert int(invoice["prepaid_credit_amount_cents"]) == 500
    assert {row["status"] for row in await world.fetch("select status from wallets where org_id = $1")} == {
        "terminated"
    }
    stored = await world.event("e1")
    assert stored is not None
    assert stored["billing_status"] == "counted"
    await world.turn("2026-03-01")
    assert len(await world.fetch("select 1 from invoices where org_id = $1")) == 1


async def test_the_id_of_a_deleted_customer_is_free_for_a_new_one(world: World) -> None:
    """The new one has nothing of the old one: no credits, no invoices, no plan."""
    await world.a_plan(amount_cents=100)
    made = await core(world)
    await world.grant("acme", 5)
    await world.subscribe("acme", "pro")
    await world.call("DELETE", f"{PATH}/acme")
    again = await core(world)
    assert (again["lago_id"] == made["lago_id"], again["sequential_id"]) == (False, 2)
    assert await world.balance("acme") == 0
    assert await world.deduct("acme", 1) == (False, 0)
    assert (await world.get("/api/v1/billing/status", customer_id="acme"))["status"] == "none"
    assert await world.invoices("acme") == []
    await world.subscribe("acme", "pro")
    assert await ids(world) == ["acme"]
