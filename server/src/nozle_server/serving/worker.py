"""One of several processes of a server: it answers requests or does the jobs, until it is told to stop.

It is told so by a signal, by its supervisor, or by that one's end.
"""

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self

import asyncpg
import msgspec
import structlog

from nozle_server.api.app import build_app
from nozle_server.api.server import new_event_loop, serve_on
from nozle_server.bootstrap import background, build_services, connect
from nozle_server.core.clock import SystemClock
from nozle_server.infra.child_process import name_this_process
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings
from nozle_server.serving.stopping import Stop, Stopped, stop_signals

READY = b"ready\n"
STOP = b"stop\n"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told: the supervisor's settings, flags included, on a database that is ready."""

    name: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, name: str, settings: Settings, database_url: str) -> Self:
        return cls(name, {**settings.model_dump(mode="json"), "database_url": database_url})

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        return msgspec.json.decode(text, type=cls)


def run(assignment: Assignment, channel: socket.socket, listener: socket.socket | None) -> int:
    """Answer requests that arrive at `listener`, or do the jobs without one; the exit code."""
    name_this_process(f"nozle-{assignment.name}")
    settings = Settings(**assignment.settings)
    configure_logging(settings.log_level, worker=assignment.name)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(settings, channel, listener))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        structlog.get_logger().error("worker_failed", error=str(error) or repr(error))
        return 1
    return 0


async def _work(settings: Settings, channel: socket.socket, listener: socket.socket | None) -> None:
    assert settings.database_url is not None
    with suppress(Stopped), stop_signals() as stop:
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        hearing = asyncio.create_task(_hear(reader, stop))

        def ready(_url: str = "") -> None:
            writer.write(READY)

        async with AsyncExitStack() as stack:
            with stop.interrupts():
                database = await connect(settings.database_url, settings)
            stack.push_async_callback(database.close)
            services = build_services(database, settings, SystemClock())
            await stack.enter_async_context(background(services, jobs=listener is None))
            if listener is None:
                ready()
                await stop.event.wait()
            else:
                await serve_on(listener, build_app(services), stop=stop.event, on_listening=ready)
        hearing.cancel()


async def _hear(reader: asyncio.StreamReader, stop: Stop) -> None:
    """The supervisor says only one thing, and its end says the same."""
    await reader.readline()
    stop.set()
