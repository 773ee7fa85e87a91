"""SQL by pgbench: what PostgreSQL itself can do, without a server in front."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.measurement import BenchError, Measurement
from harness.processes import run

SCRIPTS = Path(__file__).parents[1] / "sql"

_RATE = re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: ([1-9]\d*)", re.MULTILINE)
_TIME = 2  # column of a line of its log: microseconds that a transaction took


async def measure(
    program: str,
    database_url: str,
    script: str,
    variables: Mapping[str, object],
    *,
    connections: int,
    seconds: int,
) -> Measurement:
    """Run a script of `bench/sql` as often as it goes, with prepared statements."""
    with tempfile.TemporaryDirectory(prefix="nozle-bench-") as folder:
        output = await run(
            *(program, "--no-vacuum", "--protocol", "prepared", "--file", str(SCRIPTS / script)),
            *("--client", str(connections), "--jobs", str(min(2, connections)), "--time", str(seconds)),
            *(argument for name, value in variables.items() for argument in ("--define", f"{name}={value}")),
            *("--log", "--log-prefix", f"{folder}/log", database_url),
        )
        latencies_s = _latencies_s(Path(folder))
    rate = _RATE.search(output)
    if rate is None or _FAILED.search(output):
        raise BenchError(f"pgbench said: {output}")
    return Measurement.of(latencies_s, len(latencies_s) / float(rate[1]))


def _latencies_s(folder: Path) -> list[float]:
    """How long each transaction took, from the logs of all threads."""
    lines = (line for log in folder.iterdir() for line in log.read_text().splitlines())
    return [int(line.split()[_TIME]) / 1e6 for line in lines]
