"""B05, B08, L03, K01: what only a real socket can show. Every answer is told apart by its status line."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from nozle_server.api import http_protocol
from nozle_server.api.app import build_app
from nozle_server.api.endpoint import Call, Endpoint, Scope
from nozle_server.api.server import serve

from .conftest import AnyServices


class Body(msgspec.Struct):
    amount: int


@pytest.fixture
async def calls() -> list[object]:
    return []


@pytest.fixture
async def port(calls: list[object]) -> AsyncIterator[int]:
    """A server with `GET /slow` and `POST /spend`, which notes in `calls` that it was called."""

    async def spend(call: Call) -> object:
        calls.append(call.body)
        return {"spent": len(calls)}

    async def slow(_call: Call) -> object:
        await asyncio.sleep(0.3)
        return {"slow": True}

    endpoints = (
        Endpoint(
            method="POST", path="/spend", handler=spend, scope=Scope.PUBLIC, summary="", tag="", body=Body,
            transaction=False, lane=True,
        ),
        Endpoint(method="GET", path="/slow", handler=slow, scope=Scope.PUBLIC, summary="", tag="", transaction=False),
    )  # fmt: skip
    app = build_app(AnyServices(None, None), endpoints)  # type: ignore[arg-type]
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, on_listening=url.set_result)
    )
    try:
        yield int((await url).rpartition(":")[2])
    finally:
        stop.set()
        await serving


async def exchange(port: int, *parts: bytes, pause: float = 0, wait: float = 1.0) -> tuple[bytes, bool]:
    """Everything the server sends in answer to `parts`, and whether it closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received, closed = b"", False
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(wait):
            while chunk := await reader.read(65_536):
                received += chunk
            closed = True
    except TimeoutError:
        pass
    except ConnectionError:
        closed = True
    finally:
        writer.close()
    return received, closed


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


SPEND = b'{"amount":1}'
HEAD = b"POST /api/v1/spend HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = HEAD + b"Content-Length: 12\r\n\r\n" + SPEND


async def test_an_ordinary_request_keeps_the_connection(port: int, calls: list[object]) -> None:
    received, closed = await exchange(port, SMUGGLED, SMUGGLED, wait=0.3)
    assert statuses(received) == [200, 200]
    assert not closed
    assert len(calls) == 2
    assert b"server:" not in received.lower()


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Content-Length: 12\r\nContent-Length: 0\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Content-Length: 12\r\nContent-Length: 12\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Content-Length: 12, 12\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Content-Length: +12\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        HEAD + b"Content-Length: 0x0c\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Content-Length: 1e1\r\n\r\n" + SPEND + SMUGGLED,
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + SMUGGLED,
        HEAD + b"X: a\r\n folded\r\nContent-Length: 12\r\n\r\n" + SPEND,
        HEAD + b"X: a\nY: b\r\n\r\n",
        HEAD + b"X y: a\r\n\r\n",
        HEAD + b"X: a\x00b\r\n\r\n",
        b"POST /api/v1/spend\r\n\r\n",
        b"POST /api/v1/spend HTTP/9.9\r\n\r\n",
        b"POST /api/v1/sp\xffend HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
    ],
)
async def test_ambiguous_requests_get_one_answer_and_the_connection_is_closed(
    port: int, calls: list[object], request_bytes: bytes
) -> None:
    received, closed = await exchange(port, request_bytes)
    assert closed
    answered = statuses(received)
    assert len(answered) == 1
    assert answered[0] in (400, 411, 501, 505)
    assert calls == []
    assert b'"code":"malformed_http"' in received
    assert b"x-request-id: req_" in received


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: a\r\n" % number for number in range(500)),
        b"X: " + b"a" * 65_536 + b"\r\n",
        b"Cookie: " + b"a" * 33_000 + b"\r\n",
    ],
)
async def test_a_head_that_is_too_large_is_431(port: int, headers: bytes) -> None:
    received, closed = await exchange(port, b"GET /api/v1/slow HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert statuses(received) == [431]
    assert closed


async def test_a_header_that_never_ends_is_cut(port: int) -> None:
    parts = [b"GET /api/v1/slow HTTP/1.1\r\nX: ", *[b"a" * 16_384] * 8]
    received, closed = await exchange(port, *parts, pause=0.01)
    assert statuses(received) in ([431], [])  # the client may see the reset before the answer
    assert closed


async def test_a_long_url_is_refused(port: int) -> None:
    received, closed = await exchange(port, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(received) == [431]
    assert closed


async def test_a_body_of_4_mb_is_413_also_for_a_client_that_sends_it_all_first(port: int) -> None:
    size = 4 * 1024 * 1024
    body = b" " * size
    received, _ = await exchange(port, HEAD + b"Content-Length: %d\r\n\r\n" % size, body, wait=0.5)
    assert statuses(received) == [413]
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
    received, _ = await exchange(port, chunked, body, b"\r\n0\r\n\r\n", wait=0.5)
    assert statuses(received) == [413]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"G"],
        [b"GET /api/v1/slow HTTP/1.1\r\n", *[b"X: a\r\n"] * 40],
        [HEAD + b"Content-Length: 100\r\n\r\n", *[b" "] * 40],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 40],
        [b"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", *[b" "] * 40],
    ],
    ids=["nothing", "one byte", "headers", "body", "chunks", "body after the answer"],
)
async def test_a_request_that_trickles_in_is_cut_off_at_its_deadline(
    port: int, monkeypatch: pytest.MonkeyPatch, parts: list[bytes]
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_DEADLINE_S", 0.3)
    before = time.monotonic()
    _, closed = await exchange(port, *parts, pause=0.02, wait=3)
    assert closed
    assert time.monotonic() - before < 2.5


async def test_a_slow_answer_is_not_a_slow_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_DEADLINE_S", 0.1)
    request = b"GET /api/v1/slow HTTP/1.1\r\nHost: x\r\n\r\n"
    received, closed = await exchange(port, request, request, pause=0.5, wait=0.5)
    assert statuses(received) == [200, 200]
    assert not closed


async def test_an_upgrade_is_not_offered(port: int) -> None:
    request = b"GET /api/v1/slow HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    received, _ = await exchange(port, request, wait=0.6)
    assert 101 not in statuses(received)


PROGRAM = """
import asyncio
from nozle_server.api.server import new_event_loop, serve
from nozle_server.infra.logging import configure_logging

configure_logging("error")

async def app(scope, receive, send):
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(serve(app, host="127.0.0.1", port=0, on_listening=lambda url: print(url, flush=True)))
print("bye", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_signal_lets_answers_finish_and_ends_with_0(number: signal.Signals, times: int) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(PROGRAM), stdout=subprocess.PIPE, env=os.environ
    )
    assert program.stdout is not None
    port = int((await program.stdout.readline()).rpartition(b":")[2])
    answering = asyncio.create_task(exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", wait=5))
    await asyncio.sleep(0.2)
    for _ in range(times):
        program.send_signal(number)
        await asyncio.sleep(0.05)
    received, closed = await answering
    assert statuses(received) == [200]
    assert closed
    assert await program.wait() == 0
    assert await program.stdout.read() == b"bye\n"


@pytest.mark.parametrize("known", [True, False], ids=["a kept connection", "not yet accepted"])
async def test_k01_whoever_was_on_the_way_when_the_server_is_told_to_leave_is_answered(known: bool) -> None:
    """A request on a connection that was idle then, and one on a connection that waited to be accepted."""

    async def app(_scope: object, _receive: object, send: Callable[[object], Awaitable[None]]) -> None:
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive(client: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\nok" not in received:
            received += (chunk := await loop.sock_recv(client, 65_536))
            assert chunk, "closed without an answer"
        return received

    loop = asyncio.get_running_loop()
    stop, url = asyncio.Event(), loop.create_future()
    serving = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, on_listening=url.set_result)
    )
    address = "127.0.0.1", int((await url).rpartition(":")[2])
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    clients = [socket.create_connection(address) for _ in range(100)]
    for client in clients:
        client.setblocking(False)
    if known:
        for client in clients:
            await loop.sock_sendall(client, request)
            assert b"connection: close" not in await receive(client)
        stop.set()
        await asyncio.sleep(0.1)
    stop.set()
    for client in clients:
        client.sendall(request)
    for client in clients:
        answer = await receive(client)
        assert not known or b"connection: close" in answer
        client.close()
    await serving


async def test_an_address_in_use_is_told_and_nothing_else_ends(
    port: int, client_app: Callable[..., object]
) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve(client_app, host="127.0.0.1", port=port, stop=asyncio.Event())


@pytest.fixture
def client_app() -> Callable[..., object]:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        raise AssertionError("never called")

    return app
