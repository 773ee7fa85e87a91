from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nozle_server.catalog.charge_models import (
    Dynamic,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentageRange,
    PriceRange,
    Standard,
    Volume,
    charge_model_name,
    parse_charge_model,
    to_properties,
)
from nozle_server.core.errors import InvalidInput

TIERS = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "0.5", "flat_amount": "10"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "0.4", "flat_amount": "0"},
]
RANGES = (
    PriceRange(0, 10, Decimal(10), Decimal("0.5")),
    PriceRange(11, None, Decimal(0), Decimal("0.4")),
)


@pytest.mark.parametrize(
    ("name", "properties", "model"),
    [
        ("standard", {"amount": "0.000000000001"}, Standard(Decimal("0.000000000001"))),
        ("standard", {"amount": Decimal("0.12"), "package_size": "ignored"}, Standard(Decimal("0.12"))),
        ("graduated", {"graduated_ranges": TIERS}, Graduated(RANGES)),
        ("volume", {"volume_ranges": TIERS}, Volume(RANGES)),
        (
            "graduated_percentage",
            {
                "graduated_percentage_ranges": [
                    {"from_value": 0, "to_value": 10, "rate": "1.5", "flat_amount": "10"},
                    {"from_value": 11, "to_value": None, "rate": "0"},
                ]
            },
            GraduatedPercentage(
                (
                    PercentageRange(0, 10, Decimal(10), Decimal("1.5")),
                    PercentageRange(11, None, Decimal(0), Decimal(0)),
                )
            ),
        ),
        ("dynamic", {"amount": "ignored"}, Dynamic()),
        (
            "package",
            {"amount": "30", "free_units": 100, "package_size": 1000},
            Package(Decimal(30), package_size=1000, free_units=100),
        ),
        (
            "package",
            {"amount": 30, "package_size": Decimal("10.0")},
            Package(Decimal(30), package_size=10),
        ),
        ("percentage", {"rate": "1.2"}, Percentage(Decimal("1.2"))),
        (
            "percentage",
            {
                "rate": "1",
                "fixed_amount": "0.5",
                "free_units_per_events": 5,
                "free_units_per_total_aggregation": "500",
                "per_transaction_min_amount": "1.75",
                "per_transaction_max_amount": "3.75",
            },
            Percentage(Decimal(1), Decimal("0.5"), 5, Decimal(500), Decimal("1.75"), Decimal("3.75")),
        ),
        (
            "percentage",
            {"rate": "1", "free_units_per_events": None, "per_transaction_max_amount": None},
            Percentage(Decimal(1)),
        ),
    ],
)
def test_lagos_properties_are_read_and_written_back(name, properties, model):
    parsed = parse_charge_model(name, properties)
    assert parsed == model
    assert charge_model_name(parsed) == name
    assert parse_charge_model(name, to_properties(parsed)) == parsed


def test_amounts_are_written_as_plain_strings():
    properties = {"amount": Decimal("1E+3"), "package_size": 7, "free_units": 0}
    assert to_properties(parse_charge_model("package", properties)) == {
        "amount": "1000",
        "package_size": 7,
        "free_units": 0,
    }
    assert to_properties(Graduated(RANGES)) == {"graduated_ranges": TIERS}


def tiers(*bounds, **changes):
    return [
        {"from_value": start, "to_value": end, "per_unit_amount": "1", "flat_amount": "0"} | changes
        for start, end in bounds
    ]


@pytest.mark.parametrize(
    ("name", "properties", "codes"),
    [
        ("standard", {}, ["invalid_amount"]),
        ("standard", {"amount": "-1"}, ["invalid_amount"]),
        ("standard", {"amount": True}, ["invalid_amount"]),
        ("standard", {"amount": "0.0000000000001"}, ["invalid_amount"]),
        ("standard", {"amount": Decimal("NaN")}, ["invalid_amount"]),
        ("graduated", {}, ["missing_graduated_ranges"]),
        ("graduated", {"graduated_ranges": []}, ["missing_graduated_ranges"]),
        ("graduated", {"graduated_ranges": "0-10"}, ["invalid_graduated_ranges"]),
        ("graduated", {"graduated_ranges": [1]}, ["invalid_graduated_ranges"]),
        ("volume", {"graduated_ranges": TIERS}, ["missing_volume_ranges"]),
        ("package", {"amount": "1", "package_size": 0}, ["invalid_package_size"]),
        ("package", {"amount": "1", "package_size": "10"}, ["invalid_package_size"]),
        ("package", {"amount": "1", "package_size": Decimal("1.5")}, ["invalid_package_size"]),
        ("package", {"package_size": 1, "free_units": -1}, ["invalid_amount", "invalid_free_units"]),
        ("percentage", {}, ["invalid_rate"]),
        ("percentage", {"rate": "1", "fixed_amount": "x"}, ["invalid_fixed_amount"]),
        ("percentage", {"rate": "1", "free_units_per_events": 0}, ["invalid_free_units_per_events"]),
        (
            "percentage",
            {"rate": "1", "free_units_per_total_aggregation": "-1"},
            ["invalid_free_units_per_total_aggregation"],
        ),
        ("percentage", {"rate": "1", "per_transaction_min_amount": ""}, ["invalid_amount"]),
        (
            "percentage",
            {"rate": "1", "per_transaction_min_amount": "2", "per_transaction_max_amount": "1"},
            ["per_transaction_max_lower_than_per_transaction_min"],
        ),
    ],
)
def test_what_is_wrong_is_told_in_lagos_codes(name, properties, codes):
    with pytest.raises(InvalidInput) as refused:
        parse_charge_model(name, properties, field="charges.0.properties")
    assert refused.value.details == {"charges.0.properties": codes}


@pytest.mark.parametrize(
    "ranges",
    [
        tiers((1, None)),
        tiers((0, 10)),
        tiers((0, 0), (1, None)),
        tiers((0, 10), (10, None)),
        tiers((0, 10), (12, None)),
        tiers((0, 10), (11, 9), (10, None)),
        tiers((0, None), (1, None)),
        tiers((0, 10), (11, 20)),
        tiers((0, Decimal("0.5")), (1, None)),
        tiers(("0", None)),
        tiers((None, None)),
        tiers((True, None)),
    ],
)
@pytest.mark.parametrize("name", ["graduated", "volume"])
def test_ranges_are_contiguous_from_0_and_the_last_is_open(name, ranges):
    with pytest.raises(InvalidInput) as refused:
        parse_charge_model(name, {f"{name}_ranges": ranges})
    assert refused.value.details == {"properties": [f"invalid_{name}_ranges"]}


def test_each_code_is_told_once():
    ranges = tiers((0, 10), (12, None), per_unit_amount="x")
    with pytest.raises(InvalidInput) as refused:
        parse_charge_model("graduated", {"graduated_ranges": ranges})
    assert refused.value.details == {"properties": ["invalid_amount", "invalid_graduated_ranges"]}


def test_a_tier_without_a_flat_amount_has_none():
    (only,) = tiers((0, None))
    del only["flat_amount"]
    assert parse_charge_model("volume", {"volume_ranges": [only]}) == Volume(
        (PriceRange(0, None, Decimal(0), Decimal(1)),)
    )


@pytest.mark.parametrize(
    ("ranges", "code"),
    [
        (None, "missing_graduated_percentage_ranges"),
        ([{"from_value": 0, "to_value": None, "rate": "-1"}], "invalid_rate"),
        ([{"from_value": 0, "to_value": None}], "invalid_rate"),
        ([{"from_value": 0, "to_value": None, "rate": "1", "flat_amount": "x"}], "invalid_amount"),
        ([{"from_value": 0, "to_value": 5, "rate": "1"}], "invalid_graduated_percentage_ranges"),
        ([{"from_value": 1, "to_value": None, "rate": "1"}], "invalid_graduated_percentage_ranges"),
    ],
)
def test_graduated_percentages_are_refused_in_lagos_words(ranges, code):
    with pytest.raises(InvalidInput) as refused:
        parse_charge_model("graduated_percentage", {"graduated_percentage_ranges": ranges})
    assert refused.value.details == {"properties": [code]}


@pytest.mark.parametrize("name", ["", "Standard", "graduatedpercentage", "custom"])
def test_other_charge_models_are_not_known(name):
    with pytest.raises(InvalidInput) as refused:
        parse_charge_model(name, {"amount": "1"})
    assert refused.value.details == {"charge_model": ["value_is_invalid"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from_value", "to_value", "per_unit_amount", "flat_amount"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(
        ["standard", "graduated", "volume", "package", "percentage", "graduated_percentage", "dynamic"]
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "amount",
                "graduated_ranges",
                "volume_ranges",
                "graduated_percentage_ranges",
                "package_size",
                "free_units",
                "rate",
            ]
        ),
        json_values,
    ),
)
def test_any_properties_are_a_charge_model_or_an_invalid_input(name, properties):
    try:
        model = parse_charge_model(name, properties)
    except InvalidInput:
        return
    assert parse_charge_model(name, to_properties(model)) == model
