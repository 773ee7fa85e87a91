"""Try an expression on an event that is not stored, as Lago's `evaluate_expression` does.

https://getlago.com/docs/api-reference/billable-metrics/evaluate-expression
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.expression import ExpressionError, compile_expression
from nozle_server.core.numbers import to_plain
from nozle_server.metering.timestamps import parse_timestamp


def try_expression(text: str | None, event: Mapping[str, object], *, now: datetime) -> str:
    """The value of an expression for an event of `code`, `timestamp` (None: `now`) and `properties`, as text: a number
    without exponent, or the text that it makes. InvalidInput for the expression, RuleBroken for an event that it has no
    value for."""
    if text is None or not text.strip():
        raise InvalidInput("expression is required", details={"expression": ["value_is_mandatory"]})
    expression = compile_expression(text)
    code, sent, properties = event.get("code"), event.get("timestamp"), event.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise _invalid_event("properties must be an object")
    try:
        value = expression.evaluate(
            properties,
            code=code if isinstance(code, str) else "",
            timestamp=now if sent is None else parse_timestamp(sent),
        )
    except (ExpressionError, InvalidInput) as error:
        raise _invalid_event(error.message) from None
    return to_plain(value) if isinstance(value, Decimal) else value


def _invalid_event(message: str) -> RuleBroken:
    return RuleBroken(message, details={"event": ["invalid_event"]})
