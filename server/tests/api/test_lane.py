"""The lane and the framework answer alike, whatever is sent: bytes, closing, timers, log, counts, and what the handler saw."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
import structlog
import uvicorn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nozle_server.api import http_protocol
from nozle_server.api.app import Application, build_app
from nozle_server.api.endpoint import BOTH, Amount, Call, Endpoint, Reply, Scope
from nozle_server.api.heads import MAX_HEADS
from nozle_server.api.lane import LaneProtocol, _Exchange
from nozle_server.core.errors import NotFound, RuleBroken, Unavailable
from nozle_server.identity.model import KeyKind, Mode, Principal
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings

from .conftest import AnyServices

SECRET, PUBLISHABLE = "sk_test_secret", "pk_test_publishable"
MAX_BODY = 4096
TURNS = 300


class Body(msgspec.Struct):
    customer_id: str
    credits: Amount
    mode: Literal[
        "echo", "wait", "never", "reply", "bodiless", "refuse", "missing", "busy", "crash", "cut"
    ] = "echo"


class Query(msgspec.Struct):
    at: str | None = None
    of: list[str] = msgspec.field(default_factory=list)


async def spend(call: Call) -> object:
    """Tells all that it sees, in one of several ways."""
    body: Body = call.body
    seen = {
        "customer": body.customer_id,
        "credits": body.credits,
        "query": msgspec.to_builtins(call.query),
        "mount": call.mount.name,
        "request_id": call.request_id,
        "headers": dict(call.headers),
        "org_id": call.org_id,
        "client": call.client,
        "at": call.received_at,
        "claim": None if call.claim is None else [call.claim.key, call.claim.request_hash.hex()],
    }
    match body.mode:
        case "wait":
            for _ in range(5):
                await asyncio.sleep(0)
        case "never":
            await asyncio.get_running_loop().create_future()
        case "reply":
            return Reply(seen, status=201, headers={"x-made": "here", "vary": "Accept"})
        case "bodiless":
            return Reply(seen, status=204)
        case "refuse":
            raise RuleBroken("not today", code="not_today")
        case "missing":
            raise NotFound("no such customer", code="customer_not_found")
        case "busy":
            raise Unavailable("busy")
        case "crash":
            raise RuntimeError("told to")
        case "cut":
            return Reply(seen, headers={"connection": "close"})
    return seen


async def ping(_call: Call) -> object:
    return {"pong": True}


ENDPOINTS = (
    Endpoint(
        method="POST", path="/spend", handler=spend, scope=Scope.SECRET, mounts=BOTH, summary="", tag="", body=Body,
        body_aliases={"customerId": "customer_id"}, query=Query, transaction=False, idempotent=True, own_claims=True,
        lane=True,
    ),
    Endpoint(
        method="GET", path="/ping", handler=ping, scope=Scope.PUBLIC, summary="", tag="", transaction=False, lane=True
    ),
    Endpoint(method="GET", path="/spend", handler=ping, scope=Scope.PUBLIC, summary="", tag="", transaction=False),
)  # fmt: skip


class Keys:
    """Two keys of one organization; the lookup takes a turn of the loop for one of them, as a query would."""

    async def find(self, key_text: str) -> Principal | None:
        if key_text == PUBLISHABLE:
            await asyncio.sleep(0)
        kind = {SECRET: KeyKind.SECRET, PUBLISHABLE: KeyKind.PUBLISHABLE}.get(key_text)
        return None if kind is None else Principal(UUID(int=1), UUID(int=2), kind, Mode.LIVE, "open", False)


class Wire(asyncio.Transport):
    """The transport of a connection that exists in memory alone."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8080), "peername": ("192.0.2.7", 50_000)})
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if not self.closed:
            self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class Server:
    """An application and what uvicorn would keep for it."""

    app: Application
    metrics: Callable[[], bytes]
    log: io.BytesIO
    config: uvicorn.Config = field(init=False)
    state: uvicorn.server.ServerState = field(default_factory=uvicorn.server.ServerState)

    def __post_init__(self) -> None:
        self.config = uvicorn.Config(
            self.app, http=LaneProtocol, ws="none", interface="asgi3", lifespan="off", log_config=None,
            access_log=False, proxy_headers=False,
        )  # fmt: skip
        self.config.load()
        self.state.default_headers = [(b"date", b"Thu, 15 Jan 2026 10:30:00 GMT")]

    def connect(self) -> "Connection":
        protocol = LaneProtocol(config=self.config, server_state=self.state, app_state={})
        connection = Connection(self, protocol, Wire())
        protocol.connection_made(connection.wire)
        return connection


@dataclass
class Connection:
    server: Server
    protocol: LaneProtocol
    wire: Wire

    def receive(self, piece: bytes) -> None:
        """Feed what one read of the socket would bring."""
        if not self.wire.closed:
            self.protocol.data_received(piece)

    async def settle(self) -> None:
        """Let the loop turn until nothing more can happen by itself."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not self.server.state.tasks:
                break
        for _ in range(3):
            await asyncio.sleep(0)

    def look(self) -> dict[str, object]:
        """What can be seen of the connection, from outside and from uvicorn."""
        return {
            "sent": re.sub(rb"req_[0-9a-f]{24}", b"req_random", self.wire.sent),
            "closed": self.wire.closed,
            # While one request is under way, what is pipelined behind it may wait unread.
            "reading": self.wire.reading or self.wire.closed or bool(self.server.state.tasks),
            "keep_alive_timer": self.protocol.timeout_keep_alive_task is not None,
            "deadline": self.protocol._deadline is not None,
            "answered": self.server.state.total_requests,
            "under_way": len(self.server.state.tasks),
        }

    async def lose(self, reset: ConnectionResetError | None = None) -> None:
        self.protocol.connection_lost(reset)
        await self.settle()

    async def cancel(self) -> None:
        """Stop what goes on although nobody is there any more."""
        for task in [*self.server.state.tasks]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def _server(*, lane: bool) -> Server:
    log = io.BytesIO()
    configure_logging("info", log)
    services = AnyServices(None, Keys(), Settings(lane=lane, max_body_bytes=MAX_BODY))  # type: ignore[arg-type]
    app = build_app(services, ENDPOINTS)  # type: ignore[arg-type]
    return Server(app, services.metrics.render, log)


@pytest.fixture(autouse=True)
def _quiet() -> AsyncIterator[None]:
    yield
    structlog.reset_defaults()


async def _exchange(server: Server, pieces: Sequence[bytes], *, pausing: bool, cut: bool) -> list[object]:
    """What came of sending `pieces`, and of losing the connection then; with `cut` it is lost before all is answered."""
    connection = server.connect()
    for piece in pieces:
        connection.receive(piece)
        if pausing:
            await connection.settle()
    if cut:
        # One turn, in which each begins: whether a request is done whose caller left before that is nobody's promise.
        await asyncio.sleep(0)
    else:
        await connection.settle()
    outcome: list[object] = [connection.look()]
    await connection.lose(ConnectionResetError() if cut else None)
    after = connection.look()
    outcome += [after["sent"], after["answered"], after["under_way"], len(server.state.connections)]
    outcome += [_lines(server.log.getvalue()), _counts(server.metrics())]
    await connection.cancel()
    return outcome


def _lines(log: bytes) -> list[object]:
    lines = []
    for line in log.splitlines():
        entry = json.loads(line)
        known = {
            name: value for name, value in entry.items() if name not in ("time", "duration_ms", "exception")
        }
        if "request_id" in known:
            known["request_id"] = re.sub(r"req_[0-9a-f]{24}", "req_random", known["request_id"])
        lines.append(known)
    return lines


def _counts(metrics: bytes) -> list[bytes]:
    return sorted(re.findall(rb"(?m)^nozle_api_requests_total.*$", metrics))


async def compare(*pieces: bytes, pausing: bool = False, cut: bool = False) -> Any:
    """Send the same to a server with the lane and to one without; what they did, which must be the same."""
    by_lane = await _exchange(_server(lane=True), pieces, pausing=pausing, cut=cut)
    by_framework = await _exchange(_server(lane=False), pieces, pausing=pausing, cut=cut)
    assert by_lane == by_framework
    return by_lane[0]


def request(
    body: bytes | str | None = b'{"customer_id":"acme","credits":1.50}',
    *more: bytes,
    method: bytes = b"POST",
    url: bytes = b"/api/v1/spend",
    version: bytes = b"HTTP/1.1",
    key: str | None = SECRET,
    length: bytes | None = b"",
    media_type: bytes | None = b"application/json",
    request_id: bytes | None = b"trace-1",
) -> bytes:
    """A plain request but for what is said otherwise; `more` are header lines."""
    if isinstance(body, str):
        body = json.dumps({"customer_id": "acme", "credits": 2, "mode": body}).encode()
    lines = [method + b" " + url + b" " + version, b"Host: api.example.com"]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key.encode())
    if request_id is not None:
        lines.append(b"X-Request-Id: " + request_id)
    if body is not None:
        if media_type is not None:
            lines.append(b"Content-Type: " + media_type)
        if length is not None:
            lines.append(b"Content-Length: " + (length or b"%d" % len(body)))
    return b"\r\n".join([*lines, *more]) + b"\r\n\r\n" + (body or b"")


async def test_a_plain_request_goes_by_the_lane_and_one_switch_turns_that_off() -> None:
    for lane, url in ((True, b"/api/v1/spend"), (True, b"/api/v1/spend?at=1"), (False, b"/api/v1/spend")):
        connection = _server(lane=lane).connect()
        connection.receive(request(url=url))
        assert (type(connection.protocol.cycle) is _Exchange) is lane
        await connection.settle()
        assert connection.wire.sent.startswith(b"HTTP/1.1 200 OK\r\ndate: Thu, 15 Jan 2026 10:30:00 GMT\r\n")
        await connection.lose()


@pytest.mark.parametrize(
    "mode", ["echo", "wait", "reply", "bodiless", "refuse", "missing", "busy", "crash", "cut"]
)
@pytest.mark.parametrize("mount", [b"/api/v1", b"/engine/api/v1", b"/core/api/v1"])
async def test_every_kind_of_answer_is_the_same(mode: str, mount: bytes) -> None:
    outcome = await compare(request(mode, url=mount + b"/spend"))
    assert outcome["sent"].count(b"HTTP/1.1 ") == 1
    assert b"trace-1" in outcome["sent"]
    assert outcome["closed"] is (mode == "cut")


async def test_a_head_is_read_once_and_means_the_same_from_then_on() -> None:
    """Whatever its bodies are, how they arrive, on whichever connection, and what is sent behind them."""
    first = request(b'{"customer_id":"acme","credits":1.50}', request_id=None)
    alike = request(b'{"customer_id":"acme","credits":2.25}', request_id=None)
    broken = request(b'{"customer_id":"acme","credits":.....', request_id=None)
    longer = request(b'{"customer_id":"globex","credits":1.5}', request_id=None)
    slow = request("wait", request_id=None)
    for pieces in (
        (first, alike, first),
        (first, broken, alike),
        (first, longer, alike, longer),
        (first, alike[:-1], alike[-1:], alike),
        (first, alike[:40], alike[40:], alike),
        (first, alike + longer, alike),
        (first, alike + b"\r\n", alike),
        (first, alike + b"x", alike),
        (first, b"\r\n" + alike, alike),
        (first + alike, alike, alike),
        (slow, slow + first, slow, first, alike),
        (first, request(None, method=b"GET", url=b"/api/v1/ping", request_id=None), alike),
    ):
        for pausing in (True, False):
            await compare(*pieces, pausing=pausing)
    server = _server(lane=True)
    for piece in (first, alike, broken, alike):
        connection = server.connect()
        for _ in range(2):  # at rest after the first
            connection.receive(piece)
            await connection.settle()
    assert server.app.lane is not None
    assert len(server.app.lane.heads) == 1
    assert connection.wire.sent.count(b'"credits":2.25') == 2
    await connection.lose()


async def test_a_head_that_no_other_request_has_is_not_remembered() -> None:
    server = _server(lane=True)
    connection = server.connect()
    for piece in (
        request(),
        request(None, b"Idempotency-Key: k1", request_id=None),
        request(request_id=None) * 2,
    ):
        connection.receive(piece)
        await connection.settle()
    assert server.app.lane is not None
    assert len(server.app.lane.heads) == 0
    await connection.lose()


async def test_heads_are_bounded() -> None:
    server = _server(lane=True)
    connection = server.connect()
    for number in range(MAX_HEADS):
        connection.receive(
            request(None, b"X-Number: %d" % number, method=b"GET", url=b"/api/v1/ping", request_id=None)
        )
        await connection.settle()
    assert server.app.lane is not None
    assert 0 < len(server.app.lane.heads) <= MAX_HEADS
    await connection.lose()


BODIES = [
    b"", b" ", b"{", b"{}", b"[]", b"null", b"1", b'"x"', b"nonsense", b'{"customer_id":"acme"}',
    b'{"customer_id":"acme","credits":"1.5"}', b'{"customer_id":"acme","credits":1e2}', b'{"customer_id":7,"credits":1}',
    b'{"customer_id":"acme","credits":1,"credits":2}', b'{"customer_id":"acme","credits":NaN}',
    b'{"customer_id":"acme","credits":1e999999999}', b'{"customerId":"acme","credits":1}',
    b'{"customerId":"acme","customer_id":"other","credits":1}', b'{"customer_id":"\\ud800","credits":1}',
    b'{"customer_id":"\\u0000","credits":1}', b'{"customer_id":"\xff","credits":1}', b'\xef\xbb\xbf{"credits":1}',
    b'{"customer_id":"acme","credits":1}{}', b'{"customer_id":"acme","credits":null}', b"[" * 200, b"{\x00}",
    b'{"customer_id":"acme","credits":1,"mode":"none"}', b'{"customer_id":"acme","credits":1,"extra":[{"a":null}]}',
    b'{"customer_id":"' + "äöü€😀".encode() + b'","credits":0.1}', b"x" * MAX_BODY, b"x" * (MAX_BODY + 1),
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
async def test_a_bad_body_is_refused_alike(body: bytes) -> None:
    await compare(request(body))
    await compare(request(body, media_type=None), request(b'{"customer_id":"next","credits":1}'))


HEADERS: list[tuple[bytes, ...]] = [
    (b"Origin: https://app.example.com",), (b"Origin: ",), (b"Idempotency-Key: k1",), (b"Idempotency-Key: ",),
    (b"Idempotency-Key: k1", b"idempotency-key: k2"), (b"Idempotency-Key: \xc3\xa4",), (b"Idempotency-Key: \xff",),
    (b"Idempotency-Key: " + b"k" * 256,), (b"Authorization: Bearer sk_test_secret",), (b"AUTHORIZATION: x",),
    (b"Content-Type: text/plain",), (b"Content-Encoding: gzip",), (b"Content-Encoding: identity",),
    (b"Content-Length: 5",), (b"content-length: 38",), (b"Transfer-Encoding: chunked",),
    (b"Transfer-Encoding: identity",), (b"Transfer-Encoding: gzip, chunked",), (b"Expect: 100-continue",),
    (b"Expect: something",), (b"Connection: close",), (b"Connection: keep-alive",), (b"Connection: Close, x",),
    (b"Connection: Upgrade", b"Upgrade: websocket"), (b"Connection: Upgrade", b"Upgrade: h2c"), (b"Upgrade: h2c",),
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"),
    (b"X-Request-Id: again",), (b"X-Forwarded-For: 1.2.3.4",), (b"X-Nozle-Customer-Session: csess_x",),
    (b"Cookie: a=b; c=d",), (b"X: a\tb",), (b"X: \xff\xfe",), (b"X:",), (b"X:    ",), (b"X : a",), (b"X y: a",),
    (b"X: a\x00b",), (b"X: a\x01b",), (b"X: a", b" folded"), (b"X: a\rb",), (b"Trailer: x",), (b"TE: trailers",),
    (b"Host: other",), tuple(b"X-%d: a" % number for number in range(95)),
    tuple(b"X-%d: a" % number for number in range(100)), (b"X: " + b"a" * 40_000,),
    tuple(b"Same: %d" % number for number in range(50)),
]  # fmt: skip


@pytest.mark.parametrize("headers", HEADERS)
async def test_headers_mean_the_same(headers: tuple[bytes, ...]) -> None:
    await compare(request(None, *headers, method=b"POST"))
    await compare(request(b'{"never read": 1}', *headers, key="sk_wrong"))
    await compare(request(b'{"customer_id":"acme","credits":1.50}', *headers), request())


@pytest.mark.parametrize(
    "key", [None, "", "sk_wrong", PUBLISHABLE, SECRET.upper(), "sk_test_ä", SECRET + " ", "," + SECRET]
)
async def test_a_key_opens_the_same(key: str | None) -> None:
    await compare(request(key=key), request())


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"Basic", b"Bearer:", b"Bearer\t", b"Bearer  "])
async def test_a_scheme_means_the_same(scheme: bytes) -> None:
    await compare(request(b"{}", b"Authorization: " + scheme + b" " + SECRET.encode(), key=None))


URLS = [
    b"/api/v1/spend?", b"/api/v1/spend?at=1", b"/api/v1/spend?at=1&at=2", b"/api/v1/spend?of=1&of[]=2&unknown=3",
    b"/api/v1/spend?at=%C3%A4", b"/api/v1/spend?at=%zz", b"/api/v1/spend?at=%ff", b"/api/v1/spend?at=%00",
    b"/api/v1/spend?at=a+b", b"/api/v1/spend?a?b?c", b"/api/v1/spend#x", b"/api/v1/spend?at=1#x", b"/api/v1/spend#?at=1",
    b"/api/v1/spend/", b"/api/v1//spend", b"/api/v1/./spend", b"/api/v1/x/../spend", b"/api/v1/%73pend", b"/api/v1/spend;x=1",
    b"/API/V1/SPEND", b"http://api.example.com/api/v1/spend", b"http://api.example.com/api/v1/spend?at=1",
    b"//api/v1/spend", b"api/v1/spend", b"*", b"/", b"", b"/api/v1/spend?at=\xc3\xa4", b"/api/v1/spend?" + b"a" * 40_000,
    b"/api/v1/spend?at=\x7f", b"/api/v1/spend?at= 1", b"/api/v1/ping", b"/api/v1/nothing", b"/core/api/v1/nothing",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
async def test_a_url_means_the_same(url: bytes) -> None:
    await compare(request(url=url), request())


@pytest.mark.parametrize(
    "method",
    [
        b"GET",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"OPTIONS",
        b"TRACE",
        b"CONNECT",
        b"post",
        b"Post",
        b"PURGE",
        b"",
    ],
)
@pytest.mark.parametrize(
    "version", [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]
)
async def test_a_method_and_a_version_mean_the_same(method: bytes, version: bytes) -> None:
    await compare(request(None, method=method, version=version, url=b"/api/v1/ping"), request())
    await compare(request(method=method, version=version), request())
    await compare(request(method=b"POST", version=version), request())
    await compare(request(b"{}", b"Connection: keep-alive", version=version), request())


@pytest.mark.parametrize(
    "length", [None, b"0", b"1", b"36", b"38", b"0037", b"37 ", b"+37", b"-1", b"0x25", b"37, 37", b"9" * 30]
)
async def test_a_length_means_the_same(length: bytes | None) -> None:
    await compare(request(length=length), request())


CHUNKED = request(b"", b"Transfer-Encoding: chunked", length=None)


@pytest.mark.parametrize(
    "body",
    [
        b"25\r\n" + b'{"customer_id":"acme","credits":1.50}' + b"\r\n0\r\n\r\n",
        b"%x\r\n%s\r\n0\r\n\r\n" % (MAX_BODY + 1, b" " * (MAX_BODY + 1)),
        b"0\r\n\r\n",
        b"0\r\nAuthorization: Bearer x\r\n\r\n",
        b"ZZ\r\n",
        b"5\r\n{}",
    ],
)
async def test_chunks_mean_the_same(body: bytes) -> None:
    await compare(CHUNKED + body, request())


PAIRS = [
    (request("wait"), request("echo", request_id=b"second")),
    (request("wait"), request(None, method=b"GET", url=b"/api/v1/ping")),
    (request(None, method=b"GET", url=b"/api/v1/nothing"), request("echo")),
    (request("wait"), request("echo", b"Connection: close"), request("echo")),
    (request("cut"), request("echo")),
    (request("wait"), b"nonsense\r\n\r\n"),
    (request("echo", b"Expect: 100-continue"), request("echo")),
    (request("wait"), CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", request("crash"), request("reply")),
    (request("wait"), request("wait", b"Connection: Upgrade", b"Upgrade: h2c"), request("echo")),
    (request("never"), request("echo")),
    (request("echo", version=b"HTTP/1.0"), request("echo")),
    (request("bodiless"), request("echo")),
    (request("wait"), request("wait"), request("wait"), request("wait")),
]


@pytest.mark.parametrize("requests", PAIRS)
async def test_pipelined_requests_are_answered_alike_and_in_order(requests: tuple[bytes, ...]) -> None:
    await compare(b"".join(requests))
    await compare(*requests)
    await compare(*requests, pausing=True)
    await compare(b"".join(requests), cut=True)
    await compare(b"".join(requests)[:-5], cut=True)
    whole = b"".join(requests)
    for place in range(1, len(whole), 37):
        await compare(whole[:place], whole[place:])


async def test_a_request_split_at_any_byte_is_answered_alike() -> None:
    whole = request(
        "wait", b"Idempotency-Key: k1", b"Origin: https://app.example.com", url=b"/api/v1/spend?at=1"
    )
    for place in range(1, len(whole)):
        outcome = await compare(whole[:place], whole[place:], pausing=bool(place % 2))
        assert outcome["sent"].startswith(b"HTTP/1.1 200 OK\r\n")
    await compare(*(whole[place : place + 1] for place in range(len(whole))))


async def test_a_request_cut_short_at_any_byte_does_nothing_in_either() -> None:
    whole = request("echo")
    for place in range(len(whole)):
        outcome = await compare(whole[:place])
        assert b"acme" not in outcome["sent"]


async def test_a_caller_that_leaves_meanwhile_is_answered_by_nobody() -> None:
    for requests in (
        [request("wait")],
        [request("wait"), request("wait")],
        [request("wait", b"Connection: close")],
    ):
        outcome = await compare(*requests, cut=True)
        assert outcome["sent"] == b""


@pytest.mark.parametrize("mode", ["wait", "echo", "bodiless", "crash"])
@pytest.mark.parametrize("when", ["under way", "answered", "before"])
async def test_a_server_that_stops_finishes_what_is_under_way_and_closes(
    mode: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.02)
    outcomes = []
    for lane in (True, False):
        connection = _server(lane=lane).connect()
        if when == "before":
            connection.protocol.shutdown()
        connection.receive(request(mode))
        if when == "answered":
            await connection.settle()
        if when != "before":
            connection.protocol.shutdown()
        await connection.settle()
        outcomes.append(connection.look())
        await asyncio.sleep(0.03)
        assert connection.wire.closed
        await connection.lose()
    assert outcomes[0] == outcomes[1]
    assert (b"connection: close\r\n" in outcomes[0]["sent"]) is (when != "answered")  # type: ignore[operator]


async def test_an_answer_waits_for_a_caller_who_reads_slowly() -> None:
    for lane in (True, False):
        connection = _server(lane=lane).connect()
        connection.protocol.pause_writing()
        connection.receive(request("echo") + request("echo"))
        await connection.settle()
        assert connection.wire.sent == b""
        connection.protocol.resume_writing()
        await connection.settle()
        assert connection.wire.sent.count(b"HTTP/1.1 200 OK") == 2
        await connection.lose()


async def test_a_caller_who_leaves_without_reading_holds_nothing() -> None:
    for lane in (True, False):
        server = _server(lane=lane)
        connection = server.connect()
        connection.protocol.pause_writing()
        connection.receive(request("echo"))
        await connection.settle()
        await connection.lose()
        assert (server.state.tasks, server.state.connections, connection.wire.sent) == (set(), set(), b"")


async def test_a_quiet_connection_is_closed_in_time_after_either(monkeypatch: pytest.MonkeyPatch) -> None:
    for lane in (True, False):
        server = _server(lane=lane)
        server.config.timeout_keep_alive = 0
        connection = server.connect()
        connection.receive(request("echo"))
        await connection.settle()
        await asyncio.sleep(0.01)
        assert connection.wire.closed
        await connection.lose()
        monkeypatch.setattr(http_protocol, "REQUEST_DEADLINE_S", 0)
        connection = server.connect()
        connection.receive(request("echo")[:-1])
        await asyncio.sleep(0.01)
        assert connection.wire.closed
        await connection.lose()
        monkeypatch.undo()


def _header_lines() -> st.SearchStrategy[list[bytes]]:
    plain = st.sampled_from(
        [line for lines in HEADERS if len(lines) < 4 and len(lines[0]) < 400 for line in lines]
    )
    odd = st.binary(max_size=40).map(lambda raw: raw.replace(b"\r\n", b""))
    return st.lists(st.one_of(plain, plain, odd), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly plain requests with something odd about them."""
    modes = st.sampled_from(["echo", "wait", "reply", "bodiless", "refuse", "crash", "cut"])
    body = draw(st.one_of(modes, st.sampled_from(BODIES), st.none(), st.binary(max_size=60)))
    usual_or = lambda usual, others: st.one_of(st.just(usual), st.just(usual), others)  # noqa: E731
    return request(
        body,
        *draw(_header_lines()),
        method=draw(usual_or(b"POST", st.sampled_from([b"GET", b"HEAD", b"PUT", b"OPTIONS", b"post"]))),
        url=draw(usual_or(b"/api/v1/spend", st.sampled_from([url for url in URLS if len(url) < 400]))),
        version=draw(usual_or(b"HTTP/1.1", st.sampled_from([b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0"]))),
        key=draw(usual_or(SECRET, st.sampled_from([None, "", "sk_wrong", PUBLISHABLE]))),
        length=draw(usual_or(b"", st.sampled_from([None, b"0", b"5", b"1000", b"x"]))),
        media_type=draw(usual_or(b"application/json", st.sampled_from([None, b"text/plain"]))),
        request_id=draw(usual_or(b"trace", st.sampled_from([None, b"a b", b"x" * 129]))),
    )


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], bool, bool]:
    """Up to three requests, cut into reads anywhere; whether the loop turns between reads; whether the caller leaves early."""
    whole = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    bounds = [0, *places, len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(bounds) if start < end]
    return pieces, draw(st.booleans()), draw(st.booleans())


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(conversations())
@example(([request("wait") + request("cut") + request("echo")], False, True))
async def test_whatever_is_sent_lane_and_framework_do_the_same(
    conversation: tuple[list[bytes], bool, bool],
) -> None:
    pieces, pausing, cut = conversation
    await compare(*pieces, pausing=pausing, cut=cut)
