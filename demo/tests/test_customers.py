"""Forty customers; who makes a call hangs on the row number alone."""

from collections import Counter

from nozle_demo.customers import CUSTOMERS, MODELS, assign


def test_forty_customers_on_three_plans() -> None:
    assert Counter(customer.plan_code for customer in CUSTOMERS) == {"free": 16, "pro": 16, "scale": 8}
    assert len({customer.external_id for customer in CUSTOMERS}) == 40
    assert sum(customer.share for customer in CUSTOMERS) == 10_000
    assert sum(share for _, share in MODELS) == 100


def test_a_row_belongs_to_the_same_customer_for_ever() -> None:
    """Journals and stored events of earlier runs depend on it."""
    first = [(customer.external_id, model) for customer, model in map(assign, (1, 2, 3))]
    assert first == [
        ("atlas-marketplace", "gpt-4o-mini"),
        ("keystone-telecom", "gpt-4o"),
        ("meridian-realty", "gpt-4o"),
    ]


def test_every_customer_and_model_is_met() -> None:
    rows = [assign(row) for row in range(1, 3_001)]
    assert {customer for customer, _ in rows} == set(CUSTOMERS)
    assert {model for _, model in rows} == {model for model, _ in MODELS}
