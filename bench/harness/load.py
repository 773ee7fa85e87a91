"""Load on a server, by the fastest generator there is: wrk, else our own client. One run uses one of them throughout,
so that product and yardstick are measured alike."""

import asyncio

from harness import client, tools, wrk
from harness.measurement import Measurement
from harness.traffic import Traffic

WARM_UP_S = 1


def generator() -> str:
    """What makes the load, for the report."""
    return "wrk" if tools.find("wrk") else "our own client, as wrk is not installed"


class Load:
    """Load on one port. Counts for the checks afterwards: what was answered well, warming up included, and at most how
    many requests were under way when a load ended, so that nobody saw their answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered = 0
        self.unseen = 0

    async def measure(self, traffic: Traffic, *, connections: int, seconds: int) -> Measurement:
        """Measure, after a warm-up."""
        await self._send(traffic, connections=connections, seconds=WARM_UP_S)
        return await self._send(traffic, connections=connections, seconds=seconds)

    async def turn(self, traffic: Traffic, *, connections: int) -> Measurement:
        """Measure for a second, what was warm before."""
        return await self._send(traffic, connections=connections, seconds=1)

    async def _send(self, traffic: Traffic, *, connections: int, seconds: int) -> Measurement:
        program = tools.find("wrk")
        if program is None:
            measured = await client.measure(self._port, traffic, connections=connections, seconds=seconds)
        else:
            measured = await wrk.measure(
                program, self._port, traffic, connections=connections, seconds=seconds
            )
        self.answered += measured.n
        self.unseen += connections
        # The server still works on those. What is measured next must not wait for them.
        await asyncio.sleep(measured.p99_ms / 1000 if measured.n else measured.seconds)
        return measured
