"""Small traces and runs for the tests."""

from pathlib import Path

from demo_fake_server import KEY, FakeServer

from nozle_demo.client import Api
from nozle_demo.demonstration import demonstrate
from nozle_demo.progress import Silence
from nozle_demo.report import Report
from nozle_demo.state import StateDirectory
from nozle_demo.trace import Trace, parse_trace


def a_trace_text(rows: int = 160, *, tokens: int = 110_000) -> str:
    """Rows of about `tokens`, four a second: few enough for a test, large enough to meet limits and tiers."""
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for row in range(rows):
        second, quarter = divmod(row, 4)
        lines.append(
            f"2024-03-05 10:{second // 60:02}:{second % 60:02}.{quarter * 2}345678,{tokens + row},{100 + row}"
        )
    return "\r\n".join(lines)


def a_trace(rows: int = 160, *, tokens: int = 110_000) -> Trace:
    return parse_trace("small", a_trace_text(rows, tokens=tokens).encode())


async def play(fake: FakeServer, trace: Trace, directory: Path) -> Report:
    """One run of the demonstration, without second attempts at a call."""
    state = StateDirectory(directory)
    try:
        async with Api(fake.url, KEY, pauses_s=()) as api:
            return await demonstrate(api, trace, state, Silence())
    finally:
        state.close()


def false_ones(report: Report) -> set[str]:
    return {identity.number for identity in report.identities if not identity.holds}
