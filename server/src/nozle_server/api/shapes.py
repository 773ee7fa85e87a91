"""Shorthand for the JSON schemas of replies."""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
DATE: Schema = {"type": "string", "format": "date"}
ANY_OBJECT: Schema = {"type": "object"}


def optional(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def shape(**properties: Schema) -> Schema:
    """An object that has all of these members, and perhaps others."""
    return {"type": "object", "required": list(properties), "properties": properties}


PAGE_META = shape(
    current_page=INTEGER,
    next_page=optional(INTEGER),
    prev_page=optional(INTEGER),
    total_pages=INTEGER,
    total_count=INTEGER,
)
