"""Expressions over an event: what they compute, and that nothing hostile gets through."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.errors import InvalidInput
from nozle_server.core.expression import ExpressionError, compile_expression
from nozle_server.core.expression_syntax import MAX_LENGTH, MAX_NESTING

PROPERTIES = {
    "input_tokens": 374,
    "output_tokens": Decimal("44"),
    "ratio": "0.5",
    "model": "gpt-4o",
    "user_id": "007",
    "zero": 0,
    "huge": 10**30,
    "nanoseconds": 1_700_000_000_123_456_789,
    "fine": Decimal("0.12345678901234567890123456789"),
    "flag": True,
    "nothing": None,
    "list": [1],
    "nan": Decimal("NaN"),
    "enormous": Decimal("1E+999999"),
    "million_digits": "9" * 1_000_000,
    "arabic": "٣",
    "long_text": "x" * 4_000,
    "_private": 1,
}


def evaluate(text, properties=PROPERTIES):
    timestamp = datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    return compile_expression(text).evaluate(properties, code="llm_tokens", timestamp=timestamp)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.properties.input_tokens + event.properties.output_tokens", 418),
        ("event.properties.input_tokens * event.properties.ratio", 187),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 - 2 - 1", 4),
        ("16 / 4 / 2", 2),
        ("2 * -3", -6),
        ("-(2 + 3)", -5),
        ("1 - -1", 2),
        ("0.1 + 0.2", Decimal("0.3")),
        ("2 / 3", Decimal("0.666666666666666666666667")),
        ("  1\n +\t1 ", 2),
        ("event.properties.nanoseconds / 1000000000", Decimal("1700000000.123456789")),
        ("event.properties.fine", Decimal("0.123456789012345678901235")),
        ("event.timestamp", 1_767_225_600),
        ("event.properties._private", 1),
        ("-event.properties.zero", 0),
        ("event.properties.huge / event.properties.huge", 1),
        # Lago's own examples, https://getlago.com/docs/guide/billable-metrics/sql-expressions
        ("ROUND(14.2355)", 14),
        ("ROUND(14.2355, 0)", 14),
        ("ROUND(14.2355, 2)", Decimal("14.24")),
        ("ROUND(14.2355, -1)", 10),
        ("FLOOR(16.2365)", 16),
        ("FLOOR(16.2365, 2)", Decimal("16.23")),
        ("FLOOR(16.2365, -1)", 10),
        ("CEIL(14.2345)", 15),
        ("CEIL(14.2345, 2)", Decimal("14.24")),
        ("CEIL(14.2345, -1)", 20),
        ("LEAST(event.properties.input_tokens, 10.0)", 10),
        ("GREATEST(1, 2, 3 - 5)", 2),
        ("round(2.5) + Round(-2.5)", 0),
        ("floor(-1.5)", -2),
        ("ceil(-1.5)", -1),
    ],
)
def test_numbers(text, value):
    result = evaluate(text)
    assert result == value
    assert isinstance(result, Decimal)
    assert "E" not in str(result)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.code", "llm_tokens"),
        ("'héllo, wörld'", "héllo, wörld"),
        ("event.properties.user_id", "007"),
        ("concat(event.properties.user_id, '-', event.properties.model)", "007-gpt-4o"),
        ("CONCAT('a')", "a"),
        ("concat(1 + 1.50, event.properties.input_tokens)", "2.5374"),
    ],
)
def test_texts_stay_as_they_were_sent(text, value):
    assert evaluate(text) == value


def test_the_properties_an_expression_reads_are_known_before_any_event():
    expression = compile_expression(
        "concat(event.properties.a, -event.properties.b + 2 * (event.properties.a / event.properties.c_1))"
    )
    assert expression.properties == {"a", "b", "c_1"}
    assert compile_expression("event.code").properties == set()


def test_the_callers_context_does_not_matter():
    with localcontext(Context(prec=3)):
        assert evaluate("123456 * 1000.001") == Decimal("123456123.456")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("event.properties.absent + 1", "no property absent"),
        ("event.properties.nothing", "no property nothing"),
        ("event.properties.model + 1", "property model is none"),
        ("'seven' + 1", "needs a number"),
        ("event.code * 2", "needs a number"),
        ("event.properties.flag", "neither a number nor a text"),
        ("event.properties.list", "neither a number nor a text"),
        ("event.properties.nan", "too large"),
        ("event.properties.enormous", "too large"),
        ("event.properties.million_digits * 1", "is none"),
        ("event.properties.arabic * 1", "is none"),
        ("1 / 0", "divides by zero"),
        ("0 / event.properties.zero", "divides by zero"),
        ("event.properties.huge", "more than 18 integer digits"),
        ("999999999999999999 + 1", "more than 18 integer digits"),
        ("round(1" + " * event.properties.huge" * 20 + ")", "more than 18 integer digits"),
        ("round(1, 0.5)", "number of places"),
        ("round(1, 25)", "number of places"),
        ("round(1, -19)", "number of places"),
        ("round(1, event.properties.huge)", "number of places"),
        ("concat(event.properties.long_text, event.properties.long_text)", "more than 4096 characters"),
        ("event.properties.__class__", "no property __class__"),
    ],
)
def test_an_event_without_a_value_is_refused(text, says):
    with pytest.raises(ExpressionError, match=says) as refused:
        evaluate(text)
    assert refused.value.code == "expression_evaluation_failed"


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("1 +", 4),
        ("1 2", 3),
        ("+1", 1),
        ("--1", 2),
        ("(1", 3),
        ("1)", 2),
        ("()", 2),
        ("1 + 'open", 5),
        ("'it is ''", 9),
        ("1e3", 2),
        ("1.", 2),
        (".5", 1),
        ("1_000", 2),
        ("٣ + 1", 1),
        ("1\u00a0+ 1", 2),
        ("1 ** 2", 4),
        ("1 % 2", 3),
        ("event", 1),
        ("event.properties", 1),
        ("event.properties.", 17),
        ("event.properties.a.b", 1),
        ("event.properties.1st", 1),
        ("event.properties.naïve", 20),
        ("event.properties['a']", 17),
        ("event.code.upper", 1),
        ("event.transaction_id", 1),
        ("properties.a", 1),
        ("__import__('os')", 1),
        ("eval('1')", 1),
        ("event.code()", 1),
        ("round()", 7),
        ("round(1, 2, 3)", 1),
        ("concat()", 8),
        ("least(1,)", 9),
        ("(1, 2)", 3),
        ("round 1", 1),
        ("lambda: 0", 7),
        ("1; 2", 2),
        ("1" * 19, 1),
        ("0." + "1" * 19, 1),
    ],
)
def test_what_is_no_expression_is_refused_with_its_position(text, position):
    with pytest.raises(InvalidInput, match=rf"at character {position}: expected") as refused:
        compile_expression(text)
    assert refused.value.details == {"expression": ["invalid_expression"]}


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "1" + ")" * 10_000,
        "(" * 900 + "1" + ")" * 900,
        "round(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1),
        "-" * 1_900 + "1",
        "9" * 1_000_000,
        "1" + "+1" * MAX_LENGTH,
        "'" + "x" * MAX_LENGTH + "'",
    ],
)
def test_deep_or_long_input_is_refused_without_exhausting_anything(text):
    with pytest.raises(InvalidInput) as refused:
        compile_expression(text)
    assert refused.value.details == {"expression": ["invalid_expression"]}


def test_the_deepest_and_the_longest_accepted_expressions_evaluate():
    assert evaluate("-(" * MAX_NESTING + "1" + ")" * MAX_NESTING) == (-1) ** MAX_NESTING
    assert evaluate("1" + "+1" * (MAX_LENGTH // 2 - 1)) == MAX_LENGTH // 2


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_invalid_input(text):
    with suppress(InvalidInput):
        compile_expression(text)


@given(st.text(alphabet="1.+-*/(), 'acdeghilnoprstvuf_", max_size=60))
def test_any_near_expression_evaluates_or_is_refused(text):
    with suppress(InvalidInput, ExpressionError):
        evaluate(text)
