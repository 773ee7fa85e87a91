"""B03, B04, B05, B11: what may come as a body, how large, how slowly."""

import asyncio
import gzip
from collections.abc import Callable

import msgspec
import pytest

from nozle_server.api import body
from nozle_server.api.endpoint import Amount, Call, Endpoint, Scope

from .conftest import AnyServices, Client

pytestmark = pytest.mark.database

LIMIT = 2 * 1024 * 1024


class Grant(msgspec.Struct):
    amount: Amount
    note: str | None = None


async def _echo(call: Call) -> object:
    return None if call.body is None else {"amount": call.body.amount, "note": call.body.note}


def _endpoint(method: str = "POST", *, optional: bool = False) -> Endpoint:
    return Endpoint(
        method=method,
        path="/optional" if optional else "/grants",
        handler=_echo,
        scope=Scope.PUBLIC,
        summary="",
        tag="",
        body=Grant,
        body_optional=optional,
        transaction=False,
    )


@pytest.fixture
def grants(client_of: Callable[..., Client]) -> Client:
    return client_of(_endpoint(), _endpoint(optional=True), _endpoint("DELETE", optional=True))


async def test_amounts_come_and_go_exactly(grants: Client) -> None:
    for text in ("0.12", "100", "0.1000", '"5.25"', "123456789012345678.123456789012"):
        answer = await grants.send("POST", "/api/v1/grants", raw=b'{"amount": %s}' % text.encode())
        plain = text.strip('"').rstrip("0") if "." in text else text
        assert answer.body == b'{"amount":%s,"note":null}' % plain.encode()


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON", None]
)
async def test_json_may_say_that_it_is_json(grants: Client, content_type: str | None) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    answer = await grants.send("POST", "/api/v1/grants", raw=b'{"amount": 1}', headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-type", "application/json; charset=utf-16"),
        ("content-type", "application/json, text/plain"),
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
        ("content-encoding", "gzip, gzip"),
    ],
)
async def test_other_media_types_and_compression_are_415(grants: Client, name: str, value: str) -> None:
    answer = await grants.send("POST", "/api/v1/grants", raw=b'{"amount": 1}', headers=[(name, value)])
    assert answer.status == 415


async def test_a_gzip_bomb_is_not_unpacked(grants: Client) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = await grants.send("POST", "/api/v1/grants", raw=bomb, headers=[("content-encoding", "gzip")])
    assert answer.status == 415
    assert (await grants.send("POST", "/api/v1/grants", raw=bomb)).status == 400


async def test_identity_is_no_compression(grants: Client) -> None:
    headers = [("content-encoding", "identity")]
    assert (await grants.send("POST", "/api/v1/grants", raw=b'{"amount": 1}', headers=headers)).status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("raw", [None, b""])
async def test_an_optional_body_may_be_left_out(grants: Client, method: str, raw: bytes | None) -> None:
    headers = [("content-type", "text/plain")]
    answer = await grants.send(method, "/api/v1/optional", raw=raw, headers=headers)
    assert (answer.status, answer.body) == (200, b"null")


async def test_a_required_body_may_not(grants: Client) -> None:
    for raw in (None, b""):
        answer = await grants.send("POST", "/api/v1/grants", raw=raw)
        assert (answer.status, answer.json["code"]) == (400, "body_required")


async def test_a_body_of_the_largest_size_is_read(grants: Client) -> None:
    raw = b'{"amount": 1}'.ljust(LIMIT)
    assert (await grants.send("POST", "/api/v1/grants", raw=raw)).status == 200
    assert (await grants.send("POST", "/api/v1/grants", chunks=[raw[:1000], raw[1000:]])).status == 200


async def test_a_larger_one_is_413_whether_it_says_its_length_or_not(grants: Client) -> None:
    raw = b'{"amount": 1}'.ljust(LIMIT + 1)
    for answer in (
        await grants.send("POST", "/api/v1/grants", raw=raw),
        await grants.send("POST", "/api/v1/grants", chunks=[raw[:LIMIT], raw[LIMIT:]]),
        await grants.send("POST", "/api/v1/grants", chunks=[b" " * 65_536] * 64),
        await grants.send("POST", "/api/v1/grants", chunks=[raw]),
    ):
        assert (answer.status, answer.json["code"]) == (413, "body_too_large")
        assert len(answer.body) < 200


async def test_a_body_that_trickles_in_is_given_up(grants: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DEADLINE_S", 0.05)

    async def app(scope: dict[str, object], _receive: object, send: object) -> None:
        async def receive() -> dict[str, object]:
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": b" ", "more_body": True}

        await grants._app(scope, receive, send)

    answer = await Client(app).send("POST", "/api/v1/grants", raw=b'{"amount": 1}')
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"


async def test_half_a_body_is_not_taken_for_a_whole_one(grants: Client) -> None:
    async def app(scope: dict[str, object], receive: Callable[[], object], send: object) -> None:
        messages = [
            {"type": "http.request", "body": b'{"amount": 1}', "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def cut() -> dict[str, object]:
            return messages.pop(0)

        await grants._app(scope, cut, send)

    answer = await Client(app).send("POST", "/api/v1/grants", chunks=[b'{"amount": 1}'])
    assert (answer.status, answer.json["code"]) == (400, "incomplete_body")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"amount": NaN}',
        b'{"amount": Infinity}',
        b'{"amount": -1e400}',
        b'{"amount": 1e400}',
        b'{"amount": "NaN"}',
        b'{"amount": "Infinity"}',
        b'{"amount": true}',
        b'{"amount": ' + b"1" * 5000 + b"}",
        b'{"amount": ' + b"1" * 19 + b"}",
        b'{"amount": 0.' + b"1" * 400 + b"}",
        b'{"amount": "\xd9\xa1"}',
        b'{"amount": 1, "amount": 2}',
        b'{"amount": 1, "note": "\\ud800"}',
        b'{"amount": 1, "note": "\\u0000"}',
        b'{"amount": 1, "note": "\xff"}',
        b"\xef\xbb\xbf" + b'{"amount": 1}',
        '{"amount": 1}'.encode("utf-16"),
        b'{"amount": 1}{"amount": 1}',
        b'{"amount": ' + b"[" * 100_000,
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"amount"',
    ],
)
async def test_hostile_bodies_are_400_and_are_not_repeated(grants: Client, raw: bytes) -> None:
    answer = await grants.send("POST", "/api/v1/grants", raw=raw)
    assert answer.status == 400
    assert set(answer.json) == {"error", "code"}
    assert len(answer.body) < 200


async def test_fields_nobody_asked_for_are_ignored(grants: Client) -> None:
    body = {
        "amount": 1,
        "id": "x",
        "organization_id": "y",
        "balance": 10**9,
        "is_admin": True,
        "created_at": "z",
    }
    answer = await grants.send("POST", "/api/v1/grants", body=body)
    assert answer.json == {"amount": 1, "note": None}


async def test_the_limit_is_a_setting(services: AnyServices, client_of: Callable[..., Client]) -> None:
    services.settings = services.settings.model_copy(update={"max_body_bytes": 1024})
    answer = await client_of(_endpoint()).send("POST", "/api/v1/grants", raw=b'{"amount": 1}'.ljust(1025))
    assert answer.status == 413
