"""Several processes that answer requests on one port, and one that does the jobs: started, watched, replaced, stopped.

Each worker has a listening socket of its own on the port (SO_REUSEPORT), and the kernel spreads connections over them by a
hash of their addresses. With one socket for all, whoever wakes first takes a burst: of 64 connections at once 64 went to one
worker of two, and to the busiest of four 2.4 times its share, against 1.3 times here (measured with uvloop). The supervisor
keeps all sockets too, so that connections to a worker that has died wait for its successor instead of being reset. Only
while that one is held back for long, because it died again and again, the socket is closed and the others get all.

Jobs run in a process apart: billing a month's end takes the core from no request, and a job that kills its process never
takes one that serves with it.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

import structlog

from nozle_server.api.server import listen, url_of
from nozle_server.infra.settings import Settings
from nozle_server.serving import shared_metrics
from nozle_server.serving.nursery import ENDED, Nursery
from nozle_server.serving.stopping import Stop
from nozle_server.serving.worker import READY, STOP, Assignment

STEADY_AFTER_S = 10.0
"""A worker that lived for so long is replaced at once; one that did not, after a pause that doubles."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 4.0
WORTH_WAITING_S = 1.0
"""Connections to a worker that is gone wait for its successor, unless that one is held back for longer."""
STOP_WITHIN_S = 25.0
"""Ten seconds for the last answers, ten for the jobs; what is left then is ended by force."""

log = structlog.get_logger()


class WorkerFailed(Exception):
    """A worker ended before it had served at all: a server that cannot start says so instead of trying for ever."""


@dataclass(slots=True)
class _Place:
    """What stays when a worker goes."""

    name: str
    port: "_Port | None" = None
    listener: socket.socket | None = None
    channel: asyncio.StreamWriter | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether a worker has ever been."""

    def open(self) -> None:
        if self.port is not None and self.listener is None:
            self.listener = self.port.bind()

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def tell_to_stop(self) -> None:
        if self.channel is not None:
            self.channel.write(STOP)


class Workers:
    """As a context manager, gets ready to start them while the database is being started."""

    def __init__(self, settings: Settings, *, log_file: BinaryIO | None = None) -> None:
        self._settings = settings
        self._log_file = log_file
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(shared_metrics.metrics_folder())
            self._environment = {**os.environ, shared_metrics.VARIABLE: str(folder)}
            self._nursery = self._open_nursery()
            stack.callback(lambda: self._nursery.close())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def serve(self, database_url: str, stop: Stop, on_listening: Callable[[str], None]) -> None:
        """Keep them running until told to stop; returns when all have ended. `on_listening` is told the URL.

        OSError when the address cannot be had; WorkerFailed.
        """
        port = _Port(self._settings.host, self._settings.port)
        places = [_Place(f"worker-{n + 1}", port) for n in range(self._settings.workers)]
        places.append(_Place("jobs"))
        for place in places:
            place.open()
        told = asyncio.create_task(stop.event.wait())
        keepers = [asyncio.create_task(self._keep(place, database_url)) for place in places]
        all_ready = asyncio.create_task(_all_ready(places))
        try:
            await asyncio.wait({told, all_ready, *keepers}, return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                log.info("listening", url=port.url, workers=self._settings.workers)
                on_listening(port.url)
                await asyncio.wait({told, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            all_ready.cancel()
            await self._end(places, keepers)
        for keeper in keepers:
            if not keeper.cancelled():
                keeper.result()

    async def _keep(self, place: _Place, database_url: str) -> None:
        assignment = Assignment.of(place.name, self._settings, database_url)
        loop, pause_s = asyncio.get_running_loop(), 0.0
        while not self._stopping.is_set():
            began = loop.time()
            status = await self._employ(place, assignment)
            if self._stopping.is_set():
                return
            if not place.ready.is_set():
                raise WorkerFailed(f"{place.name} ended ({status}) before it could serve; the log says why")
            steady = loop.time() - began >= STEADY_AFTER_S
            pause_s = 0 if steady else min(max(FIRST_PAUSE_S, 2 * pause_s), LONGEST_PAUSE_S)
            if pause_s > WORTH_WAITING_S:
                place.close()
            log.error("worker_ended", worker=place.name, status=status, again_in_s=pause_s)
            if pause_s:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _employ(self, place: _Place, assignment: Assignment) -> str:
        """From a worker's birth to its end; its exit code, or minus the signal that ended it."""
        if not self._nursery.lives:
            log.error("nursery_ended")
            self._nursery.close()
            self._nursery = self._open_nursery()
        try:
            place.open()
            channel = self._nursery.fork(assignment, place.listener)
        except OSError as error:  # no socket to be had, or the nursery has died this very moment
            return str(error)
        reader, place.channel = await asyncio.open_unix_connection(sock=channel)
        if self._stopping.is_set():  # meanwhile
            place.tell_to_stop()
        status = "killed with its nursery"
        try:
            # A worker that ends before it has read what it was told resets its channel.
            with suppress(ConnectionError):
                while line := await reader.readline():
                    if line == READY:
                        place.ready.set()
                    elif line.startswith(ENDED):
                        status = line.removeprefix(ENDED).decode().strip()
        finally:
            place.channel.close()
            place.channel = None
        return status

    async def _end(self, places: list[_Place], keepers: list[asyncio.Task[None]]) -> None:
        """Our sockets first: a connection that nobody would accept any more is better refused."""
        self._stopping.set()
        for place in places:
            place.close()
            place.tell_to_stop()
        _, late = await asyncio.wait(keepers, timeout=STOP_WITHIN_S)
        for keeper in late:
            log.error("worker_did_not_stop")
            keeper.cancel()
        await asyncio.wait(keepers)

    def _open_nursery(self) -> Nursery:
        return Nursery(self._environment, log_file=self._log_file)


class _Port:
    """An address that several sockets share."""

    def __init__(self, host: str, port: int) -> None:
        # Bound alone first, and so refused when anybody listens there already; OSError then.
        self._host = host
        self._first = listen(host, port)
        self._number = self._first.getsockname()[1]
        self.url = url_of(self._first)
        if sys.platform == "linux":
            self._first.close()

    def bind(self) -> socket.socket:
        if sys.platform == "linux":
            return listen(self._host, self._number, shared=True)
        return self._first.dup()  # elsewhere the kernel would give all to the last one


async def _all_ready(places: list[_Place]) -> None:
    for place in places:
        await place.ready.wait()
