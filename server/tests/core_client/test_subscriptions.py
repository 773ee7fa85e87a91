"""Subscriptions, what they have otherwise than their plan, and events, through the published client."""

from datetime import UTC, datetime

import pytest
from lago_python_client.models.add_on import AddOn
from lago_python_client.models.billable_metric import (
    BillableMetric,
    BillableMetricFilter,
    BillableMetricFilters,
)
from lago_python_client.models.charge import Charge, ChargeFilter, ChargeOverrides, Charges, ChargesOverrides
from lago_python_client.models.coupon import Coupon, CouponsList
from lago_python_client.models.customer import Customer
from lago_python_client.models.event import BatchEvent, Event
from lago_python_client.models.fee import Fee
from lago_python_client.models.fixed_charge import FixedCharge, FixedChargeProperties
from lago_python_client.models.invoice import InvoicePreview
from lago_python_client.models.plan import Plan, PlanOverrides
from lago_python_client.models.subscription import Subscription, Subscriptions

from core_client.shop import Shop, children, echoes, listed, refused, shows

pytestmark = pytest.mark.database

SUBSCRIBED = Subscription(
    external_customer_id="acme",
    plan_code="pro",
    name="Team",
    external_id="team",
    subscription_at="2026-01-01T00:00:00Z",
    billing_time="anniversary",
    ending_at="2027-01-01T00:00:00Z",
)


@pytest.fixture
def pro(shop: Shop) -> None:
    """A customer and a plan that costs 49 dollars and 2 dollars a thing."""
    metric = shop.lago.billable_metrics.create(
        BillableMetric(name="Things", code="things", aggregation_type="sum_agg", field_name="n")
    )
    charge = Charge(
        billable_metric_id=metric.lago_id, code="things", charge_model="standard", properties={"amount": "2"}
    )
    pro = Plan(
        name="Pro",
        code="pro",
        interval="monthly",
        amount_cents=4900,
        amount_currency="USD",
        pay_in_advance=True,
        charges=Charges(__root__=[charge]),
    )
    shop.lago.plans.create(pro)
    shop.lago.plans.create(
        pro.copy(update={"code": "max", "name": "Max", "amount_cents": 9900, "charges": None})
    )
    shop.lago.customers.create(Customer(external_id="acme", name="Acme", currency="USD"))


@pytest.mark.usefixtures("pro")
def test_subscriptions(shop: Shop) -> None:
    subscriptions = shop.lago.subscriptions
    made = subscriptions.create(SUBSCRIBED)
    echoes(made, SUBSCRIBED)
    shows(
        made,
        status="active",
        plan_amount_cents="4900",
        plan_amount_currency="USD",
        current_billing_period_started_at="2026-01-01T00:00:00Z",
        current_billing_period_ending_at="2026-01-31T23:59:59Z",
        on_termination_invoice="generate",
        terminated_at=None,
        previous_plan_code=None,
    )
    assert subscriptions.find("team") == made
    [found] = listed(
        subscriptions.find_all({"external_customer_id": "acme", "plan_code": "pro"}), "subscriptions"
    )
    assert found == made
    assert children(shop, shop.lago.customer_subscriptions, "acme") == [made]
    changed = subscriptions.update(Subscription(name="Crew", ending_at="2027-06-01T00:00:00Z"), "team")
    shows(changed, name="Crew", ending_at="2027-06-01T00:00:00Z", plan_code="pro")
    ended = subscriptions.destroy(
        "team", {"on_termination_credit_note": "skip", "on_termination_invoice": "skip"}
    )
    shows(ended, status="terminated", on_termination_credit_note="skip", on_termination_invoice="skip")
    assert ended.terminated_at is not None
    with refused(404, "subscription_not_found"):
        subscriptions.find("team")
    shows(subscriptions.find("team", {"status": "terminated"}), lago_id=made.lago_id)


@pytest.mark.usefixtures("pro")
def test_a_subscription_changes_its_plan(shop: Shop) -> None:
    subscriptions = shop.lago.subscriptions
    subscriptions.create(SUBSCRIBED)
    upgraded = subscriptions.create(
        Subscription(external_customer_id="acme", plan_code="max", external_id="team")
    )
    shows(upgraded, plan_code="max", status="active", previous_plan_code="pro")
    downgraded = subscriptions.create(
        Subscription(external_customer_id="acme", plan_code="pro", external_id="team")
    )
    shows(downgraded, plan_code="max", next_plan_code="pro", downgrade_plan_date="2026-02-01")
    [pending] = listed(subscriptions.find_all({"status[]": "pending"}), "subscriptions")
    shows(pending, plan_code="pro", status="pending")


@pytest.mark.usefixtures("pro")
def test_a_subscription_in_the_future_is_pending(shop: Shop) -> None:
    later = SUBSCRIBED.copy(update={"subscription_at": "2026-03-01T00:00:00Z"})
    made = shop.lago.subscriptions.create(later)
    shows(made, status="pending", started_at=None, subscription_at="2026-03-01T00:00:00Z")
    called_off = shop.lago.subscriptions.destroy("team", {"status": "pending"})
    shows(called_off, status="canceled")


@pytest.mark.usefixtures("pro")
def test_what_a_subscription_has_otherwise(shop: Shop) -> None:
    [charge] = shop.lago.plans.find("pro").charges.__root__
    overrides = PlanOverrides(
        amount_cents=3900,
        name="Special",
        charges=ChargesOverrides(
            __root__=[
                ChargeOverrides(id=charge.lago_id, properties={"amount": "1.5"}, invoice_display_name="Cheap")
            ]
        ),
    )
    made = shop.lago.subscriptions.create(SUBSCRIBED.copy(update={"plan_overrides": overrides}))
    shows(made, plan_amount_cents="3900", plan_code="pro")
    plan = shop.core("/subscriptions/team")["subscription"]["plan"]
    assert plan["charges"][0]["properties"]["amount"] == "1.5"
    shows(shop.lago.plans.find("pro"), amount_cents=4900)


@pytest.mark.usefixtures("pro")
def test_events(shop: Shop) -> None:
    shop.lago.subscriptions.create(SUBSCRIBED)
    events = shop.lago.events
    sent = Event(
        transaction_id="one",
        external_subscription_id="team",
        code="things",
        timestamp=1767900000,
        properties={"n": 2, "region": "eu"},
    )
    made = events.create(sent)
    shows(
        made, transaction_id="one", external_subscription_id="team", code="things", properties=sent.properties
    )
    assert datetime.fromisoformat(made.timestamp) == datetime(2026, 1, 8, 19, 20, tzinfo=UTC)
    found = events.find("one")
    shows(found, lago_id=made.lago_id, code="things", properties=sent.properties)
    shop.lago.billable_metrics.create(
        BillableMetric(name="Calls", code="calls", aggregation_type="count_agg")
    )
    bare = events.create(Event(transaction_id="two", external_subscription_id="team", code="calls"))
    shows(bare, transaction_id="two")
    batch = [sent.copy(update={"transaction_id": f"batch {number}"}) for number in range(3)]
    assert events.batch_create(BatchEvent(events=batch)) is None
    assert events.find("batch 2").timestamp == made.timestamp
    with refused(404, "event_not_found"):
        events.find("never")


@pytest.mark.usefixtures("pro")
def test_usage(shop: Shop) -> None:
    shop.lago.subscriptions.create(SUBSCRIBED)
    for number, units in enumerate((2, 3.5)):
        shop.lago.events.create(
            Event(
                transaction_id=str(number),
                external_subscription_id="team",
                code="things",
                timestamp="2026-01-10T00:00:00Z",
                properties={"n": units},
            )
        )
    customers = shop.lago.customers
    current = customers.current_usage("acme", "team", apply_taxes="true")
    shows(
        current,
        from_datetime="2026-01-01T00:00:00Z",
        to_datetime="2026-01-31T23:59:59Z",
        issuing_date="2026-02-01",
        currency="USD",
        amount_cents=1100,
        taxes_amount_cents=0,
        total_amount_cents=1100,
    )
    [usage] = current.charges_usage
    shows(usage, units="5.5", total_aggregated_units="5.5", events_count=2, amount_cents=1100)
    shows(usage.billable_metric, code="things", aggregation_type="sum_agg")
    shows(usage.charge, charge_model="standard")
    for narrowed in (
        {"charge_code": "things"},
        {"billable_metric_code": "things"},
        {"charge_id": usage.charge.lago_id},
    ):
        assert customers.current_usage("acme", "team", **narrowed).charges_usage == [usage]
    for other in (
        {"charge_code": "other"},
        {"billable_metric_code": "other"},
        {"charge_id": usage.billable_metric.lago_id},
        {"group": {"region": "eu"}},
    ):
        assert customers.current_usage("acme", "team", **other).amount_cents == 0
    projected = customers.projected_usage("acme", "team")
    shows(projected, amount_cents=1100)
    [projection] = projected.charges_usage
    shows(projection, units="5.5", amount_cents=1100)
    assert projection.projected_amount_cents >= 1100
    shop.turn("2026-02-02")
    [past] = listed(customers.past_usage("acme", "team", {"periods_count": 2}), "usage_periods")
    shows(past, amount_cents=1100 + 4900, from_datetime="2026-01-01T00:00:00Z")
    [invoice] = [
        one for one in shop.lago.invoices.find_all()["invoices"] if one.lago_id == past.lago_invoice_id
    ]
    assert invoice.fees_amount_cents == 1100 + 4900


@pytest.mark.usefixtures("pro")
def test_what_an_event_would_cost(shop: Shop) -> None:
    [metric] = [one for one in shop.core("/billable_metrics")["billable_metrics"] if one["code"] == "things"]
    at_once = Charge(
        billable_metric_id=metric["lago_id"],
        code="at_once",
        charge_model="standard",
        pay_in_advance=True,
        properties={"amount": "2.5"},
    )
    shop.lago.plan_charges.create("pro", at_once)
    shop.lago.subscriptions.create(SUBSCRIBED)
    event = Event(transaction_id="maybe", external_subscription_id="team", code="things", properties={"n": 3})
    [fee] = shop.lago.events.estimate_fees(event)["fees"]
    shows(fee, amount_cents=750, units="3.0", pay_in_advance=True, lago_id=None, event_transaction_id="maybe")
    shows(fee.item, type="charge", code="things")
    with refused(404, "event_not_found"):
        shop.lago.events.find("maybe")


@pytest.mark.usefixtures("pro")
def test_a_fee_without_an_invoice_is_paid_by_itself(shop: Shop) -> None:
    [metric] = [one for one in shop.core("/billable_metrics")["billable_metrics"] if one["code"] == "things"]
    at_once = Charge(
        billable_metric_id=metric["lago_id"],
        code="at_once",
        charge_model="standard",
        pay_in_advance=True,
        invoiceable=False,
        properties={"amount": "2.5"},
    )
    shop.lago.plan_charges.create("pro", at_once)
    shop.lago.subscriptions.create(SUBSCRIBED)
    for id in ("paid", "waived"):
        shop.lago.events.create(
            Event(transaction_id=id, external_subscription_id="team", code="things", properties={"n": 3})
        )
    fees = shop.lago.fees
    [paid] = listed(fees.find_all({"event_transaction_id": "paid"}), "fees")
    shows(paid, amount_cents=750, invoiceable=False, pay_in_advance=True, lago_invoice_id=None)
    changed = fees.update(Fee(payment_status="succeeded"), paid.lago_id)
    shows(changed, payment_status="succeeded", lago_id=paid.lago_id)
    assert changed.succeeded_at is not None
    [waived] = listed(fees.find_all({"event_transaction_id": "waived"}), "fees")
    shows(fees.destroy(waived.lago_id), lago_id=waived.lago_id)
    with refused(404, "fee_not_found"):
        fees.find(waived.lago_id)


@pytest.mark.usefixtures("pro")
def test_what_an_invoice_would_be(shop: Shop) -> None:
    wanted = InvoicePreview(
        plan_code="pro",
        billing_time="anniversary",
        subscription_at="2026-01-15T00:00:00Z",
        customer=Customer(external_id="nobody", name="Nobody", currency="USD", country="FR"),
        coupons=CouponsList(
            __root__=[
                Coupon(
                    code="x", name="Half", coupon_type="percentage", percentage_rate=50.0, frequency="once"
                )
            ]
        ),
    )
    invoices = shop.lago.invoices
    new = invoices.preview(wanted)
    shows(new, fees_amount_cents=4900, coupons_amount_cents=2450, total_amount_cents=2450, currency="USD")
    shop.lago.subscriptions.create(SUBSCRIBED)
    running = InvoicePreview(
        customer=Customer(external_id="acme"), subscriptions=Subscriptions(external_ids=["team"])
    )
    next_one = invoices.preview(running)
    shows(next_one, fees_amount_cents=4900, issuing_date="2026-02-01", invoice_type="subscription")
    assert invoices.find_all()["invoices"] == []


@pytest.mark.usefixtures("pro")
def test_charges_of_a_subscription(shop: Shop) -> None:
    shop.lago.subscriptions.create(SUBSCRIBED)
    charges = shop.lago.subscription_charges
    [charge] = children(shop, charges, "team")
    shows(charge, code="things", charge_model="standard", properties={"amount": "2"})
    assert charges.find("team", "things") == charge
    changed = charges.update(
        "team", "things", Charge(properties={"amount": "3"}, invoice_display_name="Dear")
    )
    shows(changed, code="things", properties={"amount": "3"}, invoice_display_name="Dear")
    assert charges.find("team", "things").properties == {"amount": "3"}
    [of_the_plan] = shop.lago.plans.find("pro").charges.__root__
    shows(of_the_plan, properties={"amount": "2"})


@pytest.mark.usefixtures("pro")
def test_fixed_charges_of_a_subscription(shop: Shop) -> None:
    shop.lago.add_ons.create(AddOn(name="Seat", code="seat", amount_cents=1000, amount_currency="USD"))
    seats = FixedCharge(
        add_on_code="seat",
        code="seats",
        charge_model="standard",
        units=5,
        properties=FixedChargeProperties(amount="10"),
    )
    shop.lago.plan_fixed_charges.create("pro", seats)
    shop.lago.subscriptions.create(SUBSCRIBED)
    fixed = shop.lago.subscription_fixed_charges
    [charge] = children(shop, fixed, "team")
    shows(charge, code="seats", units=5, add_on_code="seat")
    assert fixed.find("team", "seats") == charge
    changed = fixed.update("team", "seats", FixedCharge(units=7, invoice_display_name="Places"))
    shows(changed, code="seats", units=7, invoice_display_name="Places")
    assert fixed.find("team", "seats").units == 7
    [of_the_plan] = shop.lago.plans.find("pro").fixed_charges.__root__
    shows(of_the_plan, units=5)


@pytest.mark.usefixtures("pro")
def test_filters_of_a_subscriptions_charge(shop: Shop) -> None:
    metric = BillableMetric(
        filters=BillableMetricFilters(__root__=[BillableMetricFilter(key="model", values=["small", "large"])])
    )
    shop.lago.billable_metrics.update(metric, "things")
    shop.lago.subscriptions.create(SUBSCRIBED)
    subscriptions = shop.lago.subscriptions
    small = ChargeFilter(
        values={"model": ["small"]}, properties={"amount": "1"}, invoice_display_name="Small"
    )
    made = subscriptions.create_charge_filter("team", "things", small)
    echoes(made, small)
    [found] = listed(subscriptions.find_all_charge_filters("team", "things"), "filters")
    assert found == made == subscriptions.find_charge_filter("team", "things", made.lago_id)
    changed = subscriptions.update_charge_filter(
        "team", "things", made.lago_id, ChargeFilter(properties={"amount": "0.5"})
    )
    shows(changed, values=small.values, properties={"amount": "0.5"})
    shows(subscriptions.destroy_charge_filter("team", "things", changed.lago_id), values=small.values)
    assert listed(subscriptions.find_all_charge_filters("team", "things"), "filters") == []
    assert listed(shop.lago.plans.find_all_charge_filters("pro", "things"), "filters") == []
