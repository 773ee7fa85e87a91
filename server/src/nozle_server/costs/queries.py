"""Use cases that only look at costs."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.rounding import divide
from nozle_server.costs import store, unit_cost
from nozle_server.costs.model import CostModel, CostType
from nozle_server.costs.operations import unknown_cost_model
from nozle_server.costs.unit_cost import CostFacts
from nozle_server.infra.database import Tx

AVERAGED_OVER = timedelta(days=30)
AVERAGED_EVENTS = 10_000
KEPT_S = 5.0
KEPT_EMPTY_S = 1.0
"""Shorter where nothing was used yet: the first event should soon be seen."""


class AverageCosts:
    """What a unit of a metric cost lately, by AI model: averages over many events, so a few seconds old is as good.

    Bounded, and emptied by `forget_all` (`/admin/reload`).
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: dict[tuple[UUID, UUID, str | None], tuple[float, Decimal]] = {}

    async def get(self, tx: Tx, org_id: UUID, metric_id: UUID, model: str | None, now: datetime) -> Decimal:
        """Cents a unit, over the last 30 days and at most the latest 10,000 events; 0 when there were none."""
        key = (org_id, metric_id, model)
        known = self._known.get(key)
        if known is not None and known[0] > self._monotonic():
            return known[1]
        cost, quantity = await store.recent_cost(
            tx, org_id, metric_id, model, since=now - AVERAGED_OVER, until=now, limit=AVERAGED_EVENTS
        )
        average = divide(cost, quantity) if quantity > 0 else Decimal(0)
        kept_s = KEPT_S if quantity > 0 else KEPT_EMPTY_S
        if len(self._known) >= AVERAGED_EVENTS:
            self._known.clear()
        self._known[key] = (self._monotonic() + kept_s, average)
        return average

    def forget_all(self) -> None:
        self._known.clear()


async def get_cost_model(tx: Tx, *, org_id: UUID, cost_model_id: UUID) -> CostModel:
    """NotFound `cost_model_not_found`."""
    cost_model = await store.find(tx, org_id, cost_model_id)
    if cost_model is None:
        raise unknown_cost_model()
    return cost_model


async def unit_cost_cents(
    tx: Tx,
    averages: AverageCosts,
    *,
    org_id: UUID,
    metric_id: UUID,
    cost_model_ids: Sequence[UUID],
    model: str | None,
    now: datetime,
) -> Decimal:
    """What one more unit of a metric, whose cost models these are, costs the merchant, in cents.

    By a per-unit cost model: its amount. By rates per AI model: the recent average of that AI model, since a unit is a
    mixture of input and output tokens (without a model: of all). By tiers: the price of the tier that
    the month's next unit falls in.
    """
    models = await store.get_many(tx, org_id, cost_model_ids)
    if not models:
        return Decimal(0)
    one = CostFacts(Decimal(1), model, Decimal(0), Decimal(0))
    chosen = unit_cost.choose(models, one)
    if chosen is None or chosen.cost_type is CostType.PER_MODEL:
        return await averages.get(tx, org_id, metric_id, model, now)
    if chosen.cost_type is CostType.PER_UNIT:
        assert chosen.amount_cents is not None
        return chosen.amount_cents
    used = await store.month_quantity(tx, org_id, chosen.id, now.date().replace(day=1))
    return unit_cost.marginal_cents(chosen.tiers, used)
