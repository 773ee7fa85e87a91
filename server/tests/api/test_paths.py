"""A06, B09: a path means one route or none, whatever tricks it is written with."""

import pytest

from nozle_server.api.endpoint import Call, Endpoint, Scope

from .conftest import Client, Tenant

pytestmark = pytest.mark.database


async def _show(call: Call) -> object:
    return {"route": call.endpoint.path, "path": dict(call.path)}


def _route(path: str, method: str = "GET") -> Endpoint:
    return Endpoint(
        method=method, path=path, handler=_show, scope=Scope.PUBLIC, summary="", tag="", transaction=False
    )


@pytest.fixture
def things(client_of) -> Client:  # type: ignore[no-untyped-def]
    return client_of(
        _route("/things"),
        _route("/things/{id}"),
        _route("/things/current"),
        _route("/things/{thing_id}/parts/{part_id}"),
        _route("/things/{id}", "DELETE"),
    )


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("plain", "plain"),
        ("a%2Fb", "a/b"),
        ("a%2fb%2F..%2Fc", "a/b/../c"),
        ("caf%C3%A9", "café"),
        ("a%3Bb", "a;b"),
        ("a%20b", "a b"),
        ("100%25", "100%"),
        ("a+b", "a+b"),
        ("a@b:c,d=e&f$g!h'(i)*", "a@b:c,d=e&f$g!h'(i)*"),
        ("%252F", "%2F"),
        ("Current", "Current"),
        ("...", "..."),
        ("x" * 1024, "x" * 1024),
    ],
)
async def test_an_id_arrives_decoded_once_and_whole(things: Client, segment: str, value: str) -> None:
    answer = await things.send("GET", f"/api/v1/things/{segment}")
    assert answer.json == {"route": "/things/{id}", "path": {"id": value}}


async def test_names_of_parameters_are_each_endpoints_own(things: Client) -> None:
    answer = await things.send("GET", "/api/v1/things/a%2Fb/parts/c")
    assert answer.json["path"] == {"thing_id": "a/b", "part_id": "c"}


async def test_reserved_words_are_not_ids(things: Client) -> None:
    assert (await things.send("GET", "/api/v1/things/current")).json["route"] == "/things/current"
    assert (await things.send("DELETE", "/api/v1/things/current")).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/api/v1/things/",
        "//api/v1/things",
        "/api//v1/things",
        "/api/v1//things",
        "/api/v1/things//parts/c",
        "/api/v1/Things",
        "/API/v1/things",
        "/api/v1/%74hings",
        "/api/v1/things%2Fcurrent/parts",
        "/api/v1%2Fthings",
        "/api/v1/./things",
        "/api/v1/x/../things",
        "/api/v1/things/..",
        "/api/v1/things/.",
        "/api/v1/things/%2e%2e",
        "/api/v1/things/%2E%2E/parts/c",
        "/api/v1/things/.%2e",
        "/api/v1/things;a=b",
        "/api/v1/things/a;b",
        "/api/v1/things/a\\b",
        "/api/v1/things/%00",
        "/api/v1/things/a%00b",
        "/api/v1/things/a%0d%0aset-cookie:x",
        "/api/v1/things/%ff",
        "/api/v1/things/%c0%af",
        "/api/v1/things/%zz",
        "/api/v1/things/%",
        "/api/v1/things/%u0041",
        "/api/v1/things/%ed%a0%80",
        "/api/v1/things/" + "x" * 1025,
        "/api/v1/things/" + "x" * 8192,
        "/api/v1/things/" + "%20" * 8192,
        "/api/v1/things/a b",
        "/api/v1/things/é",
        "/api/v1/things/a/parts",
        "/api/v1/things/a/parts/b/c",
        "/things",
        "/v1/things",
        "http://evil/api/v1/things",
        "*",
    ],
)
async def test_no_other_spelling_finds_a_route(things: Client, path: str) -> None:
    answer = await things.send("GET", path)
    assert answer.status in (400, 404)
    assert set(answer.json) == {"error", "code"}
    assert len(answer.body) < 200


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "evil.example")],
        [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https")],
        [("x-original-url", "/health"), ("x-rewrite-url", "/health")],
        [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")],
        [("x-forwarded-prefix", "/health")],
    ],
)
async def test_headers_about_addresses_change_nothing(
    client: Client, tenant: Tenant, headers: list[tuple[str, str]]
) -> None:
    answer = await client.send("POST", "/api/v1/admin/reload", key=tenant.publishable, headers=headers)
    assert answer.status == 403


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT"]
)
async def test_no_method_turns_a_publishable_key_into_a_secret_one(
    client: Client, tenant: Tenant, method: str
) -> None:
    answer = await client.send(method, "/api/v1/admin/reload", key=tenant.publishable)
    assert answer.status in (204, 403, 405)
    if answer.status == 405:
        assert answer.headers["allow"] == "OPTIONS, POST"
        assert method == "HEAD" or answer.json["code"] == "not_allowed"


@pytest.mark.parametrize("method", ["BREW", "get", "WEBSOCKET", "G E T"])
async def test_unknown_methods_are_refused_as_json(things: Client, method: str) -> None:
    answer = await things.send(method, "/api/v1/things")
    assert answer.status in (400, 405)
    assert set(answer.json) == {"error", "code"}
