"""B02, B03, B04: what the reader takes, and that it refuses everything else in its own words."""

import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.api.strict_json import MAX_DEPTH, MAX_STRING_BYTES, read_json
from nozle_server.core.errors import InvalidInput

DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b" \t\r\n[1, 2]\n", [1, 2]),
        (b"0.12", Decimal("0.12")),
        (b"1.50", Decimal("1.50")),
        (b"0.30000000000000004", Decimal("0.30000000000000004")),
        (b"9007199254740993", 9007199254740993),
        (b"1e2", Decimal(100)),
        (b"-" + b"9" * 60, -int("9" * 60)),
        (b"1e100", Decimal("1e100")),
        (b"1e-100", Decimal("1e-100")),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"😀 é"'.encode(), "😀 é"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"[[[["', "[[[["),
        (b'"a\\"[b"', 'a"[b'),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b'"' + b"a" * MAX_STRING_BYTES + b'"', "a" * MAX_STRING_BYTES),
        (b'"' + b"\\u00e9" * (MAX_STRING_BYTES // 2) + b'"', "é" * (MAX_STRING_BYTES // 2)),
        (b'{"a": 1, "b": {"a": 1}}', {"a": 1, "b": {"a": 1}}),
        (b"true", True),
        (b"null", None),
    ],
)
def test_reads_exactly(raw: bytes, value: object) -> None:
    read = read_json(raw)
    if value is not None:
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed_json"),
        (b"   ", "malformed_json"),
        (b"{", "malformed_json"),
        (b"[1,]", "malformed_json"),
        (b"{'a': 1}", "malformed_json"),
        (b"01", "malformed_json"),
        (b"+1", "malformed_json"),
        (b".5", "malformed_json"),
        (b"1.", "malformed_json"),
        (b"0x10", "malformed_json"),
        (b"tru", "malformed_json"),
        (b"{} {}", "malformed_json"),
        (b"{}x", "malformed_json"),
        (b"\x0c{}", "malformed_json"),
        (b'"\x1f"', "malformed_json"),
        (b'"\\x41"', "malformed_json"),
        (b"/* */ {}", "malformed_json"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'[{"x": {"a": 1, "b": 2, "a": 3}}]', "duplicate_key"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
        (b"NaN", "number_out_of_range"),
        (b"[Infinity]", "number_out_of_range"),
        (b"-Infinity", "number_out_of_range"),
        (b"1e400", "number_out_of_range"),
        (b"-1e400", "number_out_of_range"),
        (b"1e-400", "number_out_of_range"),
        (b"0e-5000", "number_out_of_range"),
        (b"1e" + b"9" * 40, "number_out_of_range"),
        (b"1" * 61, "number_out_of_range"),
        (b"1" * 5000, "number_out_of_range"),
        (b"0." + b"1" * 400, "number_out_of_range"),
        (b"1" * 100_000 + b".5", "number_out_of_range"),
        (b'"\\u0000"', "invalid_string"),
        (b'{"\\u0000": 1}', "invalid_string"),
        (b'"\\ud800"', "invalid_string"),
        (b'["\\udc00\\ud800"]', "invalid_string"),
        (b'{"\\uDBFF": 1}', "invalid_string"),
        (b'"' + b"a" * (MAX_STRING_BYTES + 1) + b'"', "invalid_string"),
        ('"' + "é" * (MAX_STRING_BYTES // 2 + 1) + '"', "invalid_string"),
        (b'"' + b'\\"' * (MAX_STRING_BYTES + 1) + b'"', "invalid_string"),
        (b'{"' + b"k" * (MAX_STRING_BYTES + 1) + b'": 1}', "invalid_string"),
        (b"\xef\xbb\xbf{}", "invalid_encoding"),
        ("{}".encode("utf-16"), "invalid_encoding"),
        ("{}".encode("utf-16-le"), "invalid_encoding"),
        ("{}".encode("utf-32"), "invalid_encoding"),
        (b'"\xff"', "invalid_encoding"),
        (b'"\xed\xa0\x80"', "invalid_encoding"),
        (b'"\xc0\xaf"', "invalid_encoding"),
        (b'{"a": "\x00"}', "invalid_encoding"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nesting_too_deep"),
        (b"[" * DEEP, "nesting_too_deep"),
        (b'{"a":' * DEEP, "nesting_too_deep"),
        (b'[{"a":' * DEEP, "nesting_too_deep"),
        (b'["]",' * DEEP, "nesting_too_deep"),
        (b'["\\"]",' * DEEP, "nesting_too_deep"),
    ],
)
def test_refuses(raw: bytes | str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_json(raw if isinstance(raw, bytes) else raw.encode())
    assert refused.value.code == code
    assert len(refused.value.message) < 100


@pytest.mark.parametrize(
    "raw", [b"[" * 2_000_000, b"[]," * 700_000, b'"\\"' * 700_000, b"1" * 2_000_000, b'{"":' * 500_000]
)
def test_a_hostile_body_of_full_size_costs_less_than_a_second(raw: bytes) -> None:
    before = time.perf_counter()
    with pytest.raises(InvalidInput):
        read_json(raw)
    assert time.perf_counter() - before < 1


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused_never_anything_else(raw: bytes) -> None:
    try:
        read_json(raw)
    except InvalidInput:
        return
    json.loads(raw)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**59), 10**59)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: object, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only)
    if "\\u0000" in raw.replace("\\\\", ""):
        with pytest.raises(InvalidInput):
            read_json(raw.encode())
    else:
        assert read_json(raw.encode()) == value


@given(st.text(alphabet='[]{}",:\\u0d8a1e-. ', max_size=120))
def test_text_made_of_json_characters_is_never_misread(text: str) -> None:
    try:
        value = read_json(text.encode())
    except InvalidInput:
        return
    assert value == json.loads(text, parse_float=Decimal)
