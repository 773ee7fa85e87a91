"""The reading view of the API: one HTML page, made on the server, without scripts or foreign assets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from http import HTTPStatus
from typing import Any

import msgspec

from nozle_server.api.docs_style import STYLE, STYLE_HASH
from nozle_server.api.endpoint import CORE, Endpoint, Scope
from nozle_server.api.openapi import also_accepted
from nozle_server.api.openapi_errors import error_statuses
from nozle_server.api.schemas import Schema, Schemas, without_null
from nozle_server.api.table_rules import parameter_names
from nozle_server.core.json import dumps

# Nothing may load or run here but the one style sheet in the page, known by its hash.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SCOPES = {
    Scope.PUBLIC: ("public", "no key"),
    Scope.ANY_KEY: ("any", "pk_ or sk_"),
    Scope.SECRET: ("secret", "sk_ only"),
}
_INTRODUCTION = """
<p>Send your key as <code>Authorization: Bearer …</code>. Publishable keys (<code>pk_</code>) may be shown
to browsers and open only what says so; secret keys (<code>sk_</code>) open everything and stay on your
server.</p>
<p><code>/api/v1</code> is Nozle's own form; <code>/core/api/v1</code> is Core, which a published Lago client
reads: its URL is this server's with <code>/core/</code> behind it, with the last slash.</p>
<p>Amounts are exact decimals, as JSON numbers or decimal strings. Instants are RFC 3339 in UTC. Errors are
<code>{"error": "a sentence", "code": "a_stable_word"}</code>, on <code>/core</code> they have Lago's form.
Every answer carries <code>X-Request-Id</code>. For programs: <a href="/openapi.json">openapi.json</a>.</p>
"""


def render_page(endpoints: Sequence[Endpoint]) -> str:
    """The whole page. Everything from the table is escaped, descriptions included."""
    schemas = Schemas(endpoints)
    by_tag: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_tag.setdefault(endpoint.tag, []).append(endpoint)
    navigation = "".join(_navigation(tag, members) for tag, members in by_tag.items())
    sections = "".join(_section(tag, members, schemas) for tag, members in by_tag.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Nozle API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>"
        f'<nav aria-label="Endpoints"><a class="home" href="#top">Nozle API</a>{navigation}</nav>'
        f'<main id="top"><h1>Nozle API</h1>{_INTRODUCTION}{sections}</main></body></html>'
    )


def _navigation(tag: str, endpoints: Sequence[Endpoint]) -> str:
    """A section that opens at a click: two hundred paths at once are no overview."""
    links = "".join(
        f'<li><a href="#{_anchor(endpoint)}" title="{escape(endpoint.summary)}">{_verb(endpoint)}'
        f" {_place(endpoint)}</a></li>"
        for endpoint in endpoints
    )
    count = f'<span class="count">{len(endpoints)}</span>'
    return f"<details><summary>{escape(tag)} {count}</summary><ul>{links}</ul></details>"


def _place(endpoint: Endpoint) -> str:
    """The path, and whether it is Core's: many paths are there in both forms."""
    core = '<span class="core">/core</span>' if set(endpoint.mounts) == set(CORE) else ""
    return core + escape(endpoint.path)


def _section(tag: str, endpoints: Sequence[Endpoint], schemas: Schemas) -> str:
    """The section's endpoints at a glance, then each of them."""
    articles = "".join(_article(endpoint, schemas) for endpoint in endpoints)
    rows = "".join(
        f'<li><a href="#{_anchor(endpoint)}">{escape(endpoint.summary)}</a>'
        f" {_verb(endpoint)} <code>{_place(endpoint)}</code></li>"
        for endpoint in endpoints
    )
    glance = f'<ul class="glance">{rows}</ul>' if len(endpoints) > 1 else ""
    return f"<section><h2>{escape(tag)}</h2>{glance}{articles}</section>"


def _article(endpoint: Endpoint, schemas: Schemas) -> str:
    css, scope = _SCOPES[endpoint.scope]
    mounts = " ".join(f"<code>{escape(mount.value + endpoint.path)}</code>" for mount in endpoint.mounts)
    description = f"<p>{_prose(endpoint.description)}</p>" if endpoint.description else ""
    return (
        f'<article id="{_anchor(endpoint)}"><h3>{escape(endpoint.summary)}</h3>'
        f'<p class="route">{_verb(endpoint)} {mounts} <span class="scope {css}">{escape(scope)}</span></p>'
        f"{description}{_fields(endpoint, schemas)}{_notes(endpoint)}{_examples(endpoint)}{_errors(endpoint)}"
        "</article>"
    )


def _fields(endpoint: Endpoint, schemas: Schemas) -> str:
    rows = [_row(name, "path", {"type": "string"}, True, "") for name in parameter_names(endpoint.path)]
    rows += _struct_rows(endpoint.query, "query", endpoint.query_aliases, schemas)
    rows += _struct_rows(endpoint.body, "body", endpoint.body_aliases, schemas)
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Field", "In", "Type", "Notes"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _struct_rows(
    kind: type[msgspec.Struct] | None, place: str, aliases: Mapping[str, str], schemas: Schemas
) -> Iterator[str]:
    if kind is None:
        return
    properties, required = schemas.properties(kind)
    for name, schema in properties.items():
        yield _row(name, place, schema, name in required, also_accepted(aliases, name))
        # One level down is where Core's envelopes keep their fields.
        inner = schemas.resolve(without_null(schema))
        for inner_name, inner_schema in inner.get("properties", {}).items():
            needed = inner_name in inner.get("required", ())
            yield _row(f"{name}.{inner_name}", place, inner_schema, needed, "")


def _row(name: str, place: str, schema: Schema, required: bool, aliases: str) -> str:
    notes = " ".join(
        part for part in ("Required." if required else "", schema.get("description", ""), aliases) if part
    )
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{place}</td>"
        f"<td>{escape(_type_name(schema))}</td><td>{_prose(notes)}</td></tr>"
    )


def _type_name(schema: Schema) -> str:
    schema = without_null(schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if reference := schema.get("$ref"):
        return str(reference.rpartition("/")[2])
    if options := schema.get("anyOf"):
        return schema.get("title") or " or ".join(_type_name(option) for option in options)
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "any"))


def _notes(endpoint: Endpoint) -> str:
    notes = []
    if endpoint.idempotent:
        kept = "for ever" if endpoint.ledger else "7 days"
        verb = "Needs" if endpoint.key_required else "Takes"
        notes.append(f"{verb} an <code>Idempotency-Key</code>, kept {kept}.")
    if endpoint.customer_data is not None:
        scope = escape(endpoint.customer_data.session_scope)
        notes.append(
            "With a publishable key of an organization that asks for customer sessions, it needs"
            f" <code>X-Nozle-Customer-Session</code> with the scope <code>{scope}</code>."
        )
    return "".join(f"<p>{note}</p>" for note in notes)


def _examples(endpoint: Endpoint) -> str:
    parts = (("Request", endpoint.example.request), (f"Answer, {endpoint.status}", endpoint.example.response))
    return "".join(_example(title, value) for title, value in parts if value is not None)


def _example(title: str, value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(_shown(value), indent=2, ensure_ascii=False)
    return f"<figure><figcaption>{title}</figcaption><pre>{escape(text)}</pre></figure>"


def _shown(value: object) -> Any:
    """Examples as the API writes them."""
    return json.loads(dumps(value))


def _errors(endpoint: Endpoint) -> str:
    statuses = sorted({status for mount in endpoint.mounts for status in error_statuses(endpoint, mount)})
    if not statuses:
        return ""
    names = ", ".join(f"{status} {HTTPStatus(status).phrase}" for status in statuses)
    return f'<p class="errors">Errors: {escape(names)}</p>'


def _anchor(endpoint: Endpoint) -> str:
    words = "".join(char if char.isalnum() else "-" for char in endpoint.path.lower()).strip("-")
    return f"{endpoint.method.lower()}-{words}-{endpoint.mounts[0].name.lower()}"


def _verb(endpoint: Endpoint) -> str:
    return f'<b class="verb {endpoint.method.lower()}">{endpoint.method}</b>'


def _prose(text: str) -> str:
    """Escaped text in which `this` is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
