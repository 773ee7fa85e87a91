"""Our own HTTP client: for setting up, for checks that need each answer, and for load where wrk is missing.

It speaks just enough HTTP/1.1 for servers of ours: keep-alive, and answers with a Content-Length.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.measurement import BenchError, Measurement
from harness.traffic import Traffic, drawing

HOST = "127.0.0.1"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status below 400 is a good one."""

    status: int
    body: bytes
    seconds: float


class _Connection(asyncio.Protocol):
    """Asks `following` for a request, sends it, hands the answer to `answered`, and so on until there is none."""

    def __init__(self, following: Callable[[], bytes | None], answered: Callable[[Answer], None]) -> None:
        self._following = following
        self._answered = answered
        self._received = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        length = _LENGTH.search(self._received, 0, head_end)
        if length is None:
            self._end(BenchError("an answer came without a Content-Length"))
            return
        start = head_end + len(_HEAD_END)
        body = self._received[start : start + int(length[1])]
        if len(body) < int(length[1]):
            return
        status = int(self._received[9:12])
        self._received = b""  # one request is under way at a time, so nothing follows
        self._answered(Answer(status, body, time.perf_counter() - self._sent_at))
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or BenchError("the server closed a connection"))

    def _send(self) -> None:
        request = self._following()
        if request is None:
            self._end(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _end(self, fault: Exception | None) -> None:
        if self.ended.done():
            return
        if fault is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(fault)
        self._transport.close()


async def measure(port: int, traffic: Traffic, *, connections: int, seconds: float) -> Measurement:
    """Send requests drawn from `traffic` over `connections` for `seconds`."""
    draw = drawing(traffic)
    latencies: list[float] = []
    refused = 0
    started = time.perf_counter()

    def following() -> bytes | None:
        return draw() if time.perf_counter() - started < seconds else None

    def answered(answer: Answer) -> None:
        nonlocal refused
        latencies.append(answer.seconds)
        refused += answer.status >= 400

    await _drive(port, following, answered, connections)
    return Measurement.of(latencies, time.perf_counter() - started, refused=refused)


async def send_each(port: int, requests: Sequence[str], *, connections: int) -> list[Answer]:
    """Send each request once, `connections` at a time; the answers as they came, in no certain order."""
    waiting = iter([request.encode() for request in requests])
    answers: list[Answer] = []
    await _drive(port, lambda: next(waiting, None), answers.append, min(connections, len(requests)))
    return answers


async def send_all_good(port: int, requests: Sequence[str], *, connections: int = 16) -> list[Answer]:
    """As `send_each`; BenchError when one is refused."""
    answers = await send_each(port, requests, connections=connections)
    for answer in answers:
        if answer.status >= 400:
            raise BenchError(f"the server answered {answer.status}: {answer.body[:500]!r}")
    return answers


async def _drive(
    port: int, following: Callable[[], bytes | None], answered: Callable[[Answer], None], connections: int
) -> None:
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Connection(following, answered), HOST, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in opened))
