"""JSON schemas of the endpoints' Structs: named components that refer to each other, as OpenAPI wants them.

msgspec has a generator of its own, but it fails on defaults of a type it does not know, which our `Amount` is.
"""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Union, get_origin

import msgspec
from msgspec import inspect as kinds

from nozle_server.api.endpoint import Amount, Endpoint
from nozle_server.core import json

Schema = dict[str, Any]

AMOUNT: Schema = {
    "title": "Amount",
    "description": (
        "An exact decimal of at most 18 integer and 12 fractional digits. A JSON number with more fractional"
        " digits is rounded half even to 12; a decimal string with more is refused."
    ),
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^[+-]?[0-9]{1,18}(\.[0-9]{1,12})?$"},
    ],
}

_PLAIN: Mapping[type[kinds.Type], Schema] = {
    kinds.AnyType: {},
    kinds.NoneType: {"type": "null"},
    kinds.BoolType: {"type": "boolean"},
    kinds.FloatType: {"type": "number"},
    kinds.DecimalType: {"type": "number"},
    kinds.DateTimeType: {"type": "string", "format": "date-time"},
    kinds.DateType: {"type": "string", "format": "date"},
    kinds.UUIDType: {"type": "string", "format": "uuid"},
}


# What msgspec calls a bound, and what JSON Schema does.
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
}


class Schemas:
    """The schemas of all types of a table. Two Structs of one name would be one component, so they are refused."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.components: dict[str, Schema] = {"Amount": AMOUNT}
        self._structs: dict[str, type] = {}
        for endpoint in endpoints:
            for kind in (endpoint.body, endpoint.wrapped_body, endpoint.reply_schema):
                if _is_type(kind):
                    self.of(kind)

    def of(self, kind: object) -> Schema:
        """The schema of a type of the table, or a schema that was given as such."""
        return dict(kind) if isinstance(kind, Mapping) else self._of(kinds.type_info(kind))

    def properties(self, kind: type[msgspec.Struct]) -> tuple[dict[str, Schema], frozenset[str]]:
        """A Struct's fields, and which of them are required."""
        info = kinds.type_info(kind)
        assert isinstance(info, kinds.StructType)
        schema = self._struct(info)
        return schema["properties"], frozenset(schema["required"])

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, or the component that it refers to."""
        reference: str | None = schema.get("$ref")
        return self.components[reference.rpartition("/")[2]] if reference else schema

    def _of(self, info: kinds.Type) -> Schema:
        match info:
            case kinds.Metadata():
                return self._of(info.type) | (info.extra_json_schema or {})
            case kinds.StructType():
                return self._component(info)
            case kinds.StrType() | kinds.IntType():
                name = "string" if isinstance(info, kinds.StrType) else "integer"
                bounds = {ours: getattr(info, theirs, None) for theirs, ours in _BOUNDS.items()}
                return {"type": name} | {name: value for name, value in bounds.items() if value is not None}
            case kinds.ListType() | kinds.VarTupleType() | kinds.SetType():
                return {"type": "array", "items": self._of(info.item_type)}
            case kinds.DictType():
                return {"type": "object", "additionalProperties": self._of(info.value_type)}
            case kinds.LiteralType():
                return {"enum": list(info.values)}
            case kinds.EnumType():
                return {"enum": [member.value for member in info.cls]}
            case kinds.UnionType():
                return {"anyOf": [self._of(option) for option in info.types]}
            case kinds.CustomType():
                # Besides amounts only `object`: any value.
                return {"$ref": "#/components/schemas/Amount"} if info.cls is Amount else {}
            case _:
                return dict(_PLAIN[type(info)])

    def _component(self, info: kinds.StructType) -> Schema:
        name = info.cls.__name__
        if name not in self._structs:
            self._structs[name] = info.cls
            self.components[name] = self._struct(info)
        assert self._structs[name] is info.cls, f"two Structs are called {name}"
        return {"$ref": f"#/components/schemas/{name}"}

    def _struct(self, info: kinds.StructType) -> Schema:
        return {
            "type": "object",
            "description": (info.cls.__doc__ or "").partition("\n\n")[0],
            "required": [field.encode_name for field in info.fields if field.required],
            "properties": {field.encode_name: self._field(field) for field in info.fields},
        }

    def _field(self, field: kinds.Field) -> Schema:
        schema = self._of(field.type)
        if field.default in (msgspec.NODEFAULT, msgspec.UNSET, None):
            return schema
        return schema | {"default": json.loads(json.dumps(field.default))}


def without_null(schema: Schema) -> Schema:
    """The schema of a value that is simply left out when there is none, as in a query string."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == len(schema.get("anyOf", ())):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}


def _is_type(kind: object) -> bool:
    return isinstance(kind, type) or get_origin(kind) in (list, dict, Union, UnionType)
