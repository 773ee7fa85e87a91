"""What offers an upgrade is answered as if it did not (B08); what follows a body changes nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nozle_server.api.server import serve


async def _echo(scope: dict[str, object], receive, send) -> None:  # type: ignore[no-untyped-def]
    """Answers with the method, the number of headers and the body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = scope["headers"]
    assert isinstance(headers, list)
    names = b",".join(name for name, _ in headers)
    answer = b"%s|%s|%s" % (str(scope["method"]).encode(), names, body)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
    )
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(_echo, host="127.0.0.1", port=0, stop=stop, on_listening=listening.set_result)
    )
    host, _, port = (await listening).removeprefix("http://").rpartition(":")
    yield host, int(port)
    stop.set()
    await serving


async def _talk(address: tuple[str, int], *writes: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        for data in writes:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.05)
        answer = b""
        while True:
            try:
                data = await asyncio.wait_for(reader.read(65536), 0.3)
            except TimeoutError:
                return answer
            if not data:
                return answer
            answer += data
    finally:
        writer.close()


INNER = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("split", [True, False])
async def test_a_body_is_never_read_as_the_next_request(
    address: tuple[str, int], protocol: bytes, split: bool
) -> None:
    """B08: one answer, and the body reaches the application as a body."""
    head = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: %d\r\n\r\n"
        % (protocol, len(INNER))
    )
    answer = await (_talk(address, head, INNER) if split else _talk(address, head + INNER))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"POST|" in answer
    assert answer.endswith(INNER)


async def test_requests_behind_an_offered_upgrade_are_answered_too(address: tuple[str, int]) -> None:
    """Pipelined requests after one that offers an upgrade are not lost."""
    head = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    answer = await _talk(address, head + INNER + INNER)
    assert answer.count(b"HTTP/1.1 200") == 3


async def test_a_trailer_is_not_a_header(address: tuple[str, int]) -> None:
    """A trailer `Authorization` authorizes nothing."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await _talk(address, head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"authorization" not in answer


async def test_trailers_are_bounded(address: tuple[str, int]) -> None:
    """Trailers without end close the connection instead of filling the memory."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    answer = await _talk(address, head, b"a:\r\n" * 20_000)
    assert b"HTTP/1.1 431" in answer or answer == b""


async def test_connect_is_refused(address: tuple[str, int]) -> None:
    answer = await _talk(
        address, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n" + INNER
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
