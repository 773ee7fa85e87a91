"""How much one event counts for: a pure function of its metric and its properties."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from nozle_server.catalog.model import Aggregation, Metric
from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.expression import Expression, compile_expression
from nozle_server.core.numbers import parse_amount, to_plain
from nozle_server.core.text import MAX_ID_BYTES


@dataclass(frozen=True, slots=True)
class Measured:
    """The quantity of one event; for a unique count, the value that is told apart."""

    quantity: Decimal
    unique_value: str | None = None


def measure(
    metric: Metric, properties: Mapping[str, object], *, value: Decimal | None, occurred_at: datetime
) -> Measured:
    """What an event adds to its metric. `value` is the direct form's quantity, used where the property is absent.

    RuleBroken when the property the metric needs is missing or not a number: counting it as 0 would lose usage in
    silence.
    """
    if metric.aggregation is Aggregation.COUNT:
        return Measured(Decimal(1) if value is None else value)
    found = _find(metric, properties, value, occurred_at)
    if found is None:
        raise RuleBroken(
            f"property {metric.field_name} is required by billable metric {metric.code}",
            code="missing_property",
            details={"properties": ["value_is_mandatory"]},
        )
    if metric.aggregation is Aggregation.UNIQUE_COUNT:
        if properties.get("operation_type", "add") != "add":
            raise RuleBroken("operation_type remove is not supported yet", code="not_supported")
        return Measured(Decimal(1), _as_text(found))
    if metric.expression and isinstance(found, Decimal) and found is not value:
        return Measured(
            found
        )  # our own arithmetic, bounded and exact to 24 places; not an amount that somebody sent
    try:
        return Measured(parse_amount(found, "properties"))
    except InvalidInput:
        raise RuleBroken(
            f"property {metric.field_name} of billable metric {metric.code} must be a number",
            code="invalid_property",
            details={"properties": ["value_is_invalid"]},
        ) from None


def _find(
    metric: Metric, properties: Mapping[str, object], value: Decimal | None, occurred_at: datetime
) -> object | None:
    if metric.expression:
        needed = _compiled(metric.expression)
        if value is not None and not needed.properties & properties.keys():
            return value
        return needed.evaluate(properties, code=metric.code, timestamp=occurred_at)
    found = properties.get(metric.field_name or "")
    return value if found is None else found


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Expression:
    return compile_expression(expression)


def _as_text(value: object) -> str:
    """One spelling a value: 1, 1.0 and "1" are the same thing to a unique count, as JSON clients write them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return to_plain(Decimal(value))
    if isinstance(value, str):
        # Told apart by an index, whose keys are short.
        raw = value.encode()
        return value if len(raw) <= MAX_ID_BYTES else f"sha256:{hashlib.sha256(raw).hexdigest()}"
    raise RuleBroken(
        "a unique count needs a text, number or boolean",
        code="invalid_property",
        details={"properties": ["value_is_invalid"]},
    )
