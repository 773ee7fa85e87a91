"""Every endpoint of the API. A new route module adds its `ENDPOINTS` here; nothing else has to know of it."""

from nozle_server.api.endpoint import Endpoint
from nozle_server.api.routes import (
    add_ons,
    admin,
    billable_metrics,
    core_plans,
    cost_models,
    credits,
    customer_sessions,
    customers,
    docs,
    entitlements,
    events,
    features,
    health,
    invoices,
    margin,
    plans,
    subscriptions,
    taxes,
    test_clock,
)

# In the order of the reading view: the four questions first.
ENDPOINTS: tuple[Endpoint, ...] = (
    *entitlements.ENDPOINTS,
    *credits.ENDPOINTS,
    *events.ENDPOINTS,
    *customers.ENDPOINTS,
    *plans.ENDPOINTS,
    *subscriptions.ENDPOINTS,
    *invoices.ENDPOINTS,
    *cost_models.ENDPOINTS,
    *margin.ENDPOINTS,
    *billable_metrics.ENDPOINTS,
    *features.ENDPOINTS,
    *core_plans.ENDPOINTS,
    *add_ons.ENDPOINTS,
    *taxes.ENDPOINTS,
    *test_clock.ENDPOINTS,
    *customer_sessions.ENDPOINTS,
    *health.ENDPOINTS,
    *admin.ENDPOINTS,
    *docs.endpoints(lambda: ENDPOINTS),
)
