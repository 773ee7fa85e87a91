"""How what a catalog file says differs from what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass

from nozle_server.core import json


@dataclass(frozen=True, slots=True)
class Difference:
    """One object to create (`+`), change (`~`) or replace; `changes` are lines such as `amount_cents: 4900 -> 5900`."""

    sign: str
    kind: str
    code: str
    changes: tuple[str, ...] = ()


def changes_between(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    """A line for each fact that is another one after."""
    return tuple(
        f"{name}: {_text(before.get(name))} -> {_text(after.get(name))}"
        for name in {**before, **after}
        if _text(before.get(name)) != _text(after.get(name))
    )


def _text(value: object) -> str:
    return json.dumps(value).decode()
