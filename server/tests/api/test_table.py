"""The table holds together, and the application is exactly the table."""

from dataclasses import replace

import pytest

from nozle_server.api.endpoint import CustomerData, Endpoint, Scope
from nozle_server.api.routes.health import ENDPOINTS as HEALTH
from nozle_server.api.table import ENDPOINTS
from nozle_server.api.table_rules import check_table

from .conftest import Client

PING = next(endpoint for endpoint in HEALTH if endpoint.path == "/ping")

# What the reference opens to everybody; anything else needs a key (contract 1.0).
PUBLIC = {
    "GET /health",
    "GET /metrics/queues",
    "GET /metrics",  # by address or secret, its own rule
    "GET /openapi.json",
    "GET /docs",
    "GET /entitlements/keys",  # public keys are for everybody
    "GET /.well-known/jwks.json",
    "GET /files/{workspace}/invoices/{file}",  # by its signature
    "GET /files/{workspace}/credit_notes/{file}",  # likewise
    "POST /realtime/centrifugo/subscribe",  # shows Centrifugo's key
}


def test_every_endpoint_declares_its_scope_and_how_to_read_it() -> None:
    check_table(ENDPOINTS)
    for endpoint in ENDPOINTS:
        assert isinstance(endpoint.scope, Scope), endpoint.path
        assert endpoint.summary, endpoint.path
        assert endpoint.tag, endpoint.path
        assert endpoint.reply_schema is not None, endpoint.path


def test_what_is_public_is_listed_here() -> None:
    public = {f"{one.method} {one.path}" for one in ENDPOINTS if one.scope is Scope.PUBLIC}
    assert public == PUBLIC


@pytest.mark.database
async def test_every_endpoint_is_mounted(client: Client) -> None:
    for endpoint in ENDPOINTS:
        for mount in endpoint.mounts:
            path = mount.value + endpoint.path.replace("{", "").replace("}", "")
            answer = await client.send("OPTIONS", path)
            assert endpoint.method in answer.headers["allow"].split(", ")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PING, path="/with//empty"),
        replace(PING, path="/trailing/"),
        replace(PING, path="/Upper"),
        replace(PING, mounts=()),
        replace(PING, idempotent=True),
        replace(PING, transaction=True, key_required=True),
        replace(PING, transaction=True, tells_replay=True),
        replace(PING, own_claims=True),
        replace(PING, scope=Scope.ANY_KEY, idempotent=True, own_claims=True, transaction=True),
        replace(PING, wrapped_key="customer"),
        replace(PING, scope=Scope.PUBLIC, idempotent=True, transaction=True),
        replace(PING, transaction=True, customer_data=CustomerData("query", "customer_id", "billing:read")),
        replace(PING, transaction=True, customer_data=CustomerData("path", "id", "billing:read")),
        replace(PING, transaction=True, customer_data=CustomerData("cookie", "id", "billing:read")),
        replace(PING, transaction=False, customer_data=CustomerData("handler", "", "billing:read")),
    ],
)
def test_a_row_that_contradicts_itself_stops_the_start(wrong: Endpoint) -> None:
    with pytest.raises(AssertionError):
        check_table([wrong])


def test_two_rows_cannot_claim_one_route() -> None:
    one = replace(PING, path="/things/{id}")
    with pytest.raises(AssertionError):
        check_table([one, replace(PING, path="/things/{name}")])
