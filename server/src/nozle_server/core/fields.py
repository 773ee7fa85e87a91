"""Field types for msgspec Structs that read bodies and catalog files, and how plain values become such Structs."""

from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount

T = TypeVar("T")


class Amount(Decimal):
    """An exact amount: a JSON number or a decimal string, by the one rule of `core/numbers.py`."""

    @classmethod
    def parse(cls, value: object) -> "Amount":
        return cls(parse_amount(value, "amount"))


def decode_field(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook` for the types of this module."""
    if kind is Amount:
        return Amount.parse(value)
    raise NotImplementedError(kind)


def read(kind: type[T], value: object, *, what: str) -> T:
    """A Struct of `kind` from plain dicts and lists (a YAML file); InvalidInput names `what` and the place in it."""
    try:
        return msgspec.convert(value, kind, dec_hook=decode_field)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what}: {error}") from None
