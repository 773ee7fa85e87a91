"""How far a price has been used: where in its tiers the next unit falls.

A charge with filters prices each filter's usage on its own, which the metric's counter cannot tell apart. So that
usage is read from the events, and kept for a few seconds (`economics.py`): it places an estimate, not a limit.
"""

from dataclasses import replace
from decimal import Decimal

from nozle_server.catalog import metric_store
from nozle_server.catalog.charge_models import Standard
from nozle_server.catalog.model import Charge, ChargeFilter
from nozle_server.infra.database import Tx
from nozle_server.infra.usage_store import UsageQuery, UsageStore, Window
from nozle_server.rating.filters import conditions, in_order_of_match, prices_paid_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription


async def price_position(
    tx: Tx,
    usage_store: UsageStore,
    *,
    subscription: Subscription,
    charge: Charge,
    matched: ChargeFilter | None,
    window: Window,
) -> Decimal:
    """Usage in `window` of the events that `matched` prices (None: the charge's own price)."""
    metric = await metric_store.get_metric_by_id(tx, subscription.org_id, charge.metric_id)
    filters = in_order_of_match(charge.filters)
    if metric.recurring:
        chains = await subscriptions_store.chains(tx, subscription.org_id, [subscription.id])
        window = replace(window, earlier=chains.get(subscription.id, ()))
    query = UsageQuery(
        metric_id=charge.metric_id,
        aggregation=metric.aggregation,
        windows=(window,),
        filters=tuple(conditions(one, metric) for one in filters),
        recurring=metric.recurring,
        unpaid=not prices_paid_usage(charge.filters),
    )
    index = filters.index(matched) if matched else None
    rows = await usage_store.usage(tx, subscription.org_id, query)
    return next((row.units for row in rows if row.filter_index == index), Decimal(0))


def depends_on_filters(charge: Charge) -> bool:
    """Whether the metric's whole usage does not say where the charge's next unit falls."""
    models = [charge.model, *(one.model for one in charge.filters)]
    return bool(charge.filters) and not all(isinstance(model, Standard) for model in models)
