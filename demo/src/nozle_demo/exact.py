"""JSON whose numbers are exact: a fraction is read as Decimal and written back as the same plain number."""

import json
from decimal import Decimal
from typing import Any

# JSON objects as Python has them; what is inside is checked where it is read.
Json = dict[str, Any]


# Made once: json.loads() with parse_float makes a decoder for every call.
_DECODER = json.JSONDecoder(parse_float=Decimal)


def loads(text: bytes | str) -> Any:
    """Read JSON; `0.12` becomes Decimal("0.12"), `7` stays an int."""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


def dumps(value: object) -> str:
    """Write JSON on one line; a Decimal is written as a plain number, without exponent.

    >>> dumps({"credits": Decimal("1.418"), "rows": [1, None, True]})
    '{"credits":1.418,"rows":[1,null,true]}'
    """
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return json.dumps(value)


def decimal(value: object) -> Decimal:
    """A number of an answer (int, Decimal, or text such as a price) as Decimal."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError(f"not an exact number: {value!r}")
    return Decimal(value)


def plain_number(units: int, *, places: int) -> str:
    """A whole number of 10^-places as a plain decimal, for a JSON number."""
    whole, fraction = divmod(units, 10**places)
    return f"{whole}.{fraction:0{places}}".rstrip("0").rstrip(".")


def plain(value: Decimal | int) -> str:
    """A figure for people: thousands apart, no exponent, no idle zeros behind the point.

    >>> plain(Decimal("1234567.500")), plain(Decimal("1E+3"))
    ('1,234,567.5', '1,000')
    """
    text = f"{Decimal(value):,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
