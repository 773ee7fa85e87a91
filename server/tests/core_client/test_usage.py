"""The published client reads usage, lifetime usage, alerts, estimates and analytics."""

import pytest
from lago_python_client.models import (
    Alert,
    AlertsList,
    AlertThreshold,
    AlertThresholdList,
    Event,
)
from lago_python_client.models.alert import AlertResponse

from core_client.shop import Shop, refused, shows

pytestmark = [pytest.mark.database]


@pytest.fixture
def subscription(shop: Shop) -> str:
    """acme on a plan with a charge in arrears and one in advance, and 100 tokens used."""
    for code in ("tokens", "calls"):
        metric = {"code": code, "name": code, "aggregation_type": "sum_agg", "field_name": "n"}
        shop.call("POST", "/core/api/v1/billable_metrics", {"billable_metric": metric})
    charges = [
        {
            "billable_metric_code": code,
            "charge_model": "standard",
            "pay_in_advance": code == "calls",
            "properties": {"amount": "0.1"},
        }
        for code in ("tokens", "calls")
    ]
    plan = {"code": "pro", "name": "Pro", "interval": "monthly", "amount_cents": 900, "charges": charges}
    shop.call("POST", "/core/api/v1/plans", {"plan": {**plan, "amount_currency": "USD"}})
    shop.call("POST", "/core/api/v1/customers", {"customer": {"external_id": "acme"}})
    wanted = {"external_customer_id": "acme", "plan_code": "pro", "external_id": "sub_1"}
    shop.call("POST", "/core/api/v1/subscriptions", {"subscription": wanted})
    shop.lago.events.create(an_event("e1", "tokens", 100))
    return "sub_1"


def an_event(transaction_id: str, code: str, n: int) -> Event:
    return Event(
        transaction_id=transaction_id,
        external_subscription_id="sub_1",
        code=code,
        properties={"n": n},
        precise_total_amount_cents="12.5",
    )


def test_usage(shop: Shop, subscription: str) -> None:
    used = shop.lago.customers.current_usage("acme", subscription)
    shows(used, currency="USD", amount_cents=1000, issuing_date="2026-02-01")
    [tokens] = [one for one in used.charges_usage if one.billable_metric.code == "tokens"]
    shows(tokens, units="100.0", events_count=1, amount_cents=1000, amount_currency="USD")
    nothing = shop.lago.customers.current_usage("acme", subscription, filter_by_group={"team": "a"})
    shows(nothing, amount_cents=0)
    projected = shop.lago.customers.projected_usage("acme", subscription)
    assert projected.projected_amount_cents > 1000
    shop.turn("2026-02-02")
    past = shop.lago.customers.past_usage("acme", subscription)
    assert [one.from_datetime for one in past["usage_periods"]] == ["2026-01-15T00:00:00Z"]
    with refused(405, "no_active_subscription"):
        shop.lago.customers.current_usage("acme", "none")


def test_lifetime_usage(shop: Shop, subscription: str) -> None:
    shows(shop.lago.subscriptions.lifetime_usage(subscription), current_usage_amount_cents=1000)
    changed = shop.call(
        "PUT",
        f"/core/api/v1/subscriptions/{subscription}/lifetime_usage",
        {"lifetime_usage": {"external_historical_usage_amount_cents": 70}},
    )
    assert changed["lifetime_usage"]["external_historical_usage_amount_cents"] == 70


def test_events_and_their_estimates(shop: Shop, subscription: str) -> None:
    shows(shop.lago.events.find("e1"), code="tokens", precise_total_amount_cents="12.5")
    fees = shop.lago.events.estimate_fees(an_event("e2", "calls", 3))
    assert [(fee.amount_cents, fee.lago_id) for fee in fees["fees"]] == [(30, None)]
    with refused(404):
        shop.lago.events.find("e2")


def test_alerts_of_a_subscription(shop: Shop, subscription: str) -> None:
    thresholds = AlertThresholdList(__root__=[AlertThreshold(code="warn", value="500")])
    wanted = Alert(alert_type="current_usage_amount", code="budget", name="Budget", thresholds=thresholds)
    made = shop.lago.subscriptions.create_alerts(subscription, AlertsList(alerts=[wanted]))
    [budget] = made["alerts"]
    shows(budget, code="budget", alert_type="current_usage_amount", direction="increasing")
    path = f"/subscriptions/{subscription}/alerts"
    assert AlertResponse.parse_obj(shop.core(f"{path}/budget")["alert"]).lago_id == budget.lago_id
    shop.lago.subscriptions.delete_alerts(subscription)
    assert shop.core(path)["alerts"] == []


def test_analytics(shop: Shop, subscription: str) -> None:
    shop.turn("2026-02-10")
    months = shop.lago.gross_revenues.find_all({"currency": "USD", "months": 2})["gross_revenues"]
    assert [(one.month, one.invoices_count) for one in months][-1] == ("2026-02-01T00:00:00.000Z", 1)
    assert shop.lago.mrrs.find_all({"currency": "USD"})["mrrs"]
    assert shop.lago.invoice_collections.find_all({"currency": "USD"})["invoice_collections"]
    assert shop.lago.invoiced_usages.find_all({"currency": "USD"})["invoiced_usages"]
    assert [one.amount_cents for one in shop.lago.overdue_balances.find_all({})["overdue_balances"]]
