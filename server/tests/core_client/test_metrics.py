"""Billable metrics through the published client."""

import pytest
from lago_python_client.models.billable_metric import (
    BillableMetric,
    BillableMetricEvaluateExpression,
    BillableMetricEvaluateExpressionEvent,
    BillableMetricFilter,
    BillableMetricFilters,
)

from core_client.shop import Shop, echoes, refused, shows

pytestmark = pytest.mark.database

METRICS = [
    BillableMetric(name="Calls", code="calls", aggregation_type="count_agg", description="Calls of the API"),
    BillableMetric(
        name="Seats", code="seats", aggregation_type="unique_count_agg", field_name="seat_id", recurring=True
    ),
    BillableMetric(
        name="Storage", code="storage", aggregation_type="weighted_sum_agg", field_name="gb",
        weighted_interval="seconds", recurring=True,
    ),
    BillableMetric(
        name="Tokens", code="tokens", aggregation_type="sum_agg", rounding_function="ceil", rounding_precision=2,
        expression="event.properties.input + event.properties.output", field_name="total",
        filters=BillableMetricFilters(__root__=[BillableMetricFilter(key="model", values=["small", "large"])]),
    ),
]  # fmt: skip


def test_billable_metrics(shop: Shop) -> None:
    metrics = shop.lago.billable_metrics
    made = [metrics.create(wanted) for wanted in METRICS]
    for answer, wanted in zip(made, METRICS, strict=True):
        echoes(answer, wanted)
        assert metrics.find(wanted.code) == answer
    found = metrics.find_all({"page": 1, "per_page": 100})["billable_metrics"]
    assert [one.code for one in found if one.code != "llm_tokens"] == ["tokens", "storage", "seats", "calls"]
    changed = metrics.update(BillableMetric(name="All calls", description="Every one"), "calls")
    shows(changed, lago_id=made[0].lago_id, name="All calls", aggregation_type="count_agg")
    shows(metrics.destroy("calls"), lago_id=made[0].lago_id)
    with refused(404, "billable_metric_not_found"):
        metrics.find("calls")


def test_lists_have_pages(shop: Shop) -> None:
    for wanted in METRICS:
        shop.lago.billable_metrics.create(wanted)
    second = shop.lago.billable_metrics.find_all({"page": 2, "per_page": 2})
    assert second["meta"] == {
        "current_page": 2,
        "next_page": 3,
        "prev_page": 1,
        "total_pages": 3,
        "total_count": 5,
    }
    assert len(second["billable_metrics"]) == 2


def test_an_expression_is_evaluated(shop: Shop) -> None:
    """The client, as published, forgets to send what it was given, so its own call is refused; the call that it means
    is answered as its model reads it."""
    event = BillableMetricEvaluateExpressionEvent(code="x", properties={"a": 2.5, "b": 4})
    wanted = BillableMetricEvaluateExpression(
        expression="event.properties.a * event.properties.b", event=event
    )
    with refused(400):
        shop.lago.billable_metrics.evaluate_expression(wanted)
    path = "/core/api/v1/billable_metrics/evaluate_expression"
    answer = shop.call("POST", path, wanted.dict())
    assert float(answer["expression_result"]["value"]) == 10
