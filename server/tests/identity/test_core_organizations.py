"""The organization through Core: what it is and how it bills."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/organizations"


async def change(world: World, **fields: object) -> dict[str, Any]:
    answer = await world.call("PUT", PATH, {"organization": fields})
    assert answer.status == 200, answer.body
    organization = answer.json["organization"]
    assert isinstance(organization, dict)
    return organization


async def test_a_new_organization_bills_as_lagos_defaults(world: World) -> None:
    """Issue 3: UTC, no tax, no grace, zero invoices finalized."""
    shown = (await world.get(PATH))["organization"]
    assert shown["lago_id"] == shown["nozle_id"] == str(world.org_id)
    assert shown["timezone"] == "UTC"
    assert shown["taxes"] == []
    assert (shown["net_payment_term"], shown["finalize_zero_amount_invoice"]) == (0, True)
    assert shown["billing_configuration"] == {
        "invoice_footer": None,
        "invoice_grace_period": 0,
        "document_locale": "en",
    }
    assert shown["document_numbering"] == "per_organization"


async def test_what_is_given_changes_and_the_rest_stays(world: World, other_world: World) -> None:
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    before = (await world.get(PATH))["organization"]
    fields = {
        "name": "Hooli",
        "default_currency": "EUR",
        "timezone": "Europe/Paris",
        "net_payment_term": 30,
        "finalize_zero_amount_invoice": False,
        "document_number_prefix": "HOO-1",
        "email": "billing@hooli.com",
        "legal_name": "Hooli SAS",
        "legal_number": "RCS 1",
        "tax_identification_number": "FR1",
        "address_line1": "Rue 1",
        "address_line2": "2e",
        "city": "Paris",
        "state": "IdF",
        "zipcode": "75001",
        "country": "FR",
    }
    billing = {"invoice_footer": "Merci", "invoice_grace_period": 3, "document_locale": "en"}
    changed = await change(world, **{**fields, "country": "fr"}, billing_configuration=billing)
    assert changed == {**before, **fields, "billing_configuration": billing}
    assert [tax["code"] for tax in changed["taxes"]] == ["vat"]
    assert (await world.get(PATH))["organization"] == changed
    cleared = await change(
        world, legal_name=None, document_numbering="per_organization", webhook_url=None, email_settings=[]
    )
    assert cleared == {**changed, "legal_name": None}
    assert (await other_world.get(PATH))["organization"]["name"] == "Merchant"


async def test_customers_without_terms_of_their_own_are_billed_by_the_organizations(world: World) -> None:
    await change(world, net_payment_term=15, document_number_prefix="hoo", finalize_zero_amount_invoice=False)
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=3100)
    await world.a_plan(code="free")
    await world.a_customer("acme")
    await world.a_customer("globex", net_payment_term=5)
    await world.a_customer("nought")
    await world.a_customer("shown", finalize_zero_amount_invoice="finalize")
    for customer, plan in (("acme", "pro"), ("globex", "pro"), ("nought", "free"), ("shown", "free")):
        await world.subscribe(customer, plan)
    await world.turn("2026-02-01")
    assert (await world.last_invoice("acme"))["due_date"] == "2026-02-16"
    assert (await world.last_invoice("acme"))["number"].startswith("HOO-00")
    assert (await world.last_invoice("globex"))["due_date"] == "2026-02-06"
    assert await world.invoices("nought") == []
    assert len(await world.invoices("shown")) == 1


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"name": " "}, {"name": ["value_is_invalid"]}),
        ({"default_currency": "XYZ"}, {"default_currency": ["value_is_invalid"]}),
        ({"timezone": "Paris"}, {"timezone": ["value_is_invalid"]}),
        ({"net_payment_term": -1}, {"net_payment_term": ["value_is_invalid"]}),
        ({"net_payment_term": True}, {"net_payment_term": ["invalid_type"]}),
        ({"document_number_prefix": "x" * 11}, {"document_number_prefix": ["value_is_invalid"]}),
        ({"country": "France"}, {"country": ["not_a_valid_country_code"]}),
        ({"email": "nobody"}, {"email": ["invalid_email_format"]}),
        ({"document_numbering": "per_customer"}, {"document_numbering": ["not_supported"]}),
        ({"webhook_url": "https://hooli.com"}, {"webhook_url": ["not_supported"]}),
        ({"email_settings": ["invoice.finalized"]}, {"email_settings": ["not_supported"]}),
        (
            {"billing_configuration": {"document_locale": "xx"}},
            {"billing_configuration.document_locale": ["not_supported"]},
        ),
        (
            {"billing_configuration": {"invoice_footer": "x" * 601}},
            {"billing_configuration.invoice_footer": ["value_is_too_long"]},
        ),
    ],
)
async def test_what_cannot_be_is_refused_and_nothing_changes(
    world: World, fields: dict[str, object], details: dict[str, list[str]]
) -> None:
    before = (await world.get(PATH))["organization"]
    answer = await world.call("PUT", PATH, {"organization": {"legal_name": "Changed", **fields}})
    assert (answer.status, answer.json["error_details"]) == (422, details)
    assert (await world.get(PATH))["organization"] == before


async def test_a_publishable_key_neither_sees_nor_changes_it(world: World) -> None:
    assert (await world.call("GET", PATH, key=world.publishable)).status == 403
    assert (await world.call("PUT", PATH, {"organization": {}}, key=world.publishable)).status == 403
