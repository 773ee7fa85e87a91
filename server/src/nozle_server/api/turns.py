"""Turns: of several calls that need the same thing, one at a time goes to the database, the others wait here.

They would wait for each other's row locks anyway, each with a connection in its hand, until none was left for anybody
else. Between processes the row locks decide.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from nozle_server.core.errors import Unavailable
from nozle_server.infra.database import LOCK_TIMEOUT_MS

PATIENCE_S = LOCK_TIMEOUT_MS / 1000
"""How long one waits while nothing goes on."""
LONGEST_S = 10.0
"""How long one waits in all."""
MOST_WAITING = 500


@dataclass(slots=True)
class _Turn:
    """Whose turn it is, who waits for it, and until when each of them waits at the most."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    waiting: dict[asyncio.Timeout, float] = field(default_factory=dict)


class Turns:
    """The turns of a process, by what is needed."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._turns: dict[Hashable, _Turn] = {}

    @asynccontextmanager
    async def take(self, names: Iterable[str], within: Hashable) -> AsyncIterator[None]:
        """Have all of `names` to oneself, `within` an organization. Unavailable `lock_timeout` when whoever has one of them
        is stuck, `too_busy` when too many wait already."""
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(self._patience_s) as patience:
                    # In one order, so that two never wait for each other.
                    for name in sorted(set(names)):
                        await taken.enter_async_context(self._one((within, name), patience))
            except TimeoutError:
                raise Unavailable(
                    "other requests for the same customer come first, try again", code="lock_timeout"
                ) from None
            yield

    @asynccontextmanager
    async def _one(self, key: Hashable, patience: asyncio.Timeout) -> AsyncIterator[None]:
        turn = self._turns.setdefault(key, _Turn())
        if turn.users > MOST_WAITING:
            raise Unavailable("too many requests for the same customer, try again", code="too_busy")
        turn.users += 1
        try:
            turn.waiting[patience] = asyncio.get_running_loop().time() + LONGEST_S
            try:
                await turn.lock.acquire()
            finally:
                del turn.waiting[patience]
            try:
                yield
                self._goes_on(turn)
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    def _goes_on(self, turn: _Turn) -> None:
        """Nobody is stuck: who waits may wait on."""
        now = asyncio.get_running_loop().time()
        for patience, latest in turn.waiting.items():
            if not patience.expired():
                patience.reschedule(min(now + self._patience_s, latest))
