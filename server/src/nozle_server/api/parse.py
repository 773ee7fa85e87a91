"""From plain JSON values and query strings to an endpoint's Structs, with errors that name the field.

Unknown fields are ignored, so a caller cannot set what an endpoint does not ask for. Everything that can be
worked out from the types is worked out once, when the first application is built.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from nozle_server.api.errors import Unreadable
from nozle_server.core.errors import InvalidInput
from nozle_server.core.fields import decode_field

_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`\Z", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`")


class BodyReader:
    """Reads an endpoint's JSON body into its Struct."""

    def __init__(self, kind: type[msgspec.Struct], aliases: Mapping[str, str]) -> None:
        self._kind = kind
        self._aliases = aliases
        self._envelope = _envelope(kind)

    def read(self, document: object) -> Any:
        """The Struct; InvalidInput with `{field: [code]}` in its details when the document does not fit."""
        if not isinstance(document, dict):
            raise InvalidInput("the body must be a JSON object", details={"base": ["invalid_type"]})
        _apply_aliases(document, self._aliases)
        return _convert(document, self._kind, strict=True, envelope=self._envelope)


class QueryReader:
    """Reads an endpoint's query string into its Struct. List fields may be repeated, as `name` or as
    `name[]`; the members of a dict field come as `name[key]`.
    """

    def __init__(self, kind: type[msgspec.Struct], aliases: Mapping[str, str]) -> None:
        self._kind = kind
        self._aliases = aliases
        self._lists, self._not_texts, self._dicts = _shapes(kind)

    def read(self, raw: bytes) -> Any:
        """The Struct; Unreadable for a broken query string, InvalidInput for one that does not fit."""
        fields: dict[str, Any] = {}
        if raw:
            for name, value in _pairs(raw):
                self._take(fields, name, value)
            _apply_aliases(fields, self._aliases)
        return _convert(fields, self._kind, strict=False)

    def _take(self, fields: dict[str, Any], name: str, value: str) -> None:
        plain = name.removesuffix("[]")
        whole, bracket, key = name.partition("[")
        known = self._aliases.get(plain, plain)
        if value.lower() == "null" and known in self._not_texts - self._lists:
            # The reader would take the word for a null, which a query has no way to write.
            raise InvalidInput("a query parameter has another type", details=_known(name, "invalid_type"))
        if known in self._lists:
            fields.setdefault(plain, []).append(value)
        elif bracket and key.endswith("]") and whole in self._dicts:
            fields.setdefault(whole, {})[key[:-1]] = value
        elif name in fields:
            raise InvalidInput("a query parameter is given twice", details=_known(name, "given_twice"))
        else:
            fields[name] = value


def _pairs(raw: bytes) -> Iterable[tuple[str, str]]:
    for pair in raw.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            yield _unquote(name), _unquote(value)


def _unquote(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Unreadable("the query is not valid UTF-8", code="invalid_query") from None
    if "\x00" in text:
        raise Unreadable("the query holds NUL", code="invalid_query")
    return text


def _apply_aliases(fields: dict[str, Any], aliases: Mapping[str, str]) -> None:
    if aliases.keys().isdisjoint(fields):
        return
    for alias in aliases.keys() & fields.keys():
        value = fields.pop(alias)
        canonical = aliases[alias]
        if fields.setdefault(canonical, value) != value:
            raise InvalidInput(
                f"{canonical} is given twice, under two names and with two values",
                details={canonical: ["given_twice"]},
            )


def _convert(fields: object, kind: type[msgspec.Struct], *, strict: bool, envelope: str = "") -> Any:
    try:
        return msgspec.convert(fields, kind, strict=strict, dec_hook=_decode_field)
    except msgspec.ValidationError as error:
        raise _explain(error, envelope) from None


class _FieldError(ValueError):
    """Carries one field's fault through msgspec, which then adds where it was."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def _decode_field(kind: type, value: Any) -> Any:
    if kind is object:
        return value
    if value is None:
        raise _FieldError("is required", "value_is_mandatory")
    try:
        return decode_field(kind, value)
    except InvalidInput as error:
        # The type cannot know the field's name and speaks of "amount"; the place comes from msgspec.
        [(name, codes)] = error.details.items()
        raise _FieldError(error.message.removeprefix(name).strip(), codes[0]) from None


def _explain(error: msgspec.ValidationError, envelope: str) -> InvalidInput:
    """Say in our words what msgspec found; its own may repeat the input."""
    text = str(error)
    place = _PLACE.search(text)
    field = place[1] if place else ""
    if missing := _MISSING.match(text):
        field = f"{field}.{missing[1]}" if field else missing[1]
    sentence, code = _fault(error, text)
    # Core wraps a body in one key ({"plan": {...}}), and its clients know the fields inside.
    field = field.removeprefix(envelope) or "base"
    return InvalidInput(f"{'the body' if field == 'base' else field} {sentence}", details={field: [code]})


def _fault(error: msgspec.ValidationError, text: str) -> tuple[str, str]:
    cause = error.__cause__
    if isinstance(cause, _FieldError):
        return str(cause), cause.code
    if text.startswith("Object missing"):
        return "is required", "value_is_mandatory"
    expected = _EXPECTED.match(text)
    if expected is None:
        return "has a value that is not allowed", "value_is_invalid"
    if ", got `" not in text:
        blank = text.startswith("Expected `str` of length >= 1 ")
        return (
            ("must not be empty", "value_is_mandatory")
            if blank
            else ("is out of range", "value_is_out_of_range")
        )
    if text.endswith("got `null`") or ", got `null` - " in text:
        return "is required", "value_is_mandatory"
    return f"must be of type {expected[1].replace(' | null', '')}", "invalid_type"


def _known(name: str, code: str) -> dict[str, list[str]]:
    # The caller's text is repeated only when it can do no harm.
    return {name: [code]} if name.isidentifier() and len(name) <= 64 else {}


@cache
def _shapes(kind: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names of a Struct's fields that are lists, of those that cannot be text, and of those that are dicts."""
    hints, fields = get_type_hints(kind), msgspec.structs.fields(kind)
    return (
        frozenset(one.encode_name for one in fields if _is_list(hints[one.name])),
        frozenset(
            one.encode_name
            for one in fields
            if hints[one.name] is not str and str not in get_args(hints[one.name])
        ),
        frozenset(one.encode_name for one in fields if get_origin(hints[one.name]) is dict),
    )


@cache
def _envelope(kind: type[msgspec.Struct]) -> str:
    """The prefix `plan.` of a Struct whose only field is another Struct `plan`; else the empty string."""
    fields = msgspec.structs.fields(kind)
    if len(fields) != 1 or not (
        isinstance(fields[0].type, type) and issubclass(fields[0].type, msgspec.Struct)
    ):
        return ""
    return f"{fields[0].encode_name}."


def _is_list(hint: object) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_is_list(option) for option in get_args(hint))
    return (get_origin(hint) or hint) in (list, tuple, set, frozenset)
