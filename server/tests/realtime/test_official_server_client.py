"""Centrifugo's official client for the server API against our stand-in, which so answers what that client understands; and
our own client beside it: it asks the same, and takes the same for success and for failure."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import cent
import pytest
from aiohttp import web
from cent import dto
from cent.exceptions import CentTimeoutError
from pydantic import ValidationError

from nozle_server.realtime import centrifugo_api
from nozle_server.realtime.centrifugo_api import REVOKED, CentrifugoApi, CentrifugoUnavailable, ToPublish

from .fake_centrifugo import KEY, MESSAGES, FakeCentrifugo, Request, standing_in
from .official_server_client import check

CHANNEL = "customer:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01:acme"
WORKSPACE = "workspace:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01:entitlements"
USER = "customer:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e02"
DATA = {"feature": "sso", "allowed": True, "used": 0, "limit": None}


@pytest.fixture
async def fake() -> AsyncIterator[FakeCentrifugo]:
    async with standing_in() as fake:
        yield fake


@pytest.fixture
async def official(fake: FakeCentrifugo) -> AsyncIterator[cent.AsyncClient]:
    async with cent.AsyncClient(f"{fake.url}/api", KEY, timeout=1.0) as client:
        yield client


@pytest.fixture
async def ours(fake: FakeCentrifugo) -> AsyncIterator[CentrifugoApi]:
    api = CentrifugoApi(fake.url, KEY)
    yield api
    await api.close()


def a_publication(channel: str = CHANNEL, key: str = "k") -> cent.PublishRequest:
    return cent.PublishRequest(channel=channel, data=DATA, idempotency_key=key)


def the_same(publication: cent.PublishRequest) -> ToPublish:
    assert publication.idempotency_key is not None
    return ToPublish(publication.channel, publication.idempotency_key, json.dumps(publication.data).encode())


def a_disconnect(user: str = USER) -> cent.DisconnectRequest:
    disconnect = cent.Disconnect(code=4501, reason="invalid token")
    assert disconnect.model_dump() == REVOKED
    return cent.DisconnectRequest(user=user, disconnect=disconnect)


# What the official client hears from the stand-in.


async def test_it_publishes(official: cent.AsyncClient, fake: FakeCentrifugo) -> None:
    """Offsets count up; the same key in the same channel is the same publication, and in another it is not."""
    first = await official.publish(a_publication())
    assert (first.offset, first.epoch) == (1, "fake")
    assert (await official.publish(a_publication())) == first
    assert (await official.publish(a_publication(key="l"))).offset == 2
    assert (await official.publish(a_publication(WORKSPACE))).offset == 1
    assert fake.histories == {CHANNEL: [DATA, DATA], WORKSPACE: [DATA]}


async def test_without_a_key_every_publication_is_another(official: cent.AsyncClient) -> None:
    offsets = [(await official.publish(cent.PublishRequest(channel=CHANNEL, data={}))).offset for _ in "12"]
    assert offsets == [1, 2]


async def test_it_disconnects(official: cent.AsyncClient, fake: FakeCentrifugo) -> None:
    assert await official.disconnect(a_disconnect()) == cent.DisconnectResult()
    assert fake.disconnected == [USER]


async def test_it_does_both_in_a_batch(official: cent.AsyncClient, fake: FakeCentrifugo) -> None:
    batch = cent.BatchRequest(requests=[a_publication(), a_disconnect(), a_publication(WORKSPACE)])
    found = await official.batch(batch)
    assert found.replies == [
        cent.PublishResult(offset=1, epoch="fake"),
        cent.DisconnectResult(),
        cent.PublishResult(offset=1, epoch="fake"),
    ]
    assert (set(fake.histories), fake.disconnected) == ({CHANNEL, WORKSPACE}, [USER])


@pytest.mark.parametrize(
    ("publication", "code"),
    [
        (cent.PublishRequest(channel="chat:index", data=DATA), 102),
        (cent.PublishRequest(channel="", data=DATA), 107),
        (cent.PublishRequest(channel=CHANNEL, data=None), 107),
    ],
    ids=["unknown namespace", "no channel", "no data"],
)
async def test_it_is_refused_with_the_code_of_what_is_wrong(
    official: cent.AsyncClient, fake: FakeCentrifugo, publication: cent.PublishRequest, code: int
) -> None:
    with pytest.raises(cent.CentApiResponseError) as refused:
        await official.publish(publication)
    assert (refused.value.code, refused.value.message) == (code, MESSAGES[code])
    # In a batch, of whose errors it makes a KeyError: as they stand there, in the form that it reads elsewhere.
    async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as session:
        asked = cent.BatchRequest(requests=[publication, a_publication()]).api_payload
        answer = await (await session.post(f"{fake.url}/api/batch", json=asked)).json()
    [failed, done] = answer["replies"]
    assert dto.Response[cent.PublishResult].model_validate(failed, strict=True).error == dto.Error(
        code=code, message=MESSAGES[code]
    )
    assert cent.PublishResult.model_validate(done["publish"], strict=True).offset == 1


async def test_a_command_without_a_method_is_not_found(fake: FakeCentrifugo) -> None:
    async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as session:
        answer = await session.post(f"{fake.url}/api/batch", json={"commands": [{"nothing": {}}]})
        assert await answer.json() == {"replies": [{"error": {"code": 104, "message": "not found"}}]}


async def test_a_wrong_key_is_unauthorized(fake: FakeCentrifugo) -> None:
    async with cent.AsyncClient(f"{fake.url}/api", "wrong") as official:
        for ask in (
            official.publish(a_publication()),
            official.disconnect(a_disconnect()),
            official.batch(cent.BatchRequest(requests=[a_publication()])),
        ):
            with pytest.raises(cent.CentUnauthorizedError):
                await ask
    ours = CentrifugoApi(fake.url, "wrong")
    with pytest.raises(CentrifugoUnavailable, match="401"):
        await ours.publish([the_same(a_publication())])
    await ours.close()
    assert not fake.commands


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    "wrong",
    [
        {"channel": 5},
        {"channel": CHANNEL, "data": {}, "idempotency_key": 5},
        {"user": USER, "disconnect": {"code": "4501"}},
        {"user": USER, "disconnect": {"code": -1}},
        {"user": USER, "disconnect": 4501},
    ],
    ids=str,
)
async def test_a_field_of_another_type_makes_a_bad_request_of_the_whole(
    official: cent.AsyncClient, fake: FakeCentrifugo, wrong: dict[str, Any]
) -> None:
    kind: Any = cent.DisconnectRequest if "user" in wrong else cent.PublishRequest
    request = kind.model_construct(**wrong)
    for ask in (
        official._send(request),
        official.batch(cent.BatchRequest(requests=[a_publication(), request])),
    ):
        with pytest.raises(cent.CentTransportError) as refused:
            await ask
        assert refused.value.status_code == 400
    assert not fake.histories


async def test_a_method_that_there_is_not_is_not_found(official: cent.AsyncClient) -> None:
    request = a_publication()
    request.__class__ = type("Nothing", (cent.PublishRequest,), {"__api_method__": "nothing"})
    with pytest.raises(cent.CentTransportError) as refused:
        await official.publish(request)
    assert refused.value.status_code == 404


# Our own client beside it.


async def test_ours_asks_what_the_official_client_asks(
    official: cent.AsyncClient, ours: CentrifugoApi, fake: FakeCentrifugo
) -> None:
    """The same path, key, type of content and commands."""
    publications = [a_publication(), a_publication(WORKSPACE, "l")]
    disconnects = [a_disconnect(), a_disconnect("workspace:1")]
    await official.batch(cent.BatchRequest(requests=publications))
    assert await ours.publish([the_same(one) for one in publications]) == [True, True]
    await official.batch(cent.BatchRequest(requests=disconnects))
    assert await ours.disconnect([one.user for one in disconnects])
    asked = [
        (
            one.path,
            one.headers["X-API-Key"],
            one.headers["Content-Type"],
            {"parallel": False, **json.loads(one.body)},
        )
        for one in fake.requests
    ]
    assert asked[0] == asked[1]
    assert asked[2] == asked[3]
    for request in fake.requests:
        check(request)


def _answer(status: int, body: bytes) -> Callable[..., web.Response]:
    return lambda *_: web.Response(status=status, body=body, content_type="application/json")


@pytest.mark.parametrize(
    ("fault", "official_says"),
    [
        (_answer(500, b""), cent.CentTransportError),
        (_answer(503, b'{"replies":[{"publish":{}}]}'), cent.CentTransportError),
        (_answer(429, b""), cent.CentTransportError),
        (_answer(200, b""), cent.CentDecodeError),
        (_answer(200, b"<html>"), cent.CentDecodeError),
        (lambda *_: asyncio.sleep(5), CentTimeoutError),
    ],
    ids=["500", "503", "429", "empty", "html", "silent"],
)
async def test_where_the_official_client_fails_ours_does_not_know_what_was_done(
    official: cent.AsyncClient,
    ours: CentrifugoApi,
    fake: FakeCentrifugo,
    fault: Any,
    official_says: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(centrifugo_api, "TIMEOUT_S", 0.3)
    fake.fault = fault
    with pytest.raises(official_says):
        await official.batch(cent.BatchRequest(requests=[a_publication()]), timeout=0.3)
    with pytest.raises(CentrifugoUnavailable):
        await ours.publish([the_same(a_publication())])
    with pytest.raises(CentrifugoUnavailable):
        await ours.disconnect([USER])


async def test_where_nobody_listens_both_fail(
    official: cent.AsyncClient, ours: CentrifugoApi, fake: FakeCentrifugo
) -> None:
    await fake.stop()
    with pytest.raises(cent.CentNetworkError):
        await official.publish(a_publication())
    with pytest.raises(CentrifugoUnavailable):
        await ours.publish([the_same(a_publication())])


async def test_ours_tries_again_what_may_go_better_and_nothing_else(
    ours: CentrifugoApi, fake: FakeCentrifugo
) -> None:
    """Of each command its own answer, in their order."""
    codes: list[int | None] = [100, 102, None, 104, 107, 108]
    answers = iter(codes)
    fake.refuse = lambda _: next(answers)
    told = await ours.publish([the_same(a_publication(key=str(code))) for code in codes])
    assert told == [code != 100 for code in codes]


# The judge.


@pytest.mark.parametrize(
    ("path", "key", "command"),
    [
        ("/api/publish", KEY, {"publish": {"channel": CHANNEL, "data": {}}}),
        ("/api/batch", "wrong", {"publish": {"channel": CHANNEL, "data": {}}}),
        ("/api/batch", KEY, {"publish": {"channel": CHANNEL, "data": {}, "key": "k"}}),
        ("/api/batch", KEY, {"publish": {"channel": CHANNEL, "data": {}, "idempotency_key": 1}}),
        ("/api/batch", KEY, {"publish": {"channel": CHANNEL}}),
        ("/api/batch", KEY, {"publication": {"channel": CHANNEL, "data": {}}}),
        ("/api/batch", KEY, {"publish": {"channel": CHANNEL, "data": {}}, "disconnect": {"user": USER}}),
        ("/api/batch", KEY, {"disconnect": {"user": USER, "disconnect": {"code": "4501"}}}),
        ("/api/batch", KEY, {"disconnect": {"user": USER, "disconnect": {"code": 4501, "reconnect": False}}}),
    ],
    ids=str,
)
def test_requests_that_deviate_are_found(path: str, key: str, command: Any) -> None:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    body = json.dumps({"commands": [command]}).encode()
    with pytest.raises((AssertionError, ValidationError, KeyError, ValueError)):
        check(Request(path, headers, body))
