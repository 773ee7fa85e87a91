"""Taxes, add-ons, coupons and the coupons of customers through the published client."""

import pytest
from lago_python_client.models.add_on import AddOn
from lago_python_client.models.applied_coupon import AppliedCoupon
from lago_python_client.models.coupon import Coupon, LimitationConfiguration
from lago_python_client.models.customer import Customer
from lago_python_client.models.plan import Plan
from lago_python_client.models.tax import Tax

from core_client.shop import Shop, children, echoes, listed, refused, shows

pytestmark = pytest.mark.database


def test_taxes(shop: Shop) -> None:
    taxes = shop.lago.taxes
    vat = Tax(name="TVA", code="vat", rate=19.6, description="French", applied_to_organization=True)
    made = taxes.create(vat)
    echoes(made, vat)
    assert taxes.find("vat") == made
    assert listed(taxes.find_all({"per_page": 10}), "taxes") == [made]
    changed = taxes.update(Tax(rate=20.0, applied_to_organization=False), "vat")
    shows(changed, name="TVA", rate=20.0, applied_to_organization=False, lago_id=made.lago_id)
    assert taxes.destroy("vat") == changed
    with refused(404, "tax_not_found"):
        taxes.find("vat")


def test_add_ons(shop: Shop) -> None:
    shop.lago.taxes.create(Tax(name="TVA", code="vat", rate=20.0))
    add_ons = shop.lago.add_ons
    setup = AddOn(
        name="Setup",
        invoice_display_name="Setting up",
        code="setup",
        amount_cents=50_000,
        amount_currency="EUR",
        description="Once",
        tax_codes=["vat"],
    )
    made = add_ons.create(setup)
    echoes(made, setup)
    assert [tax.code for tax in made.taxes.__root__] == ["vat"]
    assert add_ons.find("setup") == made
    assert listed(add_ons.find_all(), "add_ons") == [made]
    changed = add_ons.update(AddOn(amount_cents=60_000, tax_codes=[]), "setup")
    shows(changed, name="Setup", amount_cents=60_000)
    assert changed.taxes.__root__ == []
    shows(add_ons.destroy("setup"), lago_id=made.lago_id)
    with refused(404, "add_on_not_found"):
        add_ons.find("setup")


def test_coupons(shop: Shop) -> None:
    shop.lago.plans.create(
        Plan(name="Pro", code="pro", interval="monthly", amount_cents=0, amount_currency="USD")
    )
    coupons = shop.lago.coupons
    fixed = Coupon(
        name="Startup",
        code="startup",
        description="For the young",
        coupon_type="fixed_amount",
        amount_cents=5000,
        amount_currency="USD",
        frequency="recurring",
        frequency_duration=6,
        reusable=False,
        expiration="time_limit",
        expiration_at="2027-08-08T23:59:59Z",
        applies_to=LimitationConfiguration(plan_codes=["pro"]),
    )
    made = coupons.create(fixed)
    echoes(made, fixed)
    shows(made, limited_plans=True, plan_codes=["pro"], limited_billable_metrics=False, percentage_rate=None)
    percentage = Coupon(
        name="Ten",
        code="ten",
        coupon_type="percentage",
        percentage_rate=12.5,
        frequency="once",
        expiration="no_expiration",
    )
    other = coupons.create(percentage)
    echoes(other, percentage)
    shows(other, amount_cents=None, reusable=True, terminated_at=None)
    assert coupons.find("ten") == other
    assert listed(coupons.find_all(), "coupons") == [other, made]
    changed = coupons.update(Coupon(name="Eleven", percentage_rate=11.0), "ten")
    shows(changed, name="Eleven", code="ten", percentage_rate=11.0)
    ended = coupons.destroy("ten")
    assert ended.lago_id == other.lago_id
    with refused(404, "coupon_not_found"):
        coupons.find("ten")


def test_coupons_of_customers(shop: Shop) -> None:
    lago = shop.lago
    lago.customers.create(Customer(external_id="acme", name="Acme"))
    lago.coupons.create(
        Coupon(
            name="Startup",
            code="startup",
            coupon_type="fixed_amount",
            amount_cents=5000,
            amount_currency="USD",
            frequency="once",
            expiration="no_expiration",
        )
    )
    wanted = AppliedCoupon(
        external_customer_id="acme",
        coupon_code="startup",
        amount_cents=2500,
        amount_currency="USD",
        frequency="recurring",
        frequency_duration=3,
    )
    made = lago.applied_coupons.create(wanted)
    echoes(made, wanted)
    shows(made, status="active", frequency_duration_remaining=3, terminated_at=None, percentage_rate=None)
    options = {"external_customer_id": "acme", "status": "active"}
    [one] = listed(lago.applied_coupons.find_all(options), "applied_coupons")
    shows(one, lago_id=made.lago_id)
    assert one.credits.__root__ == []
    [same] = children(shop, lago.customer_applied_coupons, "acme")
    assert same == one
    ended = lago.applied_coupons.destroy("acme", made.lago_id)
    shows(ended, lago_id=made.lago_id, status="terminated")
    assert ended.terminated_at is not None


def test_a_refusal_has_lagos_form(shop: Shop) -> None:
    """The client gives the caller our JSON: details by field, each with codes."""
    tax = Tax(name="TVA", code="vat", rate=20.0)
    shop.lago.taxes.create(tax)
    with refused(422, "validation_errors") as caught:
        shop.lago.taxes.create(tax)
    assert caught.value.response["error_details"] == {"code": ["value_already_exist"]}
