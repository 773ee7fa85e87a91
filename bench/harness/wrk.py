"""Load by wrk, with one thread: the other core is for the server."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from harness.client import HOST
from harness.measurement import BenchError, Measurement
from harness.processes import run
from harness.traffic import ID_DIGITS, Traffic, first_id

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_S = 30

_RESULT = re.compile(r"^nozle-bench (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
_TIMES = re.compile(r"^nozle-times (.*)$", re.MULTILINE)


async def measure(
    program: str, port: int, traffic: Traffic, *, connections: int, seconds: int
) -> Measurement:
    """Send requests drawn from `traffic` over `connections` for `seconds`."""
    with NamedTemporaryFile("w", prefix="nozle-bench-", suffix=".requests", newline="") as file:
        file.writelines(f"{request}\x1e" for request in traffic.requests)
        file.flush()
        output = await run(
            program,
            *("--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
            *("--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), f"http://{HOST}:{port}"),
            *("--", file.name, str(first_id()), str(ID_DIGITS)),
        )
    result = _RESULT.search(output)
    if result is None:
        raise BenchError(f"wrk said: {output}")
    answers, microseconds, refused, broken, p50, p99, p999 = map(int, result.groups())
    if broken:
        raise BenchError(f"wrk counted {broken} broken connections or timeouts")
    times = _TIMES.search(output)
    sent = None
    if times is not None and answers >= connections:
        sent = _sent_p99(times[1], answers, apart=microseconds // (answers // connections)) / 1000
    return Measurement(
        answers - refused, microseconds / 1e6, p50 / 1000, p99 / 1000, refused, p999 / 1000, sent
    )


def _sent_p99(told: str, answers: int, *, apart: int) -> int:
    sent = only_sent(dict(tuple(map(int, one.split(":"))) for one in told.split()), apart=apart)
    if sum(sent.values()) != answers:
        raise BenchError(f"wrk measured {sum(sent.values())} of {answers} requests")
    left = answers * 99 // 100
    for time in sorted(sent):
        left -= sent[time]
        if left < 0:
            return time
    raise AssertionError("the last of all lies behind the 99th percentile")


def only_sent(counted: Mapping[int, int], *, apart: int) -> dict[int, int]:
    """How often each time was measured. wrk adds, for each request that took longer than two that follow each other `apart`,
    those that it would have sent meanwhile (`stats_correct` of its stats.c, which goes from the shortest to the longest);
    here they are taken out again, from the longest on."""
    left = dict(counted)
    for time in sorted(left, reverse=True):
        if time < 2 * apart:
            break
        for added in range(time - apart, apart, -apart):
            left[added] -= left[time]
    if any(count < 0 for count in left.values()):
        raise BenchError("wrk adds other requests to those it sent than we take out")
    return {time: count for time, count in left.items() if count}
