"""YAML files as people write them, read strictly: exact numbers, no key twice, no anchors, bounded depth and size."""

from collections.abc import Hashable
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount

MAX_BYTES = 4 * 1024 * 1024


def read_yaml(file: Path) -> object:
    """The plain values of a YAML file; 0.12 is a Decimal. InvalidInput names the line of what is wrong."""
    raw = file.read_bytes()
    if len(raw) > MAX_BYTES:
        raise InvalidInput(f"{file}: larger than {MAX_BYTES} bytes")
    try:
        return yaml.load(raw.decode("utf-8"), Loader=_StrictLoader)  # noqa: S506  # a SafeLoader
    except UnicodeDecodeError:
        raise InvalidInput(f"{file}: not UTF-8") from None
    except RecursionError:
        raise InvalidInput(f"{file}: nested too deeply") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "not a YAML file"
        where = f", line {place.line + 1}" if place else ""
        raise InvalidInput(f"{file}{where}: {what}") from None


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without what surprises: floats, base-60 numbers, duplicate keys, aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            # A few nested aliases stand for billions of values.
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "anchors are not supported", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            # PyYAML's own constructors raise these for `!!int chat`, 31 February and the like.
            raise yaml.constructor.ConstructorError(
                None, None, "not a value of its type", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if ":" in text:
        raise yaml.constructor.ConstructorError(None, None, "write the number in decimals", node.start_mark)
    return int(loader.construct_yaml_int(node))


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    try:
        return parse_amount(str(loader.construct_scalar(node)), "number")
    except InvalidInput as error:
        raise yaml.constructor.ConstructorError(None, None, error.message, node.start_mark) from None


# A date-like word stays the word that somebody wrote: `name: 2026-02-28`.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _decimal)
