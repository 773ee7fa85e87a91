"""Use cases that only look at costs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.rounding import divide
from nozle_server.costs import store
from nozle_server.costs.model import CostModel
from nozle_server.costs.operations import unknown_cost_model
from nozle_server.costs.unit_cost import CostFacts, choose
from nozle_server.infra.database import Tx

AVERAGED_OVER = timedelta(days=30)
AVERAGED_EVENTS = 10_000


async def get_cost_model(tx: Tx, *, org_id: UUID, cost_model_id: UUID) -> CostModel:
    """NotFound `cost_model_not_found`."""
    cost_model = await store.find(tx, org_id, cost_model_id)
    if cost_model is None:
        raise unknown_cost_model()
    return cost_model


async def average_cost_cents(
    tx: Tx, org_id: UUID, metric_id: UUID, model: str | None, now: datetime
) -> Decimal | None:
    """What a unit of a metric cost over the last 30 days, of one AI model or of all (None): cents, over at most the latest
    10,000 events; None when there were none."""
    cost, quantity = await store.recent_cost(
        tx, org_id, metric_id, model, since=now - AVERAGED_OVER, until=now, limit=AVERAGED_EVENTS
    )
    return divide(cost, quantity) if quantity > 0 else None


def cost_model_of_next_unit(models: Sequence[CostModel], model: str | None) -> CostModel | None:
    """Which of a metric's cost models says what one more unit costs; `model` is the AI model that it is for."""
    return choose(models, CostFacts(Decimal(1), model, Decimal(0), Decimal(0)))
