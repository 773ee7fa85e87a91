"""The strict JSON reader for everything that comes from outside.

What two readers could understand differently is refused rather than guessed: duplicate keys, NaN, numbers no
column can hold, text that is no text (lone surrogates, NUL), encodings other than UTF-8. Integers become
`int`, other numbers `Decimal`. Messages name the rule and never repeat the input.

The work is done by the standard library's C scanner; everything around it is arranged so that an ordinary
event pays for three searches through its bytes and one Python call an object and a number.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from typing import NoReturn

from nozle_server.api.errors import Unreadable

MAX_DEPTH = 64
MAX_DIGITS = 60
MAX_EXPONENT = 100
MAX_STRING_BYTES = 64 * 1024

_WHITESPACE = " \t\n\r"
# Text this short has neither too many digits nor, without an exponent, too large a one.
_SURELY_SMALL = 40
_ALL_BUT_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_OPENERS = frozenset(b"[{")
# The escapes that can make NUL or a surrogate. Others (`\u00e9`, as Python clients write them) are harmless.
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def read_json(raw: bytes) -> object:
    """The one JSON value in `raw`: dict, list, str, int, Decimal, bool or None; Unreadable for anything else.

    Codes: `invalid_encoding`, `nesting_too_deep`, `malformed_json`, `duplicate_key`, `number_out_of_range`,
    `invalid_string`.

    >>> read_json(b'{"credits": 0.10, "of": [1, 2]}')
    {'credits': Decimal('0.10'), 'of': [1, 2]}
    """
    text = _decode(raw)
    # Each level of nesting takes an opening bracket, so few brackets need no closer look; nor do short
    # bodies.
    long_strings = False
    if len(raw) > MAX_STRING_BYTES or text.count("{") + text.count("[") > MAX_DEPTH:
        long_strings = _outline(raw)
    try:
        document, end = _scan(text, 0)
    except Unreadable:
        raise
    except (StopIteration, ValueError):
        raise Unreadable("the body is not valid JSON") from None
    if end != len(text):
        raise Unreadable("the body holds more than one JSON value")
    # A raw NUL or surrogate was refused above; from here on they can only come from an escape.
    if long_strings or ("\\u" in text and _SUSPECT_ESCAPE.search(text)):
        _check_strings(document)
    return document


def _decode(raw: bytes) -> str:
    # NUL is never legal in JSON text, and every UTF-16 or UTF-32 text that holds a bracket has some.
    if b"\x00" in raw or raw.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("the body must be UTF-8 without a byte order mark", code="invalid_encoding")
    try:
        return raw.decode().strip(_WHITESPACE)
    except UnicodeDecodeError:
        raise Unreadable("the body is not valid UTF-8", code="invalid_encoding") from None


def _outline(raw: bytes) -> bool:
    """Check the depth before the parser recurses; tell whether a string may be too long.

    Up to its first error JSON text alternates between structure and strings at every quote that is not
    escaped; behind the first error the outline may be wrong, but there the parser stops.
    """
    pieces = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__").split(b'"')
    depth = 0
    for bracket in b"".join(pieces[::2]).translate(None, _ALL_BUT_BRACKETS):
        if bracket in _OPENERS:
            depth += 1
            if depth > MAX_DEPTH:
                raise Unreadable(
                    f"the body is nested deeper than {MAX_DEPTH} levels", code="nesting_too_deep"
                )
        else:
            depth -= 1
    return len(raw) > MAX_STRING_BYTES and max(map(len, pieces[1::2]), default=0) > MAX_STRING_BYTES


def _check_strings(document: object) -> None:
    for text in _strings(document):
        try:
            length = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            raise Unreadable("a string holds a lone surrogate", code="invalid_string") from None
        if length > MAX_STRING_BYTES:
            raise Unreadable(f"a string is longer than {MAX_STRING_BYTES} bytes", code="invalid_string")
        if "\x00" in text:
            raise Unreadable("a string holds NUL", code="invalid_string")


def _strings(document: object) -> Iterator[str]:
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _unique_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Unreadable("an object holds the same key twice", code="duplicate_key")
    return fields


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS and len(text.lstrip("-")) > MAX_DIGITS:
        raise _number_out_of_range()
    return int(text)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except DecimalException:  # an exponent that not even Decimal can hold
        raise _number_out_of_range() from None
    if (len(text) > _SURELY_SMALL or "e" in text or "E" in text) and (
        len(value.as_tuple().digits) > MAX_DIGITS or abs(value.adjusted()) > MAX_EXPONENT
    ):
        raise _number_out_of_range()
    return value


def _number_out_of_range() -> Unreadable:
    return Unreadable(
        f"a number has more than {MAX_DIGITS} digits or an exponent beyond {MAX_EXPONENT}",
        code="number_out_of_range",
    )


def _refuse_constant(_text: str) -> NoReturn:
    raise Unreadable("NaN and Infinity are not JSON numbers", code="number_out_of_range")


_scan = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_refuse_constant,
).scan_once  # type: ignore[attr-defined]  # typeshed leaves it out
