"""The arithmetic of costs, by tables."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.costs.model import CostModel, CostTier, CostType, ModelRate, TierMode
from nozle_server.costs.unit_cost import (
    CostFacts,
    choose,
    cost_cents,
    marginal_cents,
    tiered_total_cents,
)

D = Decimal
NOTHING = UUID(int=0)
TIERS = (
    CostTier(up_to=D(10), unit_amount_cents=D(2), flat_amount_cents=D(0)),
    CostTier(up_to=D(100), unit_amount_cents=D(1), flat_amount_cents=D(5)),
    CostTier(up_to=None, unit_amount_cents=D("0.5"), flat_amount_cents=D(0)),
)


def a_cost_model(number: int = 1, **more: object) -> CostModel:
    """A per-unit one of 3 cents a unit, unless it says otherwise; a higher number is newer."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    plain = CostModel(
        org_id=NOTHING,
        id=UUID(int=number),
        name=str(number),
        metric_code="tokens",
        cost_type=CostType.PER_UNIT,
        model=None,
        amount_cents=D(3),
        model_rates={},
        tier_mode=None,
        tiers=(),
        created_at=at,
        updated_at=at,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def facts(quantity: str = "1", model: str | None = None, tokens: tuple[int, int] = (0, 0)) -> CostFacts:
    return CostFacts(D(quantity), model, D(tokens[0]), D(tokens[1]))


@pytest.mark.parametrize(
    ("quantity", "slab", "volume"),
    [
        ("0", "0", "0"),
        ("-5", "0", "0"),
        ("1", "2", "2"),
        ("10", "20", "20"),
        ("10.5", "25.5", "15.5"),  # the second tier's flat amount comes with its first part of a unit
        ("11", "26", "16"),
        ("100", "115", "105"),
        ("101", "115.5", "50.5"),
        ("1000", "565", "500"),
    ],
)
def test_what_a_month_costs_by_tiers(quantity: str, slab: str, volume: str) -> None:
    """SLAB: each tier prices its own slice; VOLUME: the last unit's tier prices them all. `up_to` is inclusive."""
    assert tiered_total_cents(TIERS, TierMode.SLAB, D(quantity)) == D(slab)
    assert tiered_total_cents(TIERS, TierMode.VOLUME, D(quantity)) == D(volume)


@pytest.mark.parametrize(
    ("used", "price"), [("0", "2"), ("9.9", "2"), ("10", "1"), ("100", "0.5"), ("1e9", "0.5")]
)
def test_what_the_next_unit_costs(used: str, price: str) -> None:
    assert marginal_cents(TIERS, D(used)) == D(price)


@given(
    st.lists(st.decimals("0.000001", "500", places=6), min_size=1, max_size=20),
    st.sampled_from(TierMode),
)
def test_the_costs_of_a_months_events_add_up_to_the_month(quantities: list[Decimal], mode: TierMode) -> None:
    """Each event pays what it adds to the month, so the sum is the month's price, to the last digit."""
    model = a_cost_model(cost_type=CostType.TIERED, tiers=TIERS, tier_mode=mode)
    places = [sum(quantities[:n], D(0)) for n in range(len(quantities) + 1)]
    costs = [cost_cents(model, facts(str(after - before)), before) for before, after in pairwise(places)]
    assert sum(costs, D(0)) == tiered_total_cents(TIERS, mode, places[-1])


def test_the_quantity_times_the_amount() -> None:
    """No digit is lost, however many there are."""
    model = a_cost_model(amount_cents=D("0.000000000001"))
    assert cost_cents(model, facts("123456789012345678.123456789012")) == D("123456.789012345678123456789012")


def test_the_documents_worked_example() -> None:
    """Contract 1.19: 500 input tokens at 250 and 200 output tokens at 1000 cents a million are 0.325 cents."""
    rates = {"gpt-4o": ModelRate(D(250), D(1000))}
    model = a_cost_model(cost_type=CostType.PER_MODEL, model_rates=rates)
    assert cost_cents(model, facts("700", "gpt-4o", (500, 200))) == D("0.325")


GENERAL, NEWER = a_cost_model(1), a_cost_model(4)
NAMED = a_cost_model(2, model="gpt-4o")
RATES = a_cost_model(3, cost_type=CostType.PER_MODEL, model_rates={"gpt-4o": ModelRate(D(1), D(1))})


@pytest.mark.parametrize(
    ("models", "event_model", "chosen"),
    [
        ([], None, None),
        ([GENERAL], None, GENERAL),
        ([GENERAL, NEWER], "gpt-4o", NEWER),
        ([NEWER, GENERAL], "gpt-4o", NEWER),
        ([NAMED, NEWER], "gpt-4o", NAMED),
        ([NAMED, NEWER], "other", NEWER),
        ([NAMED, NEWER], None, NEWER),
        ([NAMED], "other", None),
        ([NAMED, RATES, NEWER], "gpt-4o", RATES),
        ([RATES], "gpt-4", None),
        ([RATES], None, None),
        ([NAMED], "GPT-4o", None),
    ],
)
def test_which_cost_model_an_event_takes(
    models: list[CostModel], event_model: str | None, chosen: CostModel | None
) -> None:
    """The one that names the event's AI model, byte by byte, before a general one; among equals the newest."""
    assert choose(models, facts(model=event_model)) is chosen
