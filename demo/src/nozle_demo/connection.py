"""Keep-alive HTTP/1.1 connections to one server, a bounded number of them.

Why not a general HTTP client: the replay makes tens of thousands of calls of a few hundred bytes on the
machine that also runs the server and its database, so what the client burns is missing there. Measured with
the conversation trace (README.md), aiohttp's client took some 230 us of CPU a call, these lines about half.
They speak only what a JSON API needs: no redirects, no cookies, no compression, no proxy.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ConnectionLostError(Exception):
    """No connection, or one that ended within a response; the call may have had its effect or not."""


class Connection:
    """One connection; one call at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, request: bytes) -> tuple[Response, bool]:
        """Send a whole request; the response, and whether the connection can be used again."""
        self._writer.write(request)
        head = (await self._reader.readuntil(_HEAD_END)).decode("latin-1").split("\r\n")
        protocol, status, *_ = head[0].split(" ", 2)
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"not an HTTP/1 response: {head[0][:80]!r}")
        headers: dict[str, str] = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        stays = headers.get("connection", "keep-alive").lower() != "close" and protocol != "HTTP/1.0"
        if "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._read_chunks()
        else:
            body, stays = await self._reader.read(), False
        return Response(int(status), headers, body), stays

    async def _read_chunks(self) -> bytes:
        chunks = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
        return b"".join(chunks)

    def close(self) -> None:
        self._writer.close()


class Connections:
    """At most `limit` connections under one base URL, the one used last first. Use as `async with`."""

    def __init__(self, url: str, headers: Mapping[str, str], *, limit: int, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url!r}")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(limit)
        lines = {"Host": parts.netloc.rpartition("@")[2], **headers}
        self._common = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_free()

    async def call(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """One request and its response; ConnectionLostError when there is none to be had."""
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if method != "GET":
            own += f"Content-Length: {len(body)}\r\n"
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._common}{own}\r\n"
        request = head.encode("latin-1") + body
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._call(request)
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                # The others are older than this one: what ended it has ended them.
                self._close_free()
                raise ConnectionLostError(_reason(error)) from None

    async def _call(self, request: bytes) -> Response:
        connection = self._free.pop() if self._free else await self._open()
        stays = False
        try:
            response, stays = await connection.call(request)
        finally:
            # Also when the call is cancelled half way: its response must not be read by the next one.
            if stays:
                self._free.append(connection)
            else:
                connection.close()
        return response

    def _close_free(self) -> None:
        for connection in self._free:
            connection.close()
        self._free.clear()

    async def _open(self) -> Connection:
        context = ssl.create_default_context() if self._tls else None
        return Connection(*await asyncio.open_connection(self._host, self._port, ssl=context))


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case EOFError():
            return "it closed the connection"
        case OSError():
            return error.strerror or str(error)
        case _:
            return "its answer is not HTTP"
