"""Plans, their charges, filters and fixed charges, and metadata through the published client."""

import pytest
from lago_python_client.models.add_on import AddOn
from lago_python_client.models.billable_metric import (
    BillableMetric,
    BillableMetricFilter,
    BillableMetricFilters,
)
from lago_python_client.models.charge import Charge, ChargeFilter, ChargeFilters, Charges
from lago_python_client.models.fixed_charge import (
    FixedCharge,
    FixedChargeGraduatedRange,
    FixedChargeProperties,
    FixedCharges,
)
from lago_python_client.models.minimum_commitment import MinimumCommitment
from lago_python_client.models.plan import Plan, PlanResponse
from lago_python_client.models.tax import Tax
from lago_python_client.models.usage_threshold import UsageThreshold, UsageThresholds

from core_client.shop import Shop, children, echoes, listed, refused, shows

pytestmark = pytest.mark.database

# Every charge model, with properties as Lago's documentation writes them.
CHARGE_MODELS = [
    ("standard", {"amount": "0.0001"}),
    (
        "graduated",
        {
            "graduated_ranges": [
                {"from_value": 0, "to_value": 10, "flat_amount": "1", "per_unit_amount": "0.5"},
                {"from_value": 11, "to_value": None, "flat_amount": "0", "per_unit_amount": "0.4"},
            ]
        },
    ),
    (
        "graduated_percentage",
        {
            "graduated_percentage_ranges": [
                {"from_value": 0, "to_value": 10, "flat_amount": "200", "rate": "1"},
                {"from_value": 11, "to_value": None, "flat_amount": "300", "rate": "2"},
            ]
        },
    ),
    ("package", {"amount": "30", "free_units": 10, "package_size": 10}),
    (
        "percentage",
        {
            "rate": "1.2",
            "fixed_amount": "0.5",
            "free_units_per_events": 5,
            "free_units_per_total_aggregation": "500",
            "per_transaction_max_amount": "3.75",
            "per_transaction_min_amount": "0.75",
        },
    ),
    (
        "volume",
        {
            "volume_ranges": [
                {"from_value": 0, "to_value": 100, "flat_amount": "10", "per_unit_amount": "0"},
                {"from_value": 101, "to_value": None, "flat_amount": "0", "per_unit_amount": "0.5"},
            ]
        },
    ),
    ("dynamic", {}),
]
SMALL = ChargeFilter(values={"model": ["small"]}, properties={"amount": "0.5"}, invoice_display_name="Small")


@pytest.fixture
def metric(shop: Shop) -> str:
    """The id of a metric with a filter, beside a tax and an add-on."""
    shop.lago.taxes.create(Tax(name="VAT", code="vat", rate=20.0))
    shop.lago.add_ons.create(AddOn(name="Seat", code="seat", amount_cents=1000, amount_currency="USD"))
    filters = BillableMetricFilters(__root__=[BillableMetricFilter(key="model", values=["small", "large"])])
    tokens = BillableMetric(
        name="Tokens", code="tokens", aggregation_type="sum_agg", field_name="n", filters=filters
    )
    return str(shop.lago.billable_metrics.create(tokens).lago_id)


def a_plan(metric: str, **more: object) -> Plan:
    charge = Charge(
        billable_metric_id=metric,
        code="tokens",
        charge_model="standard",
        invoice_display_name="All tokens",
        min_amount_cents=500,
        properties={"amount": "1"},
        filters=ChargeFilters(__root__=[SMALL]),
        tax_codes=["vat"],
    )
    seats = FixedCharge(
        add_on_code="seat",
        code="seats",
        charge_model="standard",
        invoice_display_name="Seats",
        units=5,
        properties=FixedChargeProperties(amount="10"),
    )
    wanted = {
        "name": "Pro",
        "invoice_display_name": "Professional",
        "code": "pro",
        "interval": "yearly",
        "description": "For professionals",
        "amount_cents": 4900,
        "amount_currency": "USD",
        "trial_period": 14.0,
        "pay_in_advance": True,
        "bill_charges_monthly": True,
        "bill_fixed_charges_monthly": True,
        "charges": Charges(__root__=[charge]),
        "fixed_charges": FixedCharges(__root__=[seats]),
        "minimum_commitment": MinimumCommitment(
            amount_cents=10_000, invoice_display_name="At least", tax_codes=["vat"]
        ),
        "usage_thresholds": UsageThresholds(
            __root__=[
                UsageThreshold(amount_cents=5000, threshold_display_name="First"),
                UsageThreshold(amount_cents=10_000, recurring=True),
            ]
        ),
        "tax_codes": ["vat"],
        "metadata": {"team": "growth", "note": None},
    }
    return Plan(**{**wanted, **more})


PARTS = ("charges", "fixed_charges", "minimum_commitment", "usage_thresholds")


def the_parts(made: PlanResponse, wanted: Plan) -> None:
    """The parts of the plan are as they were sent."""
    echoes(made, wanted, but=PARTS)
    [charge], [seats] = made.charges.__root__, made.fixed_charges.__root__
    echoes(charge, wanted.charges.__root__[0], but=("filters",))
    shows(charge, billable_metric_code="tokens", pay_in_advance=False, invoiceable=True, prorated=False)
    [kept] = charge.filters.__root__
    shows(kept, values=SMALL.values, properties=SMALL.properties, invoice_display_name="Small")
    assert [tax.code for tax in charge.taxes.__root__] == ["vat"]
    echoes(seats, wanted.fixed_charges.__root__[0], but=("properties",))
    shows(seats.properties, amount="10")
    shows(made.minimum_commitment, amount_cents=10_000, invoice_display_name="At least", interval="yearly")
    assert [tax.code for tax in made.minimum_commitment.taxes.__root__] == ["vat"]
    first, second = made.usage_thresholds.__root__
    shows(first, amount_cents=5000, threshold_display_name="First", recurring=False)
    shows(second, amount_cents=10_000, recurring=True)
    assert [tax.code for tax in made.taxes.__root__] == ["vat"]


def test_plans(shop: Shop, metric: str) -> None:
    plans, wanted = shop.lago.plans, a_plan(metric)
    made = plans.create(wanted)
    the_parts(made, wanted)
    assert plans.find("pro") == made
    assert listed(plans.find_all(), "plans") == [made]
    changed = plans.update(Plan(name="Pro II", amount_cents=5900, cascade_updates=False), "pro")
    shows(changed, name="Pro II", amount_cents=5900, interval="yearly", lago_id=made.lago_id)
    assert len(changed.charges.__root__) == 1
    shows(plans.destroy("pro"), code="pro", lago_id=made.lago_id)
    with refused(404, "plan_not_found"):
        plans.find("pro")


@pytest.mark.parametrize(("model", "properties"), CHARGE_MODELS, ids=[model for model, _ in CHARGE_MODELS])
def test_every_charge_model(shop: Shop, metric: str, model: str, properties: dict[str, object]) -> None:
    charge = Charge(billable_metric_id=metric, charge_model=model, properties=properties)
    wanted = a_plan(metric, charges=Charges(__root__=[charge]), code="other")
    [shown] = shop.lago.plans.create(wanted).charges.__root__
    shows(shown, charge_model=model)
    assert {name: shown.properties[name] for name in properties} == properties


def test_charges_of_a_plan(shop: Shop, metric: str) -> None:
    shop.lago.plans.create(a_plan(metric))
    charges = shop.lago.plan_charges
    wanted = Charge(
        billable_metric_id=metric,
        code="in_advance",
        charge_model="standard",
        pay_in_advance=True,
        invoiceable=True,
        properties={"amount": "2"},
    )
    made = charges.create("pro", wanted)
    echoes(made, wanted)
    assert charges.find("pro", "in_advance") == made
    found = children(shop, charges, "pro")
    assert {one.code for one in found} == {"tokens", "in_advance"}
    change = Charge(charge_model="standard", invoice_display_name="Now", properties={"amount": "3"})
    changed = charges.update("pro", "in_advance", change)
    echoes(changed, change)
    shows(changed, code="in_advance", pay_in_advance=True)
    shows(charges.destroy("pro", "in_advance"), code="in_advance")
    with refused(404, "charge_not_found"):
        charges.find("pro", "in_advance")


def test_filters_of_a_charge(shop: Shop, metric: str) -> None:
    plans = shop.lago.plans
    plans.create(a_plan(metric))
    large = ChargeFilter(
        values={"model": ["large"]}, properties={"amount": "9"}, invoice_display_name="Large"
    )
    made = plans.create_charge_filter("pro", "tokens", large)
    echoes(made, large)
    filter_id = made.lago_id
    assert plans.find_charge_filter("pro", "tokens", filter_id) == made
    found = listed(plans.find_all_charge_filters("pro", "tokens", {"page": 1}), "filters")
    assert [one.values for one in found] == [SMALL.values, large.values]
    changed = plans.update_charge_filter(
        "pro", "tokens", filter_id, ChargeFilter(properties={"amount": "8"}, cascade_updates=False)
    )
    shows(changed, values=large.values, properties={"amount": "8"})
    removed = plans.destroy_charge_filter("pro", "tokens", changed.lago_id)
    shows(removed, values=large.values)
    with refused(404, "charge_filter_not_found"):
        plans.find_charge_filter("pro", "tokens", filter_id)


def test_fixed_charges_of_a_plan(shop: Shop, metric: str) -> None:
    shop.lago.plans.create(a_plan(metric))
    fixed = shop.lago.plan_fixed_charges
    ranges = [
        FixedChargeGraduatedRange(from_value=0, to_value=10, flat_amount="1", per_unit_amount="2"),
        FixedChargeGraduatedRange(from_value=11, to_value=None, flat_amount="0", per_unit_amount="1"),
    ]
    wanted = FixedCharge(
        add_on_code="seat",
        code="steps",
        charge_model="graduated",
        invoice_display_name="Steps",
        units=7.5,
        pay_in_advance=False,
        prorated=False,
        properties=FixedChargeProperties(graduated_ranges=ranges),
        tax_codes=["vat"],
    )
    made = fixed.create("pro", wanted)
    echoes(made, wanted, but=("properties",))
    assert made.properties.graduated_ranges == ranges
    assert fixed.find("pro", "steps") == made
    assert {one.code for one in children(shop, fixed, "pro")} == {"seats", "steps"}
    change = FixedCharge(
        charge_model="volume", units=8, properties=FixedChargeProperties(volume_ranges=ranges)
    )
    changed = fixed.update("pro", "steps", change)
    shows(changed, units=8, code="steps", charge_model="volume")
    shows(fixed.destroy("pro", "steps"), code="steps")
    with refused(404, "fixed_charge_not_found"):
        fixed.find("pro", "steps")


def test_a_fixed_charge_without_a_name_of_its_own_can_be_read(shop: Shop, metric: str) -> None:
    """The client's model wants a text there."""
    shop.lago.plans.create(a_plan(metric))
    made = shop.lago.plan_fixed_charges.create(
        "pro", FixedCharge(add_on_code="seat", charge_model="standard")
    )
    assert isinstance(made.invoice_display_name, str)


def test_metadata_of_a_plan(shop: Shop, metric: str) -> None:
    plans = shop.lago.plans
    plans.create(a_plan(metric))
    assert plans.merge_metadata("pro", {"team": "sales", "more": "1"}) == {
        "team": "sales",
        "note": None,
        "more": "1",
    }
    assert plans.delete_metadata_key("pro", "note") == {"team": "sales", "more": "1"}
    assert plans.replace_metadata("pro", {"only": "this"}) == {"only": "this"}
    assert not plans.delete_all_metadata("pro")
    assert not plans.find("pro").metadata
