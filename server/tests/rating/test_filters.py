"""Which price an event gets."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Standard
from nozle_server.catalog.model import Aggregation, ChargeFilter, Metric, MetricFilter
from nozle_server.rating.filters import ALL_VALUES, best_match, conditions, group_of, in_order_of_match

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METRIC = Metric(
    org_id=uuid.UUID(int=1),
    id=uuid.UUID(int=2),
    code="m",
    name="m",
    description=None,
    aggregation=Aggregation.COUNT,
    field_name=None,
    expression=None,
    filters=(MetricFilter("region", ("eu", "us")), MetricFilter("size", ("1", "2"))),
    created_at=NOW,
    updated_at=NOW,
)


def a_filter(name: str, **values: tuple[str, ...]) -> ChargeFilter:
    return ChargeFilter(uuid.uuid4(), values, Standard(Decimal(1)), name)


FILTERS = (
    a_filter("any region", region=(ALL_VALUES,)),
    a_filter("both", region=("eu", "us")),
    a_filter("eu", region=("eu",)),
    a_filter("eu, small", region=("eu",), size=("1",)),
    a_filter("small", size=("1",)),
)


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({}, None),
        ({"region": "eu"}, "eu"),  # the fewest values
        ({"region": "us"}, "both"),
        ({"region": "asia"}, None),  # all values are those the metric declares
        ({"region": None}, None),
        ({"region": ["eu"]}, None),
        ({"size": 1}, "small"),  # numbers are compared as texts
        ({"size": Decimal("1.0")}, None),
        ({"region": "eu", "size": "1"}, "eu, small"),  # the most properties
        ({"region": "us", "size": "1"}, "small"),  # as many properties as "both", fewer values
    ],
)
def test_an_event_is_priced_by_the_filter_that_fits_it_best(
    properties: dict[str, object], name: str | None
) -> None:
    matched = best_match(FILTERS, properties, METRIC)
    assert (matched.invoice_display_name if matched else None) == name
    # The database asks in the same order, with the same conditions.
    first = next(
        (
            one.invoice_display_name
            for one in in_order_of_match(FILTERS)
            if all(str(properties.get(key)) in values for key, values in conditions(one, METRIC).items())
        ),
        None,
    )
    assert first == name


def test_equals_keep_the_plans_order() -> None:
    first, second = a_filter("first", region=("eu",)), a_filter("second", size=("1",))
    assert in_order_of_match([first, second]) == [first, second]
    assert in_order_of_match([second, first]) == [second, first]


def test_a_group_has_a_value_for_each_key() -> None:
    properties = {"region": "eu", "size": 5, "empty": "", "yes": True, "list": [1]}
    keys = ("region", "size", "empty", "yes", "list", "none")
    assert group_of(keys, properties) == {
        "region": "eu",
        "size": "5",
        "empty": None,
        "yes": "true",
        "list": None,
        "none": None,
    }
