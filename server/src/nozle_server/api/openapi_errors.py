"""How the OpenAPI document describes errors: which statuses an endpoint may answer, and in which form."""

from typing import Any

from nozle_server.api.endpoint import Endpoint, Mount, Scope
from nozle_server.api.schemas import Schema

ERROR: Schema = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "A sentence for people."},
        "code": {"type": "string", "description": "A stable word for programs."},
    },
}
CORE_ERROR: Schema = {
    "type": "object",
    "required": ["status", "error"],
    "properties": {
        "status": {"type": "integer"},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "error_details": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}

_MEANINGS = {
    400: "The request cannot be read, or is malformed.",
    401: "No key, or none that we know.",
    403: "The key has no right to this.",
    404: "The named object does not exist in this organization.",
    405: "The object's state does not allow this.",
    408: "The body took too long.",
    409: "The request contradicts what is stored.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or is compressed.",
    422: "The request is well formed, but a rule forbids it.",
    429: "Too many requests.",
    503: "The database or another dependency cannot be had now; retry after `Retry-After` seconds.",
}


def error_statuses(endpoint: Endpoint, mount: Mount) -> tuple[int, ...]:
    """Every status besides success that the endpoint may answer here: its own and those of the edge."""
    statuses = set(endpoint.errors)
    has_input = endpoint.body is not None or endpoint.query is not None
    if has_input or "{" in endpoint.path or endpoint.idempotent:
        statuses.add(400)
    if has_input and mount is Mount.CORE:
        statuses.add(422)
    if "{" in endpoint.path:
        statuses.add(404)
    if endpoint.scope is not Scope.PUBLIC:
        statuses |= {401, 403, 503}
    if endpoint.body is not None:
        statuses |= {408, 413, 415}
    if endpoint.idempotent:
        statuses.add(409)
    if endpoint.transaction:
        statuses.add(503)
    return tuple(sorted(statuses))


def response_name(status: int, mount: Mount) -> str:
    """The component that describes this status in the form of errors at this mount."""
    return f"{'CoreError' if mount is Mount.CORE else 'Error'}{status}"


def error_responses() -> dict[str, Any]:
    """All such components."""
    responses: dict[str, Any] = {}
    for status, meaning in _MEANINGS.items():
        headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if status in (429, 503):
            headers["Retry-After"] = {"schema": {"type": "integer"}}
        for mount, name in ((Mount.SEED, "Error"), (Mount.CORE, "CoreError")):
            responses[response_name(status, mount)] = {
                "description": meaning,
                "headers": headers,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
            }
    return responses
