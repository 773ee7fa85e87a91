"""A16 and Decision 10: browsers may call from anywhere, never with cookies; an origin opens nothing by itself."""

from collections.abc import Callable

import pytest

from nozle_server.api.table import ENDPOINTS

from .conftest import AnyServices, Client, Tenant

pytestmark = pytest.mark.database

ORIGIN = [("origin", "https://app.example")]
PREFLIGHT = [
    *ORIGIN,
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization"),
]


async def test_a_preflight_needs_no_key(client: Client) -> None:
    answer = await client.send("OPTIONS", "/api/v1/admin/reload", headers=PREFLIGHT)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert allowed == ["Authorization", "Content-Type", "Idempotency-Key", "X-Nozle-Customer-Session"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_every_routed_path_answers_preflights_and_no_other(client: Client) -> None:
    for endpoint in ENDPOINTS:
        for mount in endpoint.mounts:
            path = mount.value + endpoint.path.replace("{", "").replace("}", "")
            assert (await client.send("OPTIONS", path, headers=PREFLIGHT)).status == 204
    assert (await client.send("OPTIONS", "/api/v1/nothing", headers=PREFLIGHT)).status == 404


async def test_answers_expose_what_a_browser_should_read(client: Client, tenant: Tenant) -> None:
    for key in (tenant.secret, None):
        answer = await client.send("GET", "/api/v1/ping", key=key, headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "X-Request-Id, Retry-After"
        assert "access-control-allow-credentials" not in answer.headers


async def test_an_origin_is_no_key(client: Client) -> None:
    assert (await client.send("GET", "/api/v1/ping", headers=ORIGIN)).status == 401


async def test_named_origins_are_the_only_ones(
    services: AnyServices, client_of: Callable[..., Client]
) -> None:
    services.settings = services.settings.model_copy(
        update={"cors_allowed_origins": ("https://app.example",)}
    )
    client = client_of(*ENDPOINTS)
    friend = await client.send("OPTIONS", "/api/v1/ping", headers=PREFLIGHT)
    assert friend.headers["access-control-allow-origin"] == "https://app.example"
    assert friend.headers["vary"] == "Origin"
    for origin in ("https://evil.example", "null", "https://app.example.evil", "HTTPS://APP.EXAMPLE"):
        stranger = await client.send("OPTIONS", "/api/v1/ping", headers=[("origin", origin)])
        assert not [name for name in stranger.headers if name.startswith("access-control")]
        assert stranger.headers["vary"] == "Origin"
