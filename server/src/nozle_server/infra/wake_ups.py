"""A channel between processes that says only "look again", over LISTEN/NOTIFY on a connection of its own.

NOTIFY inside a transaction that writes takes a lock of the whole server at commit (measured: 14,510 -> 4,604
transactions/s). So a process announces after its commits, and those of a few milliseconds share one NOTIFY.
Nothing depends on a notification to arrive: every listener also looks once a second.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import asyncpg
import structlog

from nozle_server.infra.database import Database

PAUSE_S = 0.005
LOOK_AGAIN_S = 1.0
TIMEOUT_S = 2.0
"""For connecting and for each statement: how long a silent network goes unnoticed, with LOOK_AGAIN_S."""
RECONNECT_S = 0.25
SOON_S = 0.05
"""How long news may wait that come with every request, for others to share their notification."""

FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

log = structlog.get_logger()


class WakeUps:
    """One channel of one process. `channel` is a plain lower-case name of ours."""

    def __init__(
        self, database: Database, channel: str, *, pause_s: float = PAUSE_S, looks_at_own: bool = True
    ) -> None:
        """Without `looks_at_own`, what this process announces makes the others look, and not itself."""
        self._database = database
        self._channel = channel
        self._pause_s = pause_s
        self._looks_at_own = looks_at_own
        self._woken = asyncio.Event()
        self._unsent = False
        self._heard = False
        self._soon: asyncio.TimerHandle | None = None

    def announce_soon(self) -> None:
        """As `announce`, for what happens all the time: some tens of milliseconds of it share a notification."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._announce_now)

    def _announce_now(self) -> None:
        self._soon = None
        self.announce()

    def announce(self) -> None:
        """Wake every process. Call it after the commit, as often as you like."""
        self._unsent = True
        self._heard = self._heard or self._looks_at_own
        self._woken.set()

    async def run(
        self,
        look: Callable[[asyncpg.Connection], Awaitable[None]],
        *,
        on_connect: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> None:
        """Until cancelled: call `look` when woken, at least once a second, at most once every `pause_s`.

        A lost connection is made again; `on_connect` hears of each, the first included.
        """
        connected = True  # so that the first failure is logged, and the first success is not
        while True:
            try:
                connection = await asyncpg.connect(
                    self._database.url,
                    timeout=TIMEOUT_S,
                    command_timeout=TIMEOUT_S,
                    server_settings={
                        "application_name": f"nozle-server {self._channel}",
                        **self._database.session_settings,
                    },
                )
                try:
                    await self._listen(connection)
                    if on_connect is not None:
                        await on_connect(connection)
                    if not connected:
                        log.info("wake_ups_restored", channel=self._channel)
                    connected = True
                    await self._take_turns(connection, look)
                finally:
                    connection.terminate()
            except FAULTS as fault:
                if connected:
                    log.warning("wake_ups_lost", channel=self._channel, error=repr(fault))
                connected = False
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self, connection: asyncpg.Connection) -> None:
        def heard(_connection: object, sender_pid: int, _channel: object, _payload: object) -> None:
            if sender_pid != connection.get_server_pid():  # our own announcement has woken us already
                wake()

        def wake(_connection: object = None) -> None:
            self._heard = True
            self._woken.set()

        connection.add_termination_listener(wake)
        await connection.add_listener(self._channel, heard)
        self._unsent = True  # what was announced while there was no connection

    async def _take_turns(
        self, connection: asyncpg.Connection, look: Callable[[asyncpg.Connection], Awaitable[None]]
    ) -> None:
        next_look = -math.inf
        while True:
            self._woken.clear()
            if self._unsent:
                self._unsent = False
                await connection.execute(f"notify {self._channel}")
            if self._heard or monotonic() >= next_look:
                self._heard = False
                next_look = monotonic() + LOOK_AGAIN_S
                await look(connection)
            await asyncio.sleep(self._pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(next_look - monotonic()):
                    await self._woken.wait()
