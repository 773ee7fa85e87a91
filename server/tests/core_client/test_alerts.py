"""Alerts on usage and wallets, and usage of all time, through the published client."""

import pytest
from lago_python_client.models.alert import (
    Alert,
    AlertsList,
    AlertThreshold,
    AlertThresholdList,
)
from lago_python_client.models.billable_metric import BillableMetric
from lago_python_client.models.customer import Customer
from lago_python_client.models.plan import Plan
from lago_python_client.models.subscription import Subscription
from lago_python_client.models.usage_threshold import UsageThreshold, UsageThresholds
from lago_python_client.models.wallet import Wallet

from core_client.shop import Shop, listed, refused, shows

pytestmark = pytest.mark.database


@pytest.fixture
def team(shop: Shop) -> str:
    shop.lago.billable_metrics.create(
        BillableMetric(name="Things", code="things", aggregation_type="sum_agg", field_name="n")
    )
    shop.lago.customers.create(Customer(external_id="acme", name="Acme", currency="USD"))
    thresholds = UsageThresholds(__root__=[UsageThreshold(amount_cents=5000, threshold_display_name="First")])
    plan = Plan(
        name="Pro",
        code="pro",
        interval="monthly",
        amount_cents=0,
        amount_currency="USD",
        usage_thresholds=thresholds,
    )
    shop.lago.plans.create(plan)
    shop.lago.subscriptions.create(
        Subscription(external_customer_id="acme", plan_code="pro", external_id="team")
    )
    return "team"


def thresholds() -> AlertThresholdList:
    return AlertThresholdList(
        __root__=[AlertThreshold(code="warn", value="50.0"), AlertThreshold(value="10.0", recurring=True)]
    )


def test_alerts_on_usage(shop: Shop, team: str) -> None:
    subscriptions = shop.lago.subscriptions
    wanted = AlertsList(
        alerts=[
            Alert(alert_type="current_usage_amount", code="usage", name="Usage", thresholds=thresholds()),
            Alert(
                alert_type="billable_metric_current_usage_units",
                code="units",
                billable_metric_code="things",
                thresholds=thresholds(),
            ),
        ]
    )
    usage, units = subscriptions.create_alerts(team, wanted)["alerts"]
    shows(usage, alert_type="current_usage_amount", code="usage", name="Usage", external_subscription_id=team)
    shows(usage, direction="increasing", lago_wallet_id=None, billable_metric=None, last_processed_at=None)
    shows(units.billable_metric, code="things", name="Things")
    warn, step = usage.thresholds.__root__
    shows(warn, code="warn", value="50.0", recurring=False)
    shows(step, code=None, value="10.0", recurring=True)
    assert subscriptions.delete_alerts(team) is None
    assert shop.core(f"/subscriptions/{team}/alerts")["alerts"] == []


def test_alerts_on_a_wallet(shop: Shop, team: str) -> None:
    wallet = Wallet(external_customer_id="acme", rate_amount="1.0", currency="USD", code="prepaid")
    lago_wallet_id = shop.lago.wallets.create(wallet).lago_id
    alerts = shop.lago.customers.wallets.alerts
    wanted = Alert(alert_type="wallet_balance_amount", code="low", name="Low", thresholds=thresholds())
    made = alerts.create("acme", "prepaid", wanted)
    shows(made, alert_type="wallet_balance_amount", code="low", name="Low", lago_wallet_id=lago_wallet_id)
    shows(made, wallet_code="prepaid", direction="decreasing", external_subscription_id=None)
    assert alerts.find("acme", "prepaid", "low") == made
    assert listed(alerts.find_all("acme", "prepaid"), "alerts") == [made]
    change = Alert(name="Lower", thresholds=AlertThresholdList(__root__=[AlertThreshold(value="5.0")]))
    changed = alerts.update("acme", "prepaid", "low", change)
    shows(changed, name="Lower", code="low")
    assert [one.value for one in changed.thresholds.__root__] == ["5.0"]
    shows(alerts.destroy("acme", "prepaid", "low"), code="low")
    with refused(404, "alert_not_found"):
        alerts.find("acme", "prepaid", "low")
    [again] = alerts.create_batch("acme", "prepaid", AlertsList(alerts=[wanted]))["alerts"]
    shows(again, code="low")
    assert alerts.destroy_all("acme", "prepaid") is None
    assert listed(alerts.find_all("acme", "prepaid"), "alerts") == []


def test_usage_of_all_time(shop: Shop, team: str) -> None:
    subscriptions = shop.lago.subscriptions
    found = subscriptions.lifetime_usage(team)
    shows(
        found,
        external_subscription_id=team,
        external_historical_usage_amount_cents=0,
        invoiced_usage_amount_cents=0,
        current_usage_amount_cents=0,
    )
    [threshold] = found.usage_thresholds
    shows(threshold, amount_cents=5000, completion_ratio=0.0, reached_at=None)
    changed = subscriptions.update_lifetime_usage(team, 2500)
    shows(changed, external_historical_usage_amount_cents=2500, lago_id=found.lago_id)
    assert changed.usage_thresholds[0].completion_ratio == 0.5
