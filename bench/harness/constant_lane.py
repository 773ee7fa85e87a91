"""The server itself, answering a constant, a yardstick: its parser, its lane, its edge, and nothing to decide.
`python constant_lane.py PORT FILE` answers `GET /api/v1/can` with the file's bytes, whatever is asked for."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nozle_server.api.answer import Answer, Validity
from nozle_server.api.cors import Cors
from nozle_server.api.edge import Edge
from nozle_server.api.incoming import Incoming
from nozle_server.api.lane import Lane
from nozle_server.api.metrics import Metrics
from nozle_server.api.recall import BYTES_A_CUSTOMER
from nozle_server.api.server import new_event_loop, serve
from nozle_server.core.clock import SystemClock
from nozle_server.core.standing import Standing
from nozle_server.infra.logging import configure_logging

CUSTOMERS = 100_000
"""As many as the server has room for unless it is told otherwise."""


class _Constant:
    """In the place of a pipeline."""

    def __init__(self, body: bytes) -> None:
        self._answer = Answer(200, body, validity=Validity((Standing(),), None))

    async def answer(self, incoming: Incoming, _parameters: Mapping[str, str]) -> Answer:
        incoming.route = "/api/v1/can"
        return self._answer


def application(body: bytes) -> Any:
    """What the server takes for an application: it has a lane, and is never called."""
    lane = Lane(Edge(Cors(("*",)), Metrics()), SystemClock(), remembered_bytes=CUSTOMERS * BYTES_A_CUSTOMER)
    lane.add("GET", "/api/v1/can", _Constant(body))  # type: ignore[arg-type]

    async def call(_scope: object, _receive: object, _send: object) -> None:
        raise AssertionError("all that is asked for goes by the lane")

    call.lane = lane  # type: ignore[attr-defined]
    return call


if __name__ == "__main__":
    configure_logging("warning")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(
            serve(application(Path(sys.argv[2]).read_bytes()), host="127.0.0.1", port=int(sys.argv[1]))
        )
