"""Which price an event gets: the charge filter it matches best, else the charge's own model."""

from collections.abc import Mapping, Sequence

from nozle_server.catalog.model import ChargeFilter


def in_order_of_match(filters: Sequence[ChargeFilter]) -> list[ChargeFilter]:
    """Filters so that the first one an event matches is the one that prices it: those that name more properties come
    first, equals in the plan's order."""
    return sorted(filters, key=lambda one: -len(one.values))


def best_match(filters: Sequence[ChargeFilter], properties: Mapping[str, object]) -> ChargeFilter | None:
    """The filter that prices an event with these properties; None when it matches none."""
    for one in in_order_of_match(filters):
        if all(properties.get(key) in values for key, values in one.values.items()):
            return one
    return None
