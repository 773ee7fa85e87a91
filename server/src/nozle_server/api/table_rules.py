"""What must be true of the list of endpoints, whoever adds to it."""

import re
from collections.abc import Sequence

import msgspec

from nozle_server.api.endpoint import Endpoint, Scope

_PATH = re.compile(r"(?:/(?:[a-z0-9_.-]+|\{[a-z_]+\}))+")


def parameter_names(path: str) -> tuple[str, ...]:
    """The names in braces, in order."""
    return tuple(re.findall(r"\{([a-z_]+)\}", path))


def check_table(endpoints: Sequence[Endpoint]) -> None:
    """Refuse a list that contradicts itself, when the process starts rather than when the route is called."""
    seen: set[tuple[str, str]] = set()
    for endpoint in endpoints:
        name = f"{endpoint.method} {endpoint.path}"
        assert _PATH.fullmatch(endpoint.path), f"{name}: the path is malformed"
        assert endpoint.mounts, f"{name}: it is mounted nowhere"
        assert endpoint.scope is not Scope.PUBLIC or not endpoint.idempotent, (
            f"{name}: keys belong to organizations"
        )
        assert endpoint.idempotent or not (
            endpoint.key_required or endpoint.tells_replay or endpoint.ledger
        ), f"{name}: takes no keys"
        by_handler = endpoint.customer_data is not None and endpoint.customer_data.where == "handler"
        assert endpoint.transaction or not by_handler, f"{name}: needs a transaction"
        assert endpoint.own_claims == (endpoint.idempotent and not endpoint.transaction), (
            f"{name}: either the edge writes keys and answers, in its transaction, or the handler does"
        )
        assert (endpoint.wrapped_key is None) == (endpoint.wrapped_body is None), (
            f"{name}: half a wrapped body"
        )
        assert not (endpoint.lane and parameter_names(endpoint.path)), f"{name}: the lane knows whole paths"
        _check_customer_field(endpoint, name)
        _check_turns(endpoint, name)
        for mount in endpoint.mounts:
            # Parameters by place, as the router sees them: their names do not keep two routes apart.
            route = (endpoint.method, re.sub(r"\{[a-z_]+\}", "{}", mount.value + endpoint.path))
            assert route not in seen, f"{name}: declared twice under {mount.name}"
            seen.add(route)


def _check_customer_field(endpoint: Endpoint, name: str) -> None:
    data = endpoint.customer_data
    if data is None or data.where == "handler":
        return
    assert data.where in ("path", "query", "body"), f"{name}: no such place as {data.where}"
    if data.where == "path":
        fields: Sequence[str] = parameter_names(endpoint.path)
    else:
        kind = endpoint.query if data.where == "query" else endpoint.body
        fields = [field.name for field in msgspec.structs.fields(kind)] if kind else []
    assert data.name in fields, f"{name}: no field {data.name} holds the customer"


def _check_turns(endpoint: Endpoint, name: str) -> None:
    assert endpoint.transaction or not endpoint.one_at_a_time, f"{name}: locks nothing in its own transaction"
    for where, field in endpoint.one_at_a_time:
        fields = (
            parameter_names(endpoint.path)
            if where == "path"
            else [one.name for one in msgspec.structs.fields(endpoint.body)]
            if endpoint.body
            else ()
        )
        assert field in fields, f"{name}: no field {field} holds a customer"
