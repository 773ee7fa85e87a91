"""How much one event counts for: a pure function of its metric and its properties."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from nozle_server.catalog.model import Aggregation, Metric
from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.expression import Expression, compile_expression
from nozle_server.core.numbers import parse_amount, to_plain
from nozle_server.core.text import MAX_ID_BYTES

_ROUNDINGS = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
_ROUNDING = Context(prec=200)


@dataclass(frozen=True, slots=True)
class Measured:
    """The quantity of one event. For a unique count the value that is told apart: quantity 1 adds it, 0 removes it."""

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
        return Measured(_operation(properties), _as_text(found))
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


def round_units(metric: Metric, units: Decimal) -> Decimal:
    """A period's quantity as its metric rounds it: half away from zero, up or down, to its number of decimals."""
    return rounded(units, metric.rounding_function, metric.rounding_precision)


def rounded(units: Decimal, function: str | None, precision: int | None) -> Decimal:
    """`units` by Lago's rounding function (None: as they are); a negative precision rounds to tens, hundreds, ..."""
    if function is None:
        return units
    step = Decimal(1).scaleb(-(precision or 0))
    # Back to an exponent of 0 at most, so that 14 rounded to tens is 10 and not 1E+1.
    result = units.quantize(step, rounding=_ROUNDINGS[function], context=_ROUNDING)
    return result if step <= 1 else result.quantize(Decimal(1), context=_ROUNDING)


def _operation(properties: Mapping[str, object]) -> Decimal:
    match properties.get("operation_type"):
        case None | "add":
            return Decimal(1)
        case "remove":
            return Decimal(0)
    raise RuleBroken(
        "operation_type must be add or remove",
        code="invalid_property",
        details={"properties": ["value_is_invalid"]},
    )


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
