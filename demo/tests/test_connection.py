"""The HTTP connections read what servers may answer, and give up a connection that cannot be used again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from nozle_demo.connection import ConnectionLostError, Connections


@asynccontextmanager
async def answering(reply: Callable[[int], bytes]) -> AsyncIterator[tuple[Connections, list[bytes]]]:
    """A server that answers the nth request with `reply(n)`, and the requests that it got; empty closes."""
    seen: list[bytes] = []
    tasks: set[object] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                text = reply(len(seen))
                writer.write(text)
                if not text or b"close" in text:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = Connections(f"http://127.0.0.1:{port}/base/", {"X-A": "b"}, limit=2, timeout_s=5)
    async with connections:
        yield connections, seen
    server.close()


async def test_sends_a_request_and_reuses_the_connection() -> None:
    def reply(number: int) -> bytes:
        return f"HTTP/1.1 200 OK\r\ncontent-LENGTH: 1\r\nX-N:  y \r\n\r\n{number}".encode()

    async with answering(reply) as (connections, seen):
        first = await connections.call("GET", "/a?b=c", b"", {})
        second = await connections.call("GET", "/a", b"", {"Idempotency-Key": "k"})
    assert (first.status, first.body, first.headers["x-n"], second.body) == (200, b"1", "y", b"2")
    assert seen[0].startswith(b"GET /base/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Idempotency-Key: k\r\n" in seen[1]
    assert b"X-A: b\r\n" in seen[1]


async def test_reads_chunks_and_bodies_that_end_with_the_connection() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    until_end = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nall"
    async with answering(lambda number: until_end if number == 2 else chunked) as (connections, _):
        bodies = [(await connections.call("GET", "/", b"", {})).body for _ in range(3)]
    assert bodies == [b"abcde", b"all", b"abcde"]


@pytest.mark.parametrize(
    "torn", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: close\r\n\r\nabc", b"HTTP/1.1 2 close"]
)
async def test_a_response_that_ends_too_early_is_a_lost_connection(torn: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    async with answering(lambda number: torn if number == 1 else whole) as (connections, _):
        with pytest.raises(ConnectionLostError):
            await connections.call("GET", "/", b"", {})
        assert (await connections.call("GET", "/", b"", {})).body == b"x"


async def test_a_cancelled_call_does_not_leave_its_response_to_the_next() -> None:
    def reply(number: int) -> bytes:
        body = b"" if number == 1 else f"{number}".encode()
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) or 5}\r\n\r\n".encode() + body

    async with answering(reply) as (connections, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connections.call("GET", "/", b"", {})
        assert (await connections.call("GET", "/", b"", {})).body == b"2"


async def test_no_server_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLostError):
        await Connections("http://127.0.0.1:9", {}, limit=1, timeout_s=5).call("GET", "/", b"", {})


@pytest.mark.parametrize("url", ["ftp://x", "http://", "localhost:1"])
def test_refuses_what_is_no_http_address(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        Connections(url, {}, limit=1, timeout_s=1)


async def test_after_a_lost_connection_the_older_ones_are_not_tried() -> None:
    """A server that was killed and started again answers the second attempt."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    async with answering(lambda number: b"" if number == 3 else whole) as (connections, _):
        await asyncio.gather(*(connections.call("GET", "/", b"", {}) for _ in range(2)))
        assert len(connections._free) == 2
        with pytest.raises(ConnectionLostError, match="closed the connection"):
            await connections.call("GET", "/", b"", {})
        assert connections._free == []
