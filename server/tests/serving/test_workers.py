"""What a supervisor hears of its workers."""

import asyncio
import socket
from typing import Any, cast

from nozle_server.infra.settings import Settings
from nozle_server.serving.worker import STOP, Assignment
from nozle_server.serving.workers import Workers, _Place


class _Nursery:
    """Of workers whose ends of the channels we hold."""

    lives = True

    def __init__(self) -> None:
        self.theirs: list[socket.socket] = []

    def fork(self, *_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        return ours


async def test_a_worker_that_ends_without_having_read_what_it_was_told_has_ended() -> None:
    """Its channel is reset then, and not only closed; that is no fault of the server that stops."""
    workers, nursery, place = Workers(Settings()), _Nursery(), _Place("jobs")
    workers._nursery = cast(Any, nursery)
    employed = asyncio.create_task(workers._employ(place, Assignment.of("jobs", Settings(), "postgresql://")))
    async with asyncio.timeout(30):
        while place.channel is None:  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0)
        place.tell_to_stop()
        [theirs] = nursery.theirs
        assert (
            await asyncio.get_running_loop().run_in_executor(None, theirs.recv, 4, socket.MSG_PEEK)
            == STOP[:4]
        )
        theirs.close()
        await employed
    assert place.channel is None
