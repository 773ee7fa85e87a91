"""Field by field: what each of our objects must have, as Lago's public API reference says (`lago_fields.py`)."""

import re
from datetime import date, datetime
from typing import Any
from uuid import UUID

import pytest

from core_client import lago_fields as lago
from core_client.shop import JsonObject, Shop

pytestmark = pytest.mark.database

CORE = "/core/api/v1"
DECIMAL = re.compile(r"-?\d+\.\d+")
KINDS = {"text": str, "object": dict, "list": list, "bool": bool, "int": int, "number": (int, float)}


def fits(value: object, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    name = kind.removesuffix("?")
    if name in KINDS:
        return isinstance(value, KINDS[name]) and (name == "bool" or not isinstance(value, bool))
    try:
        match name:
            case "id":
                return str(UUID(str(value))) == value
            case "instant":
                return datetime.fromisoformat(str(value)).tzinfo is not None and str(value).endswith("Z")
            case "date":
                return date.fromisoformat(str(value)).isoformat() == value
            case "decimal":
                return isinstance(value, str) and DECIMAL.fullmatch(value) is not None
    except ValueError:
        return False
    raise AssertionError(f"no such kind: {kind}")


def has(shown: JsonObject, wanted: dict[str, str], *, id_of_ours: bool = True) -> None:
    """Every field is there, of its type; and beside Lago's id there is ours."""
    wrong = {
        name: shown.get(name, "missing") for name, kind in wanted.items() if not fits(shown.get(name), kind)
    }
    wrong |= {name: "missing" for name in wanted if name not in shown}
    assert wrong == {}
    if id_of_ours and "lago_id" in wanted:
        assert shown["nozle_id"] == shown["lago_id"]


@pytest.fixture
def month(shop: Shop) -> Shop:
    """A month of a customer that has something of everything."""

    def post(path: str, **body: object) -> Any:
        return shop.call("POST", CORE + path, body)

    post("/taxes", tax={"code": "vat", "name": "VAT", "rate": "20.0"})
    post("/add_ons", add_on={"code": "seat", "name": "Seat", "amount_cents": 1000, "amount_currency": "USD"})
    metric = {"code": "things", "name": "Things", "aggregation_type": "sum_agg", "field_name": "n"}
    post("/billable_metrics", billable_metric={**metric, "filters": [{"key": "model", "values": ["a", "b"]}]})
    post(
        "/features",
        feature={"code": "sso", "name": "SSO", "privileges": [{"code": "max", "value_type": "integer"}]},
    )
    charge = {
        "billable_metric_code": "things",
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "filters": [{"values": {"model": ["a"]}, "properties": {"amount": "2"}}],
        "min_amount_cents": 5000,
    }
    post(
        "/plans",
        plan={
            "code": "pro",
            "name": "Pro",
            "interval": "monthly",
            "amount_cents": 3100,
            "amount_currency": "USD",
            "charges": [charge],
            "fixed_charges": [
                {
                    "add_on_code": "seat",
                    "charge_model": "standard",
                    "properties": {"amount": "10"},
                    "units": 2,
                }
            ],
            "minimum_commitment": {"amount_cents": 90_000},
            "tax_codes": ["vat"],
        },
    )
    post(
        "/coupons",
        coupon={
            "code": "ten",
            "name": "Ten",
            "coupon_type": "percentage",
            "percentage_rate": "10",
            "frequency": "forever",
            "expiration": "no_expiration",
        },
    )
    post("/customers", customer={"external_id": "acme", "currency": "USD"})
    post("/applied_coupons", applied_coupon={"external_customer_id": "acme", "coupon_code": "ten"})
    wallet = {"external_customer_id": "acme", "rate_amount": "2", "currency": "USD", "code": "prepaid"}
    post("/wallets", wallet={**wallet, "granted_credits": "10"})
    post(
        "/subscriptions",
        subscription={"external_customer_id": "acme", "plan_code": "pro", "external_id": "team"},
    )
    for model in ("a", "b"):
        post(
            "/events",
            event={
                "transaction_id": model,
                "external_subscription_id": "team",
                "code": "things",
                "properties": {"n": 3, "model": model},
            },
        )
    post(
        "/subscriptions/team/alerts",
        alert={"alert_type": "current_usage_amount", "code": "usage", "thresholds": [{"value": "100"}]},
    )
    return shop


def test_what_is_defined_and_by_whom(month: Shop) -> None:
    has(month.core("/taxes/vat")["tax"], lago.TAX)
    has(month.core("/add_ons/seat")["add_on"], lago.ADD_ON)
    has(month.core("/coupons/ten")["coupon"], lago.COUPON)
    [applied] = month.core("/applied_coupons")["applied_coupons"]
    has(applied, lago.APPLIED_COUPON)
    has(month.core("/billable_metrics/things")["billable_metric"], lago.METRIC)
    has(month.core("/features/sso")["feature"], lago.FEATURE)
    plan = month.core("/plans/pro")["plan"]
    has(plan, lago.PLAN)
    [charge], [fixed] = plan["charges"], plan["fixed_charges"]
    has(charge, lago.CHARGE)
    has(fixed, lago.FIXED_CHARGE)
    has(charge["filters"][0], lago.FILTER)
    has(month.core("/customers/acme")["customer"], lago.CUSTOMER)
    has(month.core("/organizations")["organization"], lago.ORGANIZATION)


def test_what_is_used(month: Shop) -> None:
    has(month.core("/subscriptions/team")["subscription"], lago.SUBSCRIPTION)
    has(month.core("/events/a")["event"], lago.EVENT)
    usage = month.core("/customers/acme/current_usage?external_subscription_id=team")["customer_usage"]
    has(usage, lago.USAGE)
    [things] = usage["charges_usage"]
    has(things, lago.CHARGE_USAGE)
    has(month.core("/subscriptions/team/lifetime_usage")["lifetime_usage"], lago.LIFETIME_USAGE)
    has(month.core("/subscriptions/team/alerts/usage")["alert"], lago.ALERT)
    [wallet] = month.core("/wallets")["wallets"]
    has(wallet, lago.WALLET)
    [granted] = month.core(f"/wallets/{wallet['lago_id']}/wallet_transactions")["wallet_transactions"]
    has(granted, lago.WALLET_TRANSACTION)


def test_what_is_billed(month: Shop) -> None:
    month.turn("2026-02-02")
    [listed] = month.core("/invoices")["invoices"]
    invoice = month.core(f"/invoices/{listed['lago_id']}")["invoice"]
    has(invoice, lago.INVOICE)
    has(invoice["customer"], {name: kind for name, kind in lago.CUSTOMER.items() if name != "taxes"})
    for period in invoice["billing_periods"]:
        has(period, lago.BILLING_PERIOD)
    for subscription in invoice["subscriptions"]:
        has(subscription, lago.SUBSCRIPTION)
    for tax in invoice["applied_taxes"]:
        has(tax, lago.APPLIED_TAX)
    kinds = {fee["item"]["type"] for fee in invoice["fees"]}
    assert kinds == {"subscription", "charge", "fixed_charge", "commitment"}
    for fee in invoice["fees"]:
        has(fee, lago.FEE)
        has(fee["item"], lago.FEE_ITEM)
        for tax in fee["applied_taxes"]:
            has(tax, lago.APPLIED_TAX)
    [subscription_fee] = [fee for fee in invoice["fees"] if fee["item"]["type"] == "subscription"]
    has(month.core(f"/fees/{subscription_fee['lago_id']}")["fee"], lago.FEE)
    past = month.core("/customers/acme/past_usage?external_subscription_id=team")["usage_periods"]
    has(past[0], lago.USAGE)
    due = invoice["total_due_amount_cents"]
    paid = {"invoice_id": invoice["lago_id"], "amount_cents": due, "reference": "wire"}
    has(month.call("POST", CORE + "/payments", {"payment": paid})["payment"], lago.PAYMENT)
    note = {
        "invoice_id": invoice["lago_id"],
        "reason": "other",
        "credit_amount_cents": 108,
        "items": [{"fee_id": subscription_fee["lago_id"], "amount_cents": 100}],
    }
    has(month.call("POST", CORE + "/credit_notes", {"credit_note": note})["credit_note"], lago.CREDIT_NOTE)
