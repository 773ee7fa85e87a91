"""Fan-out of one change to thousands of sockets, from the request that commits it to the last receipt, beside a server that
only writes the same bytes to as many connections; and what an idle socket costs."""

import asyncio
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from harness import client
from harness.bench import Bench, main
from harness.client import HOST
from harness.listeners import Listeners, web_sockets
from harness.measurement import Measurement
from harness.processes import running, until_listening
from harness.report import Figure, Reading, Yardstick
from harness.server import Organization, memory_mib
from harness.traffic import get, post
from harness.world import enrol, json_text

SOCKETS = (1_000, 10_000)
PUBLICATIONS_A_SECOND = 4
"""So many times the seconds of a figure, for each number of sockets."""
BOUND_KIB = 64
YARDSTICK = "raw TCP, same bytes"
CUSTOMER = "listened-to"
WARM = 50
"""Sockets that were there before memory is measured: they bring what is made once."""


async def measure(bench: Bench) -> None:
    """A feature is switched on and off for a customer; every socket listens to that customer's channel."""
    _allow_files(bench.server.pid)
    organization = await bench.server.open_organization("bench")
    await enrol(bench.server, organization, [CUSTOMER], plan="scale")
    toggle = await _prepare(bench, organization)
    asked = get(f"/api/v1/auth/centrifugo-token?customer_id={CUSTOMER}", organization.key)
    [answer] = await client.send_all_good(bench.server.port, [asked])
    token = json.loads(answer.body)["token"]
    channel = f"customer:{organization.id}:{CUSTOMER}"
    count = bench.seconds * PUBLICATIONS_A_SECOND
    async with _listening(bench, token, channel, WARM):
        before_mib = memory_mib(bench.server.pid)
    for sockets in SOCKETS[:1] if bench.seconds == 1 else SOCKETS:
        bench.report.begin(
            f"fan-out of one change to {sockets:,} sockets, receipts/s; times are to the last receipt"
        )
        started = time.perf_counter()
        async with _listening(bench, token, channel, sockets) as listeners:
            bench.report.say(
                f"opened after {time.perf_counter() - started:.1f} s: upgrade, connect, subscribe"
            )
            await asyncio.sleep(1)
            after_mib = memory_mib(bench.server.pid)
            measured, slowest = await _rounds(listeners, toggle, sockets, count)
            message = listeners.example
        # Only now: both at once would be more files than one process may have open.
        with tempfile.TemporaryDirectory(prefix="nozle-bench-") as folder:
            yardstick = await _yardstick(Path(folder), message, sockets, count)
        bench.report.add(
            Figure(f"fan_out_{sockets}", "receipts/s", sockets, measured, Yardstick(YARDSTICK, yardstick))
        )
        bench.report.say(f"slowest of {count:,} publications: {1000 * slowest:.1f} ms")
        each_kib = 1024 * (after_mib - before_mib) / sockets
        bench.report.add(
            Reading(f"idle_socket_memory_{sockets}", each_kib, "KiB", "bound", BOUND_KIB, sockets)
        )


@asynccontextmanager
async def _listening(bench: Bench, token: str, channel: str, sockets: int) -> AsyncIterator[Listeners]:
    listeners = web_sockets(bench.server.port, token, channel)
    try:
        await listeners.open(sockets)
        yield listeners
    finally:
        await listeners.close()


async def _rounds(
    listeners: Listeners, tell: Callable[[], Awaitable[None]], sockets: int, count: int
) -> tuple[Measurement, float]:
    """Publish `count` times, one after the other, each when all have heard of the one before; the slowest too."""
    taken = []
    for _ in range(count):
        heard = listeners.begin()
        started = time.perf_counter()
        await tell()
        taken.append(await heard.last(started))
        await asyncio.sleep(0.06)  # the server leaves as much between two looks at a customer
    times = Measurement.of(taken, sum(taken))
    return Measurement(sockets * count, sum(taken), times.p50_ms, times.p99_ms), max(taken)


async def _yardstick(folder: Path, message: bytes, sockets: int, count: int) -> Measurement:
    (folder / "message").write_bytes(message)
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
    program = str(Path(__file__).parent / "harness" / "broadcaster.py")
    command = (sys.executable, "-P", program, str(port), str(folder / "message"))
    async with running(*command, log=folder / "log") as process:
        _allow_files(process.pid)
        await until_listening(process, HOST, port)
        listeners = Listeners(port, b"", None)
        await listeners.open(sockets)
        reader, writer = await asyncio.open_connection(HOST, port)

        async def tell() -> None:
            writer.write(b"!")
            await reader.readexactly(1)

        try:
            return (await _rounds(listeners, tell, sockets, count))[0]
        finally:
            writer.close()
            await listeners.close()


async def _prepare(bench: Bench, organization: Organization) -> Callable[[], Awaitable[None]]:
    """A feature that the customer's subscription has or has not; each call changes that."""
    key = organization.key
    feature = post("/core/api/v1/features", key, json_text({"feature": {"code": "gate", "name": "Gate"}}))
    await client.send_all_good(bench.server.port, [feature])
    subscription = await bench.database.fetchval(
        "select external_id from subscriptions where org_id = $1", organization.id
    )
    path = f"/core/api/v1/subscriptions/{subscription}/entitlements"
    on = post(path, key, json_text({"entitlements": {"gate": {}}})).replace("POST", "PATCH", 1)
    off = get(f"{path}/gate", key).replace("GET", "DELETE", 1)
    state = {"on": False}

    async def toggle() -> None:
        await client.send_all_good(bench.server.port, [off if state["on"] else on])
        state["on"] = not state["on"]

    return toggle


def _allow_files(pid: int) -> None:
    """As many open files as there may be sockets: for the process, and for this one."""
    for one in (pid, 0):
        _, hard = resource.prlimit(one, resource.RLIMIT_NOFILE)
        resource.prlimit(one, resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main(measure, description=__doc__)
