"""Load by wrk, with one thread: the other core is for the server."""

import re
from pathlib import Path
from tempfile import NamedTemporaryFile

from harness.client import HOST
from harness.measurement import BenchError, Measurement
from harness.processes import run
from harness.traffic import ID_DIGITS, Traffic, first_id

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_S = 30

_RESULT = re.compile(r"^nozle-bench (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)


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
    return Measurement(answers - refused, microseconds / 1e6, p50 / 1000, p99 / 1000, refused, p999 / 1000)
