"""Which price an event gets: the charge filter it matches best, else the charge's own model."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from nozle_server.catalog.model import ALL_VALUES, ChargeFilter, Metric
from nozle_server.metering.model import PAID_BY


def in_order_of_match(filters: Sequence[ChargeFilter]) -> list[ChargeFilter]:
    """Filters so that the first one an event matches is the one that prices it: those that name more properties come
    first, then those that take fewer values of them, equals in the plan's order."""
    return sorted(filters, key=lambda one: (-len(one.values), _takes_all(one), _breadth(one)))


def conditions(one: ChargeFilter, metric: Metric) -> dict[str, tuple[str, ...]]:
    """The values that a filter takes of each property, as texts; an event matches when it has one of each."""
    declared = {part.key: part.values for part in metric.filters}
    return {
        key: declared.get(key, ()) if ALL_VALUES in values else values for key, values in one.values.items()
    }


def best_match(
    filters: Sequence[ChargeFilter], properties: Mapping[str, object], metric: Metric | None = None
) -> ChargeFilter | None:
    """The filter that prices an event with these properties; None when it matches none. Without the `metric`, a filter
    on all values of a property matches any that is there."""
    for one in in_order_of_match(filters):
        wanted = conditions(one, metric) if metric else one.values
        if all(_matches(properties.get(key), values) for key, values in wanted.items()):
            return one
    return None


def prices_paid_usage(filters: Sequence[ChargeFilter]) -> bool:
    """Whether a charge says itself what usage costs that credits were taken for. Unless one of its filters is about who
    paid, such usage is none of its business: nothing is paid twice."""
    return any(PAID_BY in one.values for one in filters)


def group_of(keys: Sequence[str], properties: Mapping[str, object]) -> dict[str, str | None]:
    """The values of pricing group keys that an event has; an empty text is none, as in Lago."""
    return {key: as_text(properties.get(key)) or None for key in keys}


def as_text(value: object) -> str | None:
    """A property as filters and groups compare it; None for one that is not there, or is no single value."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
    return None


def _matches(value: object, values: Sequence[str]) -> bool:
    text = as_text(value)
    return text is not None and (text in values or ALL_VALUES in values)


def _takes_all(one: ChargeFilter) -> int:
    return sum(ALL_VALUES in values for values in one.values.values())


def _breadth(one: ChargeFilter) -> int:
    return sum(len(values) for values in one.values.values())
