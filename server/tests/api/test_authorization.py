"""A01, A02, A15: who may call what, generated from the table, so that a new route is covered when it is declared."""

from collections.abc import Awaitable, Callable

import pytest

from nozle_server.api.app import build_app
from nozle_server.api.endpoint import Endpoint, Mount, Scope
from nozle_server.api.errors import is_core
from nozle_server.api.table import ENDPOINTS
from nozle_server.identity.key_cache import KeyCache
from nozle_server.infra.database import Database

from .conftest import AnyServices, Client, Tenant

pytestmark = pytest.mark.database

ROUTES = [
    pytest.param(endpoint, mount, id=f"{endpoint.method} {mount.value}{endpoint.path}")
    for endpoint in ENDPOINTS
    for mount in endpoint.mounts
    if endpoint.scope is not Scope.PUBLIC
]
SECRET_ROUTES = [route for route in ROUTES if route.values[0].scope is Scope.SECRET]


@pytest.fixture(scope="module")
def services(database: Database) -> AnyServices:
    return AnyServices(database, KeyCache(database))


@pytest.fixture(scope="module")
def client(services: AnyServices) -> Client:
    """One for all: the table makes a thousand tests of these few."""
    return Client(build_app(services))  # type: ignore[arg-type]


def target(endpoint: Endpoint, mount: Mount) -> str:
    return mount.value + endpoint.path.replace("{", "").replace("}", "")


def broken_keys(tenant: Tenant) -> list[tuple[str, list[tuple[str, str]], str]]:
    """24 requests that come close to carrying the key: a name, headers, and a query string."""
    key = tenant.secret
    kind, mode, text = key.split("_")
    bearer = "authorization"
    return [
        ("no header", [], ""),
        ("empty header", [(bearer, "")], ""),
        ("scheme alone", [(bearer, "Bearer")], ""),
        ("scheme and blank", [(bearer, "Bearer ")], ""),
        ("no scheme", [(bearer, key)], ""),
        ("other scheme", [(bearer, f"Basic {key}")], ""),
        ("token scheme", [(bearer, f"Token {key}")], ""),
        ("two blanks", [(bearer, f"Bearer  {key}")], ""),
        ("tab", [(bearer, f"Bearer\t{key}")], ""),
        ("trailing text", [(bearer, f"Bearer {key} x")], ""),
        ("two keys", [(bearer, f"Bearer {key}"), (bearer, f"Bearer {key}")], ""),
        ("quoted", [(bearer, f'Bearer "{key}"')], ""),
        ("one character less", [(bearer, f"Bearer {key[:-1]}")], ""),
        ("one character more", [(bearer, f"Bearer {key}a")], ""),
        ("other case", [(bearer, f"Bearer {key.swapcase()}")], ""),
        ("other kind's prefix", [(bearer, f"Bearer pk_{mode}_{text}")], ""),
        ("other mode's prefix", [(bearer, f"Bearer {kind}_live_{text}")], ""),
        ("no prefix", [(bearer, f"Bearer {text}")], ""),
        ("prefix alone", [(bearer, f"Bearer {kind}_{mode}_")], ""),
        ("very long", [(bearer, f"Bearer sk_{'a' * 100_000}")], ""),
        ("not ASCII", [(bearer, f"Bearer {key}\xe9")], ""),
        ("in the query", [], f"api_key={key}&authorization=Bearer+{key}&key={key}"),
        ("in a cookie", [("cookie", f"authorization={key}; api_key={key}")], ""),
        ("in other headers", [("x-api-key", key), ("x-nozle-key", key), ("x-authorization", key)], ""),
    ]


@pytest.mark.parametrize(("endpoint", "mount"), ROUTES)
async def test_without_a_good_key_there_is_no_way_in(
    client: Client, tenant: Tenant, endpoint: Endpoint, mount: Mount
) -> None:
    for name, headers, query in broken_keys(tenant):
        answer = await client.send(endpoint.method, f"{target(endpoint, mount)}?{query}", headers=headers)
        assert answer.status == 401, name
        if is_core(mount.value + "/"):
            assert answer.json == {"status": 401, "error": "Unauthorized"}
        else:
            assert answer.json == {"error": "invalid api key", "code": "invalid_api_key"}
        assert tenant.secret.encode() not in answer.body


@pytest.mark.parametrize(("endpoint", "mount"), SECRET_ROUTES)
async def test_a_publishable_key_opens_no_secret_endpoint(
    client: Client, tenant: Tenant, endpoint: Endpoint, mount: Mount
) -> None:
    answer = await client.send(endpoint.method, target(endpoint, mount), key=tenant.publishable)
    assert answer.status == 403
    assert answer.json["code"] == "secret_key_required"
    if mount is not Mount.CORE:
        assert answer.json["error"] == "this endpoint needs a secret key"


@pytest.mark.parametrize(("endpoint", "mount"), [route for route in ROUTES if not route.values[0].catalog])
async def test_under_catalog_only_a_publishable_key_reads_the_catalog_and_nothing_else(
    client: Client, new_tenant: Callable[..., Awaitable[Tenant]], endpoint: Endpoint, mount: Mount
) -> None:
    tenant = await new_tenant(publishable_key_access="catalog_only")
    answer = await client.send(endpoint.method, target(endpoint, mount), key=tenant.publishable)
    assert answer.status == 403


async def test_bearer_is_written_in_any_case(client: Client, tenant: Tenant) -> None:
    """RFC 9110, 11.1: the name of an authentication scheme is case-insensitive."""
    answer = await client.send("GET", "/api/v1/ping", headers=[("authorization", f"bearer {tenant.secret}")])
    assert answer.status == 200


async def test_both_kinds_of_key_open_what_is_for_any_key(client: Client, tenant: Tenant) -> None:
    for key in (tenant.secret, tenant.publishable):
        answer = await client.send("GET", "/api/v1/ping", key=key)
        assert (answer.status, answer.json) == (200, {"ok": True, "engine": "ok"})


async def test_a_method_override_is_not_heard(client: Client, tenant: Tenant) -> None:
    headers = [("x-http-method-override", "POST"), ("x-method-override", "POST")]
    answer = await client.send("GET", "/api/v1/admin/reload", key=tenant.secret, headers=headers)
    assert answer.status == 405


async def test_head_takes_the_same_way_as_get(client: Client, tenant: Tenant) -> None:
    refused = await client.send("HEAD", "/api/v1/ping")
    assert (refused.status, refused.body) == (401, b"")
    granted = await client.send("HEAD", "/api/v1/ping", key=tenant.secret)
    assert (granted.status, granted.body) == (200, b"")
    assert granted.headers["content-length"] == str(len(b'{"ok":true,"engine":"ok"}'))
