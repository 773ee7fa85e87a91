"""JSON as Nozle writes it, and reads it back from its own database: numbers are exact decimals, never floats.

A Decimal is written as a plain JSON number without an exponent: 0.12 stays 0.12, 0.0000001 does not become 1E-7.
Requests from outside go through the strict reader in `api/json.py` instead of `loads`.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from nozle_server.core.numbers import to_plain

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder()
_ordered_encoder = msgspec.json.Encoder(order="deterministic")


def loads(data: bytes | str) -> Any:
    """Decode JSON that we wrote ourselves: integers as int, other numbers as Decimal."""
    return _decoder.decode(data)


def dumps(value: object) -> bytes:
    """Encode dicts, lists, strings, numbers, Decimals, UUIDs and instants (`2026-01-15T10:30:00Z`)."""
    return _encoder.encode(_plain(value))


def instant_text(value: datetime) -> str:
    """RFC 3339 in UTC with a `Z`; microseconds only when there are some."""
    return value.isoformat().replace("+00:00", "Z")


_AS_THEY_ARE = (str, int, bool, type(None))


def _plain(value: object) -> object:
    # Exact types first: this walks every answer and every event, and abstract base classes are slow to ask.
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is dict:
        return {
            key: item if type(item) in _AS_THEY_ARE else _plain(item)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if kind is list or kind is tuple:
        return [
            item if type(item) in _AS_THEY_ARE else _plain(item)
            for item in value  # type: ignore[attr-defined]
        ]
    if isinstance(value, Decimal):
        return msgspec.Raw(to_plain(value).encode())
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def canonical(value: object) -> bytes:
    """JSON of which equal values have the same bytes: members in order of name, numbers without trailing zeros."""
    return _ordered_encoder.encode(_plain(value))
