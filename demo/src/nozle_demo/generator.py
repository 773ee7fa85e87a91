"""The built-in trace, for those who have none at hand: an hour of bursts, chat and code mixed.

It is made as text of the very form that a file has, so one parser reads both and the text's hash names its
journal. Everything is drawn as whole numbers from one seeded source: the same seed gives the same bytes on
every machine.
"""

import random
from datetime import UTC, datetime, timedelta

from nozle_demo.trace import Trace, parse_trace

NAME = "built-in traffic"
SEED = 20231116
REQUESTS = 3_000

_START = datetime(2025, 1, 15, 9, 0, tzinfo=UTC)
_BURSTS = 420
# Deciles of the sizes of requests, smallest to largest; a size is drawn between two neighbours.
_CHAT_INPUT = (40, 120, 300, 520, 800, 1_050, 1_400, 2_000, 2_900, 4_100, 9_000)
_CHAT_OUTPUT = (8, 40, 80, 110, 140, 180, 230, 290, 360, 440, 1_000)
_CODE_INPUT = (60, 700, 1_500, 2_400, 3_300, 4_300, 5_300, 6_300, 7_100, 7_400, 7_700)
_CODE_OUTPUT = (4, 7, 9, 11, 13, 16, 21, 28, 40, 70, 900)
_CODE_PERCENT = 55


def generate_trace(seed: int = SEED, requests: int = REQUESTS) -> Trace:
    """Make the trace of this seed."""
    return parse_trace(NAME, generate_text(seed, requests).encode())


def generate_text(seed: int, requests: int) -> str:
    """The trace as the text of a file, line ends included."""
    source = random.Random(seed)
    bursts = sorted(source.sample(range(3_600), _BURSTS))
    arrivals = sorted(
        source.choice(bursts) * 10_000_000 + source.randrange(10_000_000) for _ in range(requests)
    )
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for ticks in arrivals:
        seconds, fraction = divmod(ticks, 10_000_000)
        code = source.randrange(100) < _CODE_PERCENT
        input_tokens = _draw(source, _CODE_INPUT if code else _CHAT_INPUT)
        output_tokens = _draw(source, _CODE_OUTPUT if code else _CHAT_OUTPUT)
        instant = _START + timedelta(seconds=seconds)
        lines.append(f"{instant:%Y-%m-%d %H:%M:%S}.{fraction:07},{input_tokens},{output_tokens}")
    return "\r\n".join(lines) + "\r\n"


def _draw(source: random.Random, deciles: tuple[int, ...]) -> int:
    """A whole number between two neighbouring deciles."""
    step = source.randrange(len(deciles) - 1)
    return source.randint(deciles[step], deciles[step + 1])
