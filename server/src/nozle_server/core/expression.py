"""Expressions that compute a billable metric's quantity from one event, such as
`event.properties.input_tokens + event.properties.output_tokens`.

Syntax: `expression_syntax.py`. Arithmetic is decimal: 120 significant digits, quotients kept to 24 decimal
places. A text that is a plain decimal number counts as that number where a number is needed, and stays as
it was sent where it is not: "007" in `concat`. Nothing of an event but its properties, code and timestamp
can be reached.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import assert_never

from nozle_server.core.errors import RuleBroken
from nozle_server.core.expression_syntax import (
    Call,
    Chain,
    EventCode,
    EventProperty,
    EventTimestamp,
    Literal,
    Negation,
    Node,
    parse,
)
from nozle_server.core.numbers import INTEGER_DIGITS, to_plain
from nozle_server.core.rounding import QUOTIENT_PLACES, divide, round_half_away

Value = Decimal | str

_ARITHMETIC = Context(prec=120, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])
_LIMIT = Decimal(10) ** INTEGER_DIGITS
# Properties may be larger than results (nanoseconds since 1970 have 19 digits), but not a burden.
_MAX_PROPERTY_DIGITS = 60
_MAX_TEXT_LENGTH = 4_096
_NUMERIC_TEXT = re.compile(r"[+-]?[0-9]{1,60}(?:\.[0-9]{1,60})?")

_ROUNDINGS = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ExpressionError(RuleBroken):
    """The expression has no value for this event: a property is missing or no number, a division by zero,
    a result too large."""

    default_code = "expression_evaluation_failed"


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: its text, and the names of the event properties it reads."""

    text: str
    properties: frozenset[str]
    _root: Node

    def evaluate(self, properties: Mapping[str, object], *, code: str, timestamp: datetime) -> Value:
        """The value for one event: a number of at most 18 integer and 24 fractional digits, or a text.

        Properties that are read are int, Decimal or str. `event.timestamp` is in whole seconds since 1970, as
        in Lago. Raises ExpressionError.
        """
        event = _Event(properties, code, timestamp)
        try:
            with localcontext(_ARITHMETIC):
                return _result(event.value_of(self._root))
        except ZeroDivisionError:
            raise ExpressionError("The expression divides by zero for this event.") from None
        except DecimalException:
            raise _too_large() from None


def compile_expression(text: str) -> Expression:
    """Read an expression; InvalidInput `{"expression": ["invalid_expression"]}` that tells the position."""
    root = parse(text)
    return Expression(text, frozenset(_property_names([root])), root)


@dataclass(frozen=True, slots=True)
class _Event:
    """What an expression may read, and the walk over its tree."""

    properties: Mapping[str, object]
    code: str
    timestamp: datetime

    def value_of(self, node: Node) -> Value:
        match node:
            case Literal(value):
                return value
            case EventCode():
                return self.code
            case EventTimestamp():
                return Decimal((self.timestamp - _EPOCH) // timedelta(seconds=1))
            case EventProperty(name):
                return self._property(name)
            case Negation(operand):
                return -self._number(operand)
            case Chain(first, rest):
                total = self._number(first)
                for operator, operand in rest:
                    total = _apply(operator, total, self._number(operand))
                return total
            case Call(function, arguments):
                return self._call(function, arguments)
        assert_never(node)

    def _call(self, function: str, arguments: tuple[Node, ...]) -> Value:
        match function:
            case "concat":
                return _concat(self.value_of(argument) for argument in arguments)
            case "least":
                return min(self._number(argument) for argument in arguments)
            case "greatest":
                return max(self._number(argument) for argument in arguments)
        places = self._number(arguments[1]) if len(arguments) > 1 else Decimal(0)
        return _round(self._number(arguments[0]), places, _ROUNDINGS[function])

    def _number(self, node: Node) -> Decimal:
        value = self.value_of(node)
        if isinstance(value, Decimal):
            return value
        if not _NUMERIC_TEXT.fullmatch(value):
            what = f"property {node.name}" if isinstance(node, EventProperty) else "text"
            raise ExpressionError(f"The expression needs a number, but the event's {what} is none.")
        return Decimal(value)

    def _property(self, name: str) -> Value:
        value = self.properties.get(name)
        if value is None:
            raise ExpressionError(f"The event has no property {name}.")
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ExpressionError(f"The event's property {name} is neither a number nor a text.")
        number = Decimal(value)
        if not number.is_finite() or number.adjusted() >= _MAX_PROPERTY_DIGITS:
            raise ExpressionError(f"The event's property {name} is too large.")
        return number


def _apply(operator: str, a: Decimal, b: Decimal) -> Decimal:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
    return divide(a, b)


def _round(value: Decimal, places: Decimal, rounding: str) -> Decimal:
    if places != int(places) or not -INTEGER_DIGITS <= places <= QUOTIENT_PLACES:
        raise ExpressionError(
            f"The expression rounds to a number of places that is not between -{INTEGER_DIGITS}"
            f" and {QUOTIENT_PLACES}."
        )
    # Back to an exponent of 0, so that 14 rounded to tens is 10 and not 1E+1.
    rounded = value.quantize(Decimal(1).scaleb(-int(places)), rounding=rounding)
    return rounded if places >= 0 else rounded.quantize(Decimal(1))


def _concat(values: Iterable[Value]) -> str:
    text = "".join(value if isinstance(value, str) else to_plain(value) for value in values)
    if len(text) > _MAX_TEXT_LENGTH:
        raise ExpressionError(f"The expression makes a text of more than {_MAX_TEXT_LENGTH} characters.")
    return text


def _result(value: Value) -> Value:
    if isinstance(value, str):
        return value
    if value.copy_abs() >= _LIMIT:
        raise _too_large()
    places = value.as_tuple().exponent
    assert isinstance(places, int), "only finite numbers are computed with"
    rounded = value if places >= -QUOTIENT_PLACES else round_half_away(value, QUOTIENT_PLACES)
    return rounded or Decimal(0)  # never minus zero


def _too_large() -> ExpressionError:
    return ExpressionError(f"The expression's result has more than {INTEGER_DIGITS} integer digits.")


def _property_names(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        match node:
            case EventProperty(name):
                yield name
            case Negation(operand):
                yield from _property_names([operand])
            case Chain(first, rest):
                yield from _property_names([first, *(operand for _, operand in rest)])
            case Call(_, arguments):
                yield from _property_names(arguments)
