"""A gate between a server and its database: it can keep the news of a commit from the server, cut every connection, or have
those of one purpose go silent; and it knows what was asked.

async with Gate(installation) as gate:
    server = await installation.start_server(database_url=gate.url)
    gate.hold()             # what is sent to the database still arrives, what it commits is committed
    ...
    await server.kill()     # it never learnt of its commit, and so has answered nobody
    gate.silence("nozle_changes")   # what is sent on its connections arrives nowhere, and they stay open
    gate.asked[application, statement]  # how often
"""

import asyncio
import re
import struct
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

from chaos.harness import Installation

_QUERY, _PARSE, _BIND = b"QPB"
_COMMAND_COMPLETE, _READY, _IDLE = b"CZI"
_APPLICATION = re.compile(rb"application_name\0([^\0]*)\0")
_WRITES = re.compile(rb"\b(insert|update|delete|commit)\b", re.IGNORECASE)


class Gate:
    """Listens on a socket of its own and passes everything on, both ways, until told otherwise."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent = ""
        self._heard = asyncio.Event()
        self._heard.set()
        self.held = 0
        """How many ends of transactions are being kept back."""
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often each statement was sent, by the application's name of the session."""
        self.sessions: Counter[str] = Counter()
        self.most_sessions: Counter[str] = Counter()
        """By the application's name: those there are, and the most that there were at once."""

    async def __aenter__(self) -> Self:
        folder = tempfile.mkdtemp(prefix="gate-", dir=self._installation.folder)
        self._server = await asyncio.start_unix_server(self._relay, Path(folder, ".s.PGSQL.5432"))
        self.url = f"postgresql://nozle@/nozle?host={quote(folder)}&port=5432"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self.speak()
        self.cut()
        self._server.close()

    def hold(self) -> None:
        """From now on the server does not hear that something it wrote is committed; within the transaction, it does."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def silence(self, application: str) -> None:
        """From now on nothing passes on sessions whose application's name holds that, those yet to come included."""
        self._silent = application
        self._heard.clear()

    def speak(self) -> None:
        """What was sent meanwhile arrives now."""
        self._silent = ""
        self._heard.set()

    async def _pass(self, application: str) -> None:
        while self._silent and self._silent in application:
            await self._heard.wait()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, from_server: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        where = parse_qs(urlsplit(self._installation.database_url).query)
        path = Path(where["host"][0], f".s.PGSQL.{where['port'][0]}")
        from_database, to_database = await asyncio.open_unix_connection(path)
        self._writers |= {to_server, to_database}
        asked = _Asked(self.asked)
        ways = [
            asyncio.create_task(self._ask(from_server, to_database, asked)),
            asyncio.create_task(self._answer(from_database, to_server, asked)),
        ]
        # Whichever side goes first, the other one is told: a session whose server was killed must not live on.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self.sessions[asked.application] -= 1
        for writer in (to_server, to_database):
            self._writers.discard(writer)
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: "_Asked") -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            length = await reader.readexactly(4)  # the first message has no type
            head = await reader.readexactly(struct.unpack(">I", length)[0] - 4)
            if named := _APPLICATION.search(head):
                asked.application = named[1].decode()
            self.sessions[asked.application] += 1
            self.most_sessions |= self.sessions
            await self._pass(asked.application)
            writer.write(length + head)
            while True:
                message = await _read_message(reader)
                asked.note(message)
                await self._pass(asked.application)
                writer.write(message)
                await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: "_Asked"
    ) -> None:
        ending: list[bytes] = []
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await _read_message(reader)
                await self._pass(asked.application)
                if message[0] != _READY and (ending or message[0] == _COMMAND_COMPLETE):
                    ending.append(message)  # only what comes at the end tells whether it has committed
                    continue
                if message[0] == _READY:
                    if asked.to_write and message[5] == _IDLE and not self._open.is_set():
                        self.held += 1
                        await self._open.wait()
                        self.held -= 1
                    asked.to_write = False
                writer.write(b"".join(ending) + message)
                ending.clear()
                await writer.drain()


class _Asked:
    """What a session was asked for since it was last ready: to write or to commit, or only to read."""

    def __init__(self, statements: "Counter[tuple[str, str]]") -> None:
        self.to_write = False
        self.application = ""
        self._statements = statements
        self._texts: dict[bytes, bytes] = {}

    def note(self, message: bytes) -> None:
        body = message[5:]
        if message[0] == _QUERY:
            self._count(body[:-1])
        elif message[0] == _PARSE:
            statement, _, text = body.partition(b"\0")
            self._texts[statement] = text.partition(b"\0")[0]
        elif message[0] == _BIND:
            _portal, _, rest = body.partition(b"\0")
            self._count(self._texts.get(rest.partition(b"\0")[0], b""))

    def _count(self, text: bytes) -> None:
        self.to_write |= _WRITES.search(text) is not None
        self._statements[self.application, text.decode()] += 1


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """A type, a length that counts itself, a body."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)
