"""The unit economics of `can()` stand where the invoice will price the next unit."""

import pytest

from world import World

pytestmark = pytest.mark.database

GRADUATED = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.20", "flat_amount": "0"},
    {"from_value": 101, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"},
]
FREE = [{"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}]


async def test_usage_that_a_filter_prices_does_not_move_the_others_tier(world: World) -> None:
    """500 units paid by credits leave the overage price in its first tier: 20 cents, as the invoice will charge."""
    post = world.post
    await post(
        "/core/api/v1/billable_metrics",
        {
            "billable_metric": {
                "code": "tokens",
                "name": "Tokens",
                "aggregation_type": "sum_agg",
                "field_name": "n",
                "filters": [{"key": "paid_by", "values": ["credits"]}],
            }
        },
    )
    await post(
        "/core/api/v1/plans",
        {
            "plan": {
                "code": "pro",
                "interval": "monthly",
                "amount_cents": 0,
                "amount_currency": "USD",
                "charges": [
                    {
                        "billable_metric_code": "tokens",
                        "charge_model": "graduated",
                        "properties": {"graduated_ranges": GRADUATED},
                        "filters": [
                            {"values": {"paid_by": ["credits"]}, "properties": {"graduated_ranges": FREE}}
                        ],
                    }
                ],
            }
        },
    )
    await post("/api/v1/customers", {"external_id": "acme"})
    await post("/api/v1/subscribe", {"customer_id": "acme", "plan_code": "pro"})
    await post(
        "/api/v1/events",
        {"customer_id": "acme", "metric_code": "tokens", "properties": {"n": 500, "paid_by": "credits"}},
    )
    answer = await world.get("/api/v1/can", customer_id="acme", feature="tokens")
    assert (answer["used"], answer["revenue_per_use_cents"]) == (500, 20)
    metadata = '{"paid_by": "credits"}'
    paid = await world.get("/api/v1/can", customer_id="acme", feature="tokens", metadata=metadata)
    assert paid["revenue_per_use_cents"] == 0
