"""The OpenAPI 3.1 document, generated from the table: what is described is mounted, and the reverse."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from nozle_server.api.endpoint import Endpoint, Mount, Scope
from nozle_server.api.openapi_errors import (
    CORE_ERROR,
    ERROR,
    error_responses,
    error_statuses,
    response_name,
)
from nozle_server.api.schemas import Schema, Schemas, without_null
from nozle_server.api.table_rules import parameter_names

_DESCRIPTION = """\
Billing for AI products: entitlements, credits, usage, invoices and margin.

Amounts are exact decimals, instants RFC 3339 in UTC. Every answer carries `X-Request-Id`. Errors on `/core`
have Lago's form, elsewhere they are `{"error", "code"}`.
"""

_SECURITY: dict[Scope, list[dict[str, list[str]]]] = {
    Scope.PUBLIC: [],
    Scope.ANY_KEY: [{"secret_key": []}, {"publishable_key": []}],
    Scope.SECRET: [{"secret_key": []}],
}


def build_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document as plain values."""
    schemas = Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        for mount in endpoint.mounts:
            operations = paths.setdefault(mount.value + endpoint.path, {})
            operations[endpoint.method.lower()] = _operation(endpoint, mount, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nozle",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Error": ERROR, "CoreError": CORE_ERROR},
            "responses": error_responses(),
            "headers": {
                "RequestId": {
                    "description": "Names this request in our log; yours if you sent one.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {
                "secret_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key that starts with `sk_`.",
                },
                "publishable_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key that starts with `pk_`; it may be shown to browsers.",
                },
            },
        },
    }


def _operation(endpoint: Endpoint, mount: Mount, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint, mount),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "security": _SECURITY[endpoint.scope],
        "parameters": _parameters(endpoint, schemas),
        "responses": {
            str(endpoint.status): _success(endpoint, schemas),
            **{
                str(status): {"$ref": f"#/components/responses/{response_name(status, mount)}"}
                for status in error_statuses(endpoint, mount)
            },
        },
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint, schemas)
    return operation


def _operation_id(endpoint: Endpoint, mount: Mount) -> str:
    words = [endpoint.method.lower(), *mount.value.split("/"), *endpoint.path.split("/")]
    return "_".join(word.strip("{}").replace("-", "_").replace(".", "_") for word in words if word)


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in parameter_names(endpoint.path)
    ]
    if endpoint.query is not None:
        properties, required = schemas.properties(endpoint.query)
        parameters += [
            _query_parameter(name, schema, name in required, endpoint) for name, schema in properties.items()
        ]
    if endpoint.idempotent:
        parameters.append(
            _header(
                "Idempotency-Key",
                "Your name for this one effect: sent again, it gets the first answer again.",
                required=endpoint.key_required,
            )
        )
    if endpoint.customer_data is not None:
        scope = endpoint.customer_data.session_scope
        parameters.append(
            _header(
                "X-Nozle-Customer-Session",
                f"A customer session with the scope `{scope}`, beside a `pk_` key.",
            )
        )
    return parameters


def _query_parameter(name: str, schema: Schema, required: bool, endpoint: Endpoint) -> dict[str, Any]:
    plain = without_null(schema)
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": required, "schema": plain}
    if aliases := also_accepted(endpoint.query_aliases, name):
        parameter["description"] = aliases
    return parameter


def also_accepted(aliases: Any, name: str) -> str:
    """A sentence on the other spellings of a field, empty when there are none."""
    others = [f"`{alias}`" for alias, canonical in aliases.items() if canonical == name]
    return f"Also accepted as {', '.join(others)}." if others else ""


def _header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }


def _request_body(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(endpoint.body)
    if endpoint.wrapped_body is not None:
        schema = {"anyOf": [schema, schemas.of(endpoint.wrapped_body)]}
    content: dict[str, Any] = {"schema": schema}
    if endpoint.example.request is not None:
        content["example"] = endpoint.example.request
    body: dict[str, Any] = {"required": not endpoint.body_optional, "content": {"application/json": content}}
    spellings = [
        also_accepted(endpoint.body_aliases, name) for name in dict.fromkeys(endpoint.body_aliases.values())
    ]
    if spellings:
        names = dict.fromkeys(endpoint.body_aliases.values())
        body["description"] = " ".join(
            f"`{name}`: {spelling}" for name, spelling in zip(names, spellings, strict=True)
        )
    return body


def _success(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {
        "schema": {} if endpoint.reply_schema is None else schemas.of(endpoint.reply_schema)
    }
    if endpoint.example.response is not None:
        content["example"] = endpoint.example.response
    return {
        "description": HTTPStatus(endpoint.status).phrase,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {endpoint.media_type.partition(";")[0]: content},
    }
