"""Child processes: they end with the block that began them, also when it is cancelled by Ctrl-C.

Each is the head of a session of its own, so that Ctrl-C in the terminal reaches only us, who then end them in order.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from harness.measurement import BenchError

GRACE_S = 20.0
LONGEST_RUN_S = 600.0


@asynccontextmanager
async def running(
    *command: str, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A process that runs beside the block; its standard output is a pipe, its errors go to `log`."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=errors, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        await _stop(process)


async def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; what it wrote. BenchError when it fails or takes very long."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, env=environment, start_new_session=True
    )
    try:
        async with asyncio.timeout(LONGEST_RUN_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{Path(command[0]).name} did not end within {LONGEST_RUN_S:.0f} s") from None
    finally:
        await _stop(process)
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise BenchError(f"{Path(command[0]).name} failed ({process.returncode}): {text.strip()}")
    return text


async def until_listening(process: Process, host: str, port: int, *, within_s: float = 20.0) -> None:
    """Wait until a process accepts connections."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise BenchError("a server of the bench did not start")


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
    with suppress(ProcessLookupError):  # what is left of its session, such as a database still being made
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
